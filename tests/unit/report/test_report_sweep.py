from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.metrics.sweep import Point
from pytest_llmperf.metrics.sweep_words import Outcome
from pytest_llmperf.records import MetricValue, Slo
from pytest_llmperf.report import document as doc
from pytest_llmperf.report import terminal
from pytest_llmperf.report.schema import schema_errors
from pytest_llmperf.report.validate import dangling

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

TTFT = Slo(metric="ttft", limit_ms=1500.0)
LOST = MetricValue(value=None, unbounded=True, failed=3)
POINTS = (
    Point(load=1, throughput=100.0, per_user=99.5, attainment=1.0, within=True),
    Point(load=8, throughput=None, per_user=None, attainment=None, within=None, reason="busy"),
    Point(
        load=12,
        throughput=1234.5,
        per_user=60.0,
        attainment=0.9975,
        within=True,
        worst={"ttft_p99": MetricValue(value=1499.5)},
    ),
    Point(
        load=16,
        throughput=1300.0,
        per_user=40.0,
        attainment=0.5,
        within=False,
        worst={"ttft_p99": LOST},
        reason="p99 TTFT is unbounded",
    ),
)


def entry(test: str, measurement: str, *objectives: Slo) -> dict[str, Any]:
    outcome = Outcome(
        over="concurrency",
        objectives=objectives or (TTFT,),
        throughput_metric="steady_output_throughput",
        points=POINTS,
        highest=12,
        knee=12,
        best=12,
        reason="Concurrency 12 is the highest within the objectives. " * 3,
    )
    ids = {point.load: measurement for point in POINTS}
    return doc.sweep_entry(id="s", test=test, outcome=outcome, measurements=ids)


def with_sweep(samples: Samples, *objectives: Slo) -> dict[str, Any]:
    fragment = samples.fragment()
    measurement = fragment["measurements"][0]["id"]
    fragment["sweeps"] = [entry(samples.node, measurement, *objectives)]
    return samples.assemble(fragment)


def test_a_sweep_fits_the_schema_and_arrives_whole(samples: Samples) -> None:
    document = with_sweep(samples)
    assert schema_errors(document) == []
    assert list(dangling(document)) == []
    (sweep,) = document["sweeps"]
    assert [point["within"] for point in sweep["points"]] == [True, None, True, False]
    assert sweep["points"][3]["worst"] == {
        "ttft_p99": {"value": None, "unbounded": True, "failed": 3}
    }


def test_a_sweep_that_arrives_twice_is_told_once(samples: Samples) -> None:
    fragment = {"sweeps": [entry("t", "m")]}
    assert len(samples.assemble(fragment, fragment)["sweeps"]) == 1


def test_a_point_without_its_measurement_is_found(samples: Samples) -> None:
    document = with_sweep(samples)
    document["sweeps"][0]["points"][1]["measurement"] = "gone"
    assert list(dangling(document)) == [
        "$.sweeps[0].points[1].measurement: no measurement 'gone' in the report"
    ]


def test_the_table_marks_the_highest_and_the_knee(samples: Samples) -> None:
    lines = terminal.sweep_lines(with_sweep(samples)["sweeps"][0])
    row = {line.split()[0]: line for line in lines}
    assert lines[0] == (
        "test_chat: sweep over concurrency (requests in flight), steady output throughput"
    )
    assert row["12"].endswith("yes <- highest, knee")
    assert "1,234 tok/s" not in row["12"]
    assert "1,234" in row["12"] or "1,235" in row["12"]
    assert row["8"].endswith("undecided")
    assert "unbounded" in row["16"]
    assert row["16"].endswith("no")


@pytest.mark.parametrize("count", range(1, 8))
def test_any_number_of_objectives_fits_eighty_columns(samples: Samples, count: int) -> None:
    metrics = ("ttft", "tpot", "e2e", "ttfat", "ttft_from_schedule", "ttfat_from_schedule")
    chosen = [Slo(metric=metric, limit_ms=123456.7) for metric in (*metrics, "e2e_from_schedule")]
    document = with_sweep(samples, *chosen[:count])
    lines = terminal.summary_lines(document)
    assert max(map(len, lines)) <= 80, "\n".join(lines)
    limits = " ".join(lines)
    assert all(f"p99 {slo.metric.split('_')[0].upper()}" in limits for slo in chosen[:count])


def test_points_are_left_out_of_the_table_of_measurements(samples: Samples) -> None:
    assert terminal.measurement_table(samples.assemble(samples.fragment()))
    assert terminal.measurement_table(with_sweep(samples)) == []


def test_simulated_points_are_labelled(samples: Samples) -> None:
    document = with_sweep(samples)
    assert "  SIMULATED" not in terminal.summary_lines(document)
    document["measurements"][0]["simulated"] = True
    assert "  SIMULATED" in terminal.summary_lines(document)
