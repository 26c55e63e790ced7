"""The documented definitions are those of the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_llmperf.metrics.table import METRICS, Metric

DOCS = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()


def row(metric: Metric) -> str:
    """A metric's line of the documented table."""
    name = f"`{metric.name}` (per request)" if metric.per_request else f"`{metric.name}`"
    cells = (name, metric.unit, metric.direction, metric.definition, metric.failures)
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS.keys())
def test_every_metric_is_documented_as_it_is_defined(metric: Metric) -> None:
    assert row(metric) in DOCS.splitlines()


def test_no_other_metric_is_documented() -> None:
    table = DOCS.split("## Definitions")[1].split("\n\n")[1].splitlines()[2:]
    assert table == [row(metric) for metric in METRICS.values()]
