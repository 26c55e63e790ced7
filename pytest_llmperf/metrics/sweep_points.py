"""The runs made at each load, read as the points of a sweep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from pytest_llmperf.records import MetricValue, Run, Slo

from .sweep import Point
from .units import format_value, resolve, spoken

_NOT_MEASURED = MetricValue(value=None)


def read_points(
    measured: Mapping[float, Sequence[Run]], slos: Sequence[Slo]
) -> tuple[str, tuple[Point, ...]]:
    """The throughput metric that all points have, and the points by ascending load.

    It is ``steady_output_throughput``, which filling and draining do not touch, where every load
    with a valid run has it, else ``output_throughput``.
    """
    valid = {load: [run for run in runs if run.valid] for load, runs in measured.items()}
    steady = [_mean(runs, "steady_output_throughput") for runs in valid.values() if runs]
    metric = "output_throughput" if None in steady or not steady else "steady_output_throughput"
    return metric, tuple(_point(load, measured[load], metric, slos) for load in sorted(measured))


def _point(load: float, runs: Sequence[Run], metric: str, slos: Sequence[Slo]) -> Point:
    valid = [run for run in runs if run.valid]
    worst = {percentile(slo): _worst(valid, slo) for slo in slos} if valid else {}
    within, reason = _judge(runs, slos, worst)
    return Point(
        load=load,
        throughput=_mean(valid, metric),
        per_user=_mean(valid, "throughput_per_user"),
        attainment=_mean(valid, "goodput_share"),
        within=within,
        worst=worst,
        reason=reason,
    )


def percentile(slo: Slo) -> str:
    """The name of what an objective is judged by: ``ttft_p99``."""
    return f"{slo.metric}_p99"


def requests_needed(slos: Sequence[Slo]) -> int:
    """Requests per run for ten of them to lie beyond the percentile that is judged."""
    return max((resolve(percentile(slo)).requests_needed for slo in slos), default=1)


def _worst(valid: Sequence[Run], slo: Slo) -> MetricValue:
    """The value that decides: one beyond the limit weighs more than one that is missing."""
    values = [run.metrics.get(percentile(slo), _NOT_MEASURED) for run in valid]
    if lost := [value for value in values if value.unbounded]:
        return max(lost, key=lambda value: value.failed)
    known = [value.value for value in values if value.value is not None]
    highest = max(known, default=None)
    if highest is None or (len(known) < len(values) and highest <= slo.limit_ms):
        return _NOT_MEASURED
    return MetricValue(value=highest)


def _judge(
    runs: Sequence[Run], slos: Sequence[Slo], worst: Mapping[str, MetricValue]
) -> tuple[bool | None, str]:
    if not any(run.valid for run in runs):
        why = dict.fromkeys(reason for run in runs for reason in run.invalid_reasons)
        return None, f"no valid run: {'; '.join(why) or 'none was made'}"
    outside = [slo for slo in slos if _is_outside(worst[percentile(slo)], slo)]
    if outside:
        return False, ", ".join(_beyond(slo, worst[percentile(slo)]) for slo in outside)
    if unknown := [slo for slo in slos if worst[percentile(slo)] == _NOT_MEASURED]:
        return None, ", ".join(_missing(slo) for slo in unknown)
    return (True if slos else None), ""


def _is_outside(value: MetricValue, slo: Slo) -> bool:
    return value.unbounded or (value.value is not None and value.value > slo.limit_ms)


def _beyond(slo: Slo, worst: MetricValue) -> str:
    said, limit = spoken(percentile(slo)), format_value(slo.limit_ms, "ms")
    if worst.unbounded:
        return f"{said} is unbounded, {worst.failed:,} of the requests failed (limit {limit})"
    return f"{said} is {format_value(worst.value, 'ms')}, above {limit}"


def _missing(slo: Slo) -> str:
    return f"{spoken(percentile(slo))} was not measured"


def _mean(runs: Sequence[Run], name: str) -> float | None:
    values = [run.metrics.get(name, _NOT_MEASURED).value for run in runs]
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None
