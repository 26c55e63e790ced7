"""Our own load client, asked as the plugin asks it: a handle, its process, and our metrics."""

from __future__ import annotations

import dataclasses
from importlib.metadata import version

from pytest_llmperf.load.child import Processes
from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.metrics.summary import reduce_pass
from pytest_llmperf.records import Api, Pass, Run, Workload

from .base import Load, Seen
from .child import main, run_module


class Ours:
    """This project's client. Prompts of exact length are learnt first, outside the window."""

    def __init__(self, api: Api = "chat") -> None:
        self.name = "ours" if api == "chat" else f"ours_{api}"
        self._api = api

    def run(self, load: Load) -> Seen:
        return run_module("benchmarks.clients.ours", load, self._api)


def workload(load: Load, api: Api) -> Workload:
    """``load`` in our words."""
    closed = Workload(
        name="benchmark",
        input_tokens=load.input_tokens,
        output_tokens=load.output_tokens,
        concurrency=load.concurrency,
        requests=load.requests,
        warmup_requests=0,
        runs=1,
        seed=load.seed,
        api=api,
        request_timeout_s=load.timeout_s,
    )
    if load.rate is None:
        return closed
    return dataclasses.replace(closed, arrivals="poisson", rate=load.rate)


def _carry_out(load: Load, options: list[str]) -> Seen:
    api: Api = "completions" if "completions" in options else "chat"
    asked = workload(load, api)
    target = Target(url=load.url, model=load.model, api_fields={"ignore_eos": True})
    with LoadClient(target, crew=Processes((load.core,))) as client:
        client.prepare(asked)
        result = client.measure(asked, load.seed)
    good = tuple(record for record in result.records if record.ok)
    reduced = _reduce(dataclasses.replace(result, records=good) if good else result, asked)
    return _seen(result, reduced)


def _reduce(result: Pass, asked: Workload) -> Run:
    return reduce_pass(result, workload=asked, launch_id="1", index=0, devices=1)


def _seen(result: Pass, of_good: Run) -> Seen:
    """Latencies are of the good requests, as every other client gives them; in a gate a failed
    request makes them unbounded instead."""
    records = result.records
    metrics = {name: metric.value for name, metric in of_good.metrics.items()}
    causes = sorted({record.failure for record in records if record.failure})
    health = result.client
    return Seen(
        client="ours",
        version=version("pytest-llmperf"),
        succeeded=sum(record.ok for record in records),
        failed=sum(not record.ok for record in records),
        output_tokens=sum(record.output_tokens or 0 for record in records if record.ok),
        duration_s=of_good.duration_s,
        throughput=metrics.get("output_throughput"),
        ttft_mean=metrics.get("ttft_mean"),
        ttft_p99=metrics.get("ttft_p99"),
        tpot_mean=metrics.get("tpot_mean"),
        itl_mean=metrics.get("itl_mean"),
        itl_p99=metrics.get("itl_p99"),
        e2e_mean=metrics.get("e2e_mean"),
        e2e_p99=metrics.get("e2e_p99"),
        request_rate=health.achieved_rate,
        offered_rate=health.offered_rate,
        send_delay_p99=health.send_delay_ms_p99,
        window_cpu_s=health.cpu_s,
        note="; ".join(_notes(result, causes)),
    )


def _notes(result: Pass, causes: list[str]) -> list[str]:
    health = result.client
    notes = [f"worker's peak RSS {health.peak_rss_bytes / 2**20:.0f} MiB"]
    if causes:
        notes.append(f"failures: {', '.join(causes)}")
    return notes


if __name__ == "__main__":
    main(_carry_out)
