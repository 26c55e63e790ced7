"""DOC"""

from __future__ import annotations

import json
from pathlib import Path

from . import environments
from .base import Load, Seen
from .peers import ask, count, number, parse, with_costs, written


class InferencePerf:
    """The Kubernetes project's client, with one worker process."""

    name = "inference_perf"

    def run(self, load: Load) -> Seen:
        output = load.scratch / "inference_perf"
        asked = load.scratch / "inference_perf.yaml"
        asked.write_text(json.dumps(configuration(load, output)))  # JSON is YAML too
        command = environments.program("inference_perf", "inference-perf")
        finished = ask(self.name, [command, "-c", asked], load)
        text = written(self.name, output / "summary_lifecycle_metrics.json", finished)
        return with_costs(read(environments.version("inference_perf"), text), finished)


def configuration(load: Load, output: Path) -> dict[str, object]:
    """Its configuration for ``load``, with its files below ``output``.

    Its plain text prompts go to the completions endpoint only; the empty ``multimodal`` has the
    same prompts sent as chat messages. An open loop lasts whole seconds, so that the number of
    requests is only about the one asked for.
    """
    stage: dict[str, object] = {
        "num_requests": load.requests,
        "concurrency_level": load.concurrency,
    }
    if load.rate is not None:
        stage = {"rate": load.rate, "duration": max(1, round(load.requests / load.rate))}
    return {
        "api": {"type": "chat", "streaming": True},
        "server": {
            "type": "vllm",
            "model_name": load.model,
            "base_url": load.url,
            "ignore_eos": True,
        },
        "tokenizer": {"pretrained_model_name_or_path": str(load.model_dir)},
        "data": {"type": "shared_prefix", "shared_prefix": _prompts(load), "multimodal": {}},
        "load": {
            "type": "concurrent" if load.rate is None else "poisson",
            "stages": [stage],
            "num_workers": 1,
            "worker_max_concurrency": load.concurrency,
            "request_timeout": load.timeout_s,
            "base_seed": load.seed,
        },
        "report": {
            "request_lifecycle": {
                "summary": True,
                "per_stage": False,
                "per_request": False,
                "use_server_output_tokens": True,
                "percentiles": [50, 99],
            }
        },
        "storage": {"local_storage": {"path": str(output)}},
    }


def _prompts(load: Load) -> dict[str, int]:
    """As many prompts as requests, no two with a common beginning."""
    return {
        "num_groups": 1,
        "num_prompts_per_group": load.requests,
        "system_prompt_len": 0,
        "question_len": load.input_tokens,
        "output_len": load.output_tokens,
        "seed": load.seed,
    }


def read(version: str, text: str) -> Seen:
    """What its summary says."""
    document = parse(text)
    good = document["successes"]

    def latency(metric: str, statistic: str) -> float | None:
        return number(good, "latency", metric, statistic, scale=1e3)

    return Seen(
        client="inference_perf",
        version=version,
        succeeded=count(good, "count"),
        failed=count(document, "failures", "count"),
        output_tokens=round(number(good, "output_tokens", "total") or 0),
        duration_s=number(document, "benchmark_time_seconds"),
        throughput=number(good, "throughput", "output_tokens_per_sec"),
        ttft_mean=latency("time_to_first_token", "mean"),
        ttft_p99=latency("time_to_first_token", "p99"),
        tpot_mean=latency("time_per_output_token", "mean"),
        itl_mean=latency("inter_token_latency", "mean"),
        itl_p99=latency("inter_token_latency", "p99"),
        e2e_mean=latency("request_latency", "mean"),
        e2e_p99=latency("request_latency", "p99"),
        request_rate=number(good, "throughput", "requests_per_sec"),
        send_delay_p99=number(document, "load_summary", "schedule_delay", "p99", scale=1e3),
    )
