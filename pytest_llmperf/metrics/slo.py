"""Objectives for single requests, by name or as limits; goodput counts the requests that meet all.

The presets are the latency limits of MLPerf Inference's DeepSeek-R1 benchmark, as its load
generator's configuration states them (``loadgen/mlperf.conf`` of github.com/mlcommons/inference:
``deepseek-r1.Server`` and ``deepseek-r1-interactive.Server``, ``ttft_latency`` and
``tpot_latency``; the interactive scenario came with v6.0). MLPerf asks that the 99th percentile of
a run stays within each, which is a ceiling (``llm_ceiling(ttft_p99="2 s", tpot_p99="80 ms")``);
goodput asks it of every request on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.records import Slo

from .units import METRICS, Statistic, parse_quantity

#: Metrics that are one number for each request; of gaps between chunks a request has many.
_OF_REQUESTS = tuple(
    name
    for name, metric in METRICS.items()
    if metric.per_request and metric.source == "requests" and name not in ("itl", "icl")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SloPreset:
    """Objectives known by a name, and the quantile of requests that whoever set them asks it of."""

    objectives: tuple[Slo, ...]
    quantile: float


def _mlperf(ttft_ms: float, tpot_ms: float) -> SloPreset:
    return SloPreset(
        objectives=(Slo(metric="ttft", limit_ms=ttft_ms), Slo(metric="tpot", limit_ms=tpot_ms)),
        quantile=0.99,
    )


SLOS: Mapping[str, SloPreset] = {
    "mlperf-r1-server": _mlperf(2000.0, 80.0),
    "mlperf-r1-interactive": _mlperf(1500.0, 15.0),
}


def read_slos(value: object, source: str) -> tuple[Slo, ...]:
    """The objectives that ``value`` stands for: a preset's name, ready ones, or a mapping of
    metrics to limits such as ``{"ttft": "2 s", "tpot": "80 ms"}``.

    ``source`` says where it was written, for the messages of
    :class:`~pytest_llmperf.errors.UsageMistake`.
    """
    if isinstance(value, str):
        if value not in SLOS:
            raise UsageMistake(f"{source}: unknown slo {value!r}.{nearest(value, SLOS)}")
        return SLOS[value].objectives
    if isinstance(value, tuple) and all(isinstance(each, Slo) for each in value):
        return value
    if not isinstance(value, Mapping):
        raise UsageMistake(
            f"{source}: slo={value!r}: expected the name of a preset ({', '.join(sorted(SLOS))}) "
            'or limits such as {"ttft": "2 s", "tpot": "80 ms"}.'
        )
    return tuple(_slo(name, limit, source) for name, limit in value.items())


def _slo(name: object, limit: object, source: str) -> Slo:
    if not isinstance(name, str) or name not in _OF_REQUESTS:
        hint = nearest(str(name), _OF_REQUESTS)
        raise UsageMistake(f"{source}: slo: {name!r} is no latency of a single request.{hint}")
    if not isinstance(limit, str):
        raise UsageMistake(
            f'{source}: slo: {name}={limit!r}: a unit is missing; write "{limit} ms".'
        )
    try:
        limit_ms = parse_quantity(limit, Statistic(name=name, metric=METRICS[name]))
    except UsageMistake as mistake:
        raise UsageMistake(f"{source}: slo: {mistake}") from None
    return Slo(metric=name, limit_ms=limit_ms)
