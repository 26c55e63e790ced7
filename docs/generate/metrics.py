"""Every metric that a gate may name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from pytest_llmperf.metrics.table import METRICS, Metric
from pytest_llmperf.metrics.units import STANDARD_STATISTICS

from .page import Page, described, sentence, told

_SOURCES = {
    "requests": "From the requests",
    "server": "From the server's counters",
    "launch": "From the launch",
    "devices": "From the devices",
}


def page() -> Page:
    return Page(
        name="reference/metrics",
        title="Metrics",
        about="name, unit, better direction and definition of each",
        body="\n".join(_parts()),
    )


def _parts() -> Iterator[str]:
    statistics = ", ".join(f"`_{each}`" for each in STANDARD_STATISTICS)
    yield (
        "The markers, reports and options use these names. One that is measured once for each "
        f"request is gated with a statistic after its name: {statistics}, or any other percentile, "
        "`_p999` being the 99.9th. How they are measured is told in [metrics](../metrics.md).\n"
    )
    ordered = sorted(METRICS.values(), key=lambda metric: list(_SOURCES).index(metric.source))
    for source, rows in groupby(ordered, key=lambda metric: metric.source):
        yield f"## {_SOURCES[source]}\n"
        yield from map(_described, rows)


def _described(metric: Metric) -> str:
    unit = "a fraction" if metric.unit == "1" else metric.unit
    signature = f"{metric.name} : {unit}, {metric.direction} is better"
    once = "One for each request. " if metric.per_request else ""
    failed = f"{once}Failed requests: {told(metric.failures)}."
    return described("metric", signature, _code_kept(metric.definition), failed)


def _code_kept(text: str) -> str:
    """Escaped outside of backticks."""
    parts = text.split("`")
    parts[::2] = map(told, parts[::2])
    return sentence("`".join(parts))
