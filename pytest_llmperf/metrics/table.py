"""The one table of metrics: name, unit, direction, meaning."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pytest_llmperf.records import Direction


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of the table.

    ``definition`` says what is measured, ``failures`` what a failed request does to it, and
    ``source`` who knows: the requests of a pass, the launch, the server's own counters, or the
    devices that it runs on.
    ``per_request`` metrics need a statistic to become a number of a run. ``counted`` metrics are
    counts rather than timings: they carry no launch noise, so no guard band is laid around them.
    """

    name: str
    unit: str
    direction: Direction
    definition: str
    failures: str
    source: Literal["requests", "launch", "server", "devices"] = "requests"
    per_request: bool = False
    counted: bool = False


def _latency(name: str, definition: str, *, failures: str = "infinitely late") -> Metric:
    return Metric(
        name=name,
        unit="ms",
        direction="lower",
        definition=definition,
        failures=failures,
        per_request=True,
    )


def _due(base: str, *, failures: str = "infinitely late") -> Metric:
    return _latency(
        f"{base}_from_schedule",
        f"the same as {base}, but from when the request was due: by the schedule of an open loop, "
        "after the think time of a conversation, else when it was written; not measured where no "
        "request was due at a time",
        failures=failures,
    )


def _rate(
    name: str, unit: str, definition: str, *, failures: str = "add nothing, but stretch the span"
) -> Metric:
    return Metric(
        name=name, unit=unit, direction="higher", definition=definition, failures=failures
    )


def _of_launch(name: str, unit: str, definition: str) -> Metric:
    return Metric(
        name=name,
        unit=unit,
        direction="lower",
        definition=definition,
        failures="not measured: the launch failed",
        source="launch",
    )


def _of_server(name: str, unit: str, definition: str) -> Metric:
    return Metric(
        name=name,
        unit=unit,
        direction="higher",
        definition=definition,
        failures="count as far as the server worked on them",
        source="server",
    )


def _of_devices(
    name: str,
    unit: str,
    direction: Direction,
    definition: str,
    failures: str = "bring no tokens, but what was drawn for them counts",
) -> Metric:
    return Metric(
        name=name,
        unit=unit,
        direction=direction,
        definition=definition,
        failures=failures,
        source="devices",
    )


_LATE_GAPS = "infinitely late, each with the weight of an average successful one"

METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        _latency("ttft", "request written to first chunk with an output token of any kind"),
        _latency(
            "ttfat",
            "request written to first chunk with an answer token",
            failures="infinitely late, and so are those that never answer, if others do",
        ),
        _latency(
            "tpot",
            "(last token - first token) / (output tokens - 1); not measured where a request "
            "makes a single token",
        ),
        _latency(
            "itl",
            "gap between chunks divided by the tokens the later one carried, and counted once for "
            "each; not measured where the server does not tell how many",
            failures=_LATE_GAPS,
        ),
        _latency("icl", "gap between chunks that carried tokens", failures=_LATE_GAPS),
        _latency("e2e", "request written to last token; to the last byte where it is not streamed"),
        _due("ttft"),
        _due("ttfat", failures="infinitely late, and so are those that never answer, if others do"),
        _due("e2e"),
        _rate(
            "output_throughput",
            "tok/s",
            "output tokens of successful requests / (first request written to last token)",
        ),
        _rate(
            "total_throughput",
            "tok/s",
            "prompt and output tokens of successful requests / the same span",
        ),
        _rate(
            "steady_output_throughput",
            "tok/s",
            "output tokens of successful requests that came while the load was whole / that time: "
            "from when the first `concurrency` sessions have written (closed loop) or a tenth of "
            "the schedule has passed (open loop) until the last request is written; with `turns`, "
            "until the last session has begun",
            failures="add nothing",
        ),
        _rate(
            "throughput_retention",
            "1",
            "output tokens of successful requests in the last third of the same time / those in "
            "its first third; not measured where that time is shorter than four mean latencies",
            failures="add nothing",
        ),
        _rate(
            "throughput_per_user",
            "tok/s",
            "mean over requests of 1000 / tpot",
            failures="count as zero",
        ),
        _rate("throughput_per_accelerator", "tok/s", "output_throughput / devices used"),
        _rate("request_throughput", "req/s", "successful requests / the same span"),
        _rate(
            "goodput",
            "req/s",
            "successful requests that meet every objective of the workload's slo / the same span; "
            "a request without the objective's metric does not meet it",
        ),
        _rate(
            "goodput_share",
            "1",
            "successful requests that meet every objective of the workload's slo / all sent",
            failures="count as not good",
        ),
        Metric(
            name="success_rate",
            unit="1",
            direction="higher",
            definition="strictly successful requests / all sent",
            failures="lower it",
            counted=True,
        ),
        _of_server(
            "accept_length",
            "tok",
            "output tokens per step of speculative decoding: 1 + accepted drafts / drafting steps",
        ),
        _of_server("cache_hit_rate", "1", "prompt tokens taken from the prefix cache / all"),
        _of_launch("startup_time", "s", "server process started to its readiness probe answering"),
        _of_launch(
            "cold_ttft",
            "ms",
            "the first request after the readiness probe, written to answered: a prompt about as "
            "long as the first workload's, one output token, not streamed",
        ),
        _of_devices(
            "joules_per_output_token",
            "J/tok",
            "lower",
            "what the devices drew from the first request written to the last token / output "
            "tokens of successful requests",
        ),
        _of_devices(
            "tokens_per_joule",
            "tok/J",
            "higher",
            "the inverse: output tokens per second and watt",
        ),
        _of_devices(
            "cost_per_million_output_tokens",
            "$",
            "lower",
            "price of all devices per hour / (output_throughput × 3600) × 1,000,000, by the price "
            "file of --llmperf-prices",
            "bring no tokens, but the time they take is paid for",
        ),
        _of_devices(
            "peak_memory",
            "GiB",
            "lower",
            "the most memory in use on all devices together in any sample of the run; of a server "
            "on the processor, the largest resident sets of its processes since they began, added "
            "up",
            "count as far as the server worked on them",
        ),
    )
}
