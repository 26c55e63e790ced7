"""GuideLLM: the JSON file of ``--output``, a load for each of its benchmarks.

Source: GuideLLM 0.8.1, ``guidellm/benchmark/schemas/benchmark.py``, ``guidellm/scheduler/
strategies.py`` and ``guidellm/schemas/base/request_stats.py``. Its ``inter_token_latency_ms`` is
our ``tpot``, but weighted by tokens: its mean is taken over, its percentiles are not. Its
``request_latency`` is in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .found import FAILED_LEFT_OUT, Found, count, figures, number, text

TOOL = "GuideLLM"
#: Its metric: ours, and how many milliseconds one of its unit is.
_LATENCIES = {
    "time_to_first_token_ms": ("ttft", 1.0),
    "time_to_first_output_token_ms": ("ttfat", 1.0),
    "request_latency": ("e2e", 1000.0),
}
_RATES = {
    "output_tokens_per_second": "output_throughput",
    "tokens_per_second": "total_throughput",
    "requests_per_second": "request_throughput",
}
_ARRIVALS = {"concurrent": "closed", "constant": "constant", "poisson": "poisson"}
_NOTES = (
    "Its times are of the wall clock, and its requests end with the response, not the last token.",
    "Its mean TPOT weighs requests by their tokens: the same as ours where all answers are equally "
    "long.",
)


def matches(data: Mapping[str, Any]) -> bool:
    benchmarks = data.get("benchmarks")
    if not isinstance(benchmarks, list) or not benchmarks:
        return False
    return isinstance(benchmarks[0], Mapping) and "metrics" in benchmarks[0]


def read(data: Mapping[str, Any]) -> list[Found]:
    """Raises KeyError for a file without benchmarks."""
    version = text(data, "metadata", "guidellm_version")
    return [_one(benchmark, version) for benchmark in data["benchmarks"]]


def _one(benchmark: Mapping[str, Any], version: str | None) -> Found:
    metrics = benchmark["metrics"]
    succeeded = count(metrics, "request_totals", "successful") or 0
    total = count(metrics, "request_totals", "total")
    failed = None if total is None else total - succeeded
    strategy = benchmark.get("config", {}).get("strategy", {})
    kind = text(strategy, "type_") or ""
    concurrency = 1 if kind == "synchronous" else count(strategy, "streams")
    started = number(benchmark, "start_time")
    return Found(
        tool=TOOL,
        version=version,
        duration_s=float(benchmark["duration"]),
        succeeded=succeeded,
        failed=failed,
        metrics=_figures(metrics, succeeded, failed, total) if succeeded else {},
        concurrency=concurrency or count(strategy, "max_concurrency"),
        rate=number(strategy, "rate"),
        arrivals="closed" if kind == "synchronous" else _ARRIVALS.get(kind),
        input_mean=number(metrics, "prompt_token_count", "successful", "mean"),
        output_mean=number(metrics, "output_token_count", "successful", "mean"),
        started_at=None if started is None else datetime.fromtimestamp(started, UTC).isoformat(),
        notes=(*_NOTES, FAILED_LEFT_OUT) if failed else _NOTES,
    )


def _figures(
    metrics: Mapping[str, Any], succeeded: int, failed: int | None, total: int | None
) -> dict[str, float]:
    found = {ours: number(metrics, name, "successful", "mean") for name, ours in _RATES.items()}
    found["success_rate"] = succeeded / total if total else None
    if not failed:
        found["tpot_mean"] = number(metrics, "inter_token_latency_ms", "successful", "mean")
        for name, (ours, scale) in _LATENCIES.items():
            found |= _latency(metrics, name, ours, scale)
    return figures(found)


def _latency(
    metrics: Mapping[str, Any], name: str, ours: str, scale: float
) -> dict[str, float | None]:
    told = metrics.get(name)
    entry = told.get("successful") if isinstance(told, Mapping) else None
    if not isinstance(entry, Mapping):
        return {}
    values = {"mean": number(entry, "mean")}
    percentiles = entry.get("percentiles")
    if isinstance(percentiles, Mapping):
        # Its "p01" is the first percentile and "p001" a tenth of one; ours begin at p1.
        words = [word for word in percentiles if not word.startswith("p0")]
        values |= {word: number(percentiles, word) for word in words}
    return {f"{ours}_{w}": None if v is None else v * scale for w, v in values.items()}
