"""Objectives: presets, limits with units, and what is no latency of a single request."""

from __future__ import annotations

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics import slo, summary
from pytest_llmperf.metrics.slo import SLOS, read_slos
from pytest_llmperf.records import Slo


@pytest.mark.parametrize(
    ("name", "ttft", "tpot"),
    [("mlperf-r1-server", 2000.0, 80.0), ("mlperf-r1-interactive", 1500.0, 15.0)],
)
def test_presets_have_the_limits_they_are_known_by(name: str, ttft: float, tpot: float) -> None:
    limits = {objective.metric: objective.limit_ms for objective in read_slos(name, "x")}
    assert limits == {"ttft": ttft, "tpot": tpot}
    assert SLOS[name].quantile == 0.99


def test_limits_are_read_with_their_units() -> None:
    assert read_slos({"ttft": "2 s", "tpot": "80 ms", "e2e_from_schedule": "1 min"}, "x") == (
        Slo(metric="ttft", limit_ms=2000.0),
        Slo(metric="tpot", limit_ms=80.0),
        Slo(metric="e2e_from_schedule", limit_ms=60_000.0),
    )


def test_ready_objectives_are_taken_as_they_are() -> None:
    ready = (Slo(metric="ttft", limit_ms=1.0),)
    assert read_slos(ready, "x") is ready


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("mlperf-r1-sever", "x: unknown slo 'mlperf-r1-sever'. Did you mean 'mlperf-r1-server'?"),
        ({"ttff": "2 s"}, "x: slo: 'ttff' is no latency of a single request. Did you mean 'ttft'?"),
        ({"ttft_p99": "2 s"}, "'ttft_p99' is no latency of a single request"),
        ({"itl": "2 ms"}, "'itl' is no latency of a single request"),
        ({"output_throughput": "2 tok/s"}, "is no latency of a single request"),
        ({"ttft": 2}, 'ttft=2: a unit is missing; write "2 ms"'),
        ({"ttft": "2"}, "a unit is missing"),
        ({"ttft": "2 tok/s"}, "measures something else"),
        ({3: "2 s"}, "3 is no latency"),
        (["ttft"], "expected the name of a preset (mlperf-r1-interactive, mlperf-r1-server)"),
    ],
)
def test_what_is_no_objective_is_named(value: object, told: str) -> None:
    with pytest.raises(UsageMistake) as caught:
        read_slos(value, "x")
    assert told in str(caught.value)


def test_objectives_are_about_what_goodput_can_judge() -> None:
    assert set(slo._OF_REQUESTS) == set(summary.SINGLE)
