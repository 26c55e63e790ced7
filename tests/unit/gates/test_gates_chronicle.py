"""The history of a metric as a report tells it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_llmperf.gates.chronicle import MOST_POINTS, chronicle, history_of, mean
from pytest_llmperf.records import LaunchValues, Observation


def session(number: int, *values: float, metric: str = "tpot_mean") -> Observation:
    launches = [
        LaunchValues(launch_id=f"{number}-{at}", started_at="", runs=1, metrics={metric: value})
        for at, value in enumerate(values)
    ]
    return Observation(
        id=f"s{number}",
        key="k",
        created=f"2026-01-01T00:{number:02d}:00+00:00",
        test="t.py::test_a",
        workload="w",
        environment={},
        subject={"version": "0.5.9"},
        block={},
        launches=tuple(launches),
        commit="c" * 40,
        dirty=False,
    )


def wavering(level: float, numbers: Sequence[int]) -> list[Observation]:
    """Sessions of two launches, a little apart."""
    return [session(n, level * (1 + 0.01 * (n % 3)), level) for n in numbers]


NIGHTS = [*wavering(10.0, range(12)), *wavering(12.0, range(12, 24))]


def test_a_history_tells_sessions_steps_and_the_accepted_level() -> None:
    found = history_of(NIGHTS, session(30, 12.0, 12.5), "tpot_mean", NIGHTS[:8], "the level of May")
    assert found is not None
    assert [point.fresh for point in found.points] == [False] * 24 + [True]
    assert sum(point.accepted for point in found.points) == 8
    (step,) = found.steps
    assert step.at == 12
    assert step.before == pytest.approx(10.05, rel=0.01)
    assert step.after == pytest.approx(12.06, rel=0.01)
    assert found.level == pytest.approx(10.05, rel=0.01)
    assert found.against == "the level of May"
    last = found.points[-1]
    assert (last.low, last.high, last.launches, last.version) == (12.0, 12.5, 2, "0.5.9")
    assert last.value == pytest.approx((12.0 * 12.5) ** 0.5)


def test_steps_are_those_that_trend_finds() -> None:
    found = history_of(NIGHTS, session(30, 12.0), "tpot_mean", ())
    assert found is not None
    told = chronicle(NIGHTS, "tpot_mean", ())
    assert tuple(step.at for step in found.steps) == told.steps.starts
    assert found.method == told.steps.method


def test_a_fresh_session_that_stands_out_hides_no_step() -> None:
    found = history_of(NIGHTS, session(30, 40.0), "tpot_mean", ())
    assert found is not None
    assert [step.at for step in found.steps] == [12]


def test_only_the_newest_sessions_are_told_and_the_level_rests_on_all() -> None:
    sessions = wavering(10.0, range(MOST_POINTS + 20))
    found = history_of(sessions, session(99, 10.0), "tpot_mean", sessions[:5])
    assert found is not None
    assert len(found.points) == MOST_POINTS
    assert found.older == 21
    assert not any(point.accepted for point in found.points)
    assert found.level == pytest.approx(10.05, rel=0.01)


def test_a_first_session_has_no_history() -> None:
    assert history_of([], session(1, 10.0), "tpot_mean", ()) is None
    others = [session(1, 10.0, metric="ttft_p95")]
    assert history_of(others, session(2, 10.0), "tpot_mean", ()) is None


def test_a_session_without_the_metric_is_no_point() -> None:
    nights = [session(1, 10.0), session(2), session(3, 10.1)]
    found = history_of(nights, replace(session(4), launches=()), "tpot_mean", ())
    assert found is not None
    assert [point.created[14:16] for point in found.points] == ["01", "03"]


def test_the_mean_is_geometric_where_it_can_be() -> None:
    assert mean([1.0, 4.0]) == pytest.approx(2.0)
    assert mean([0.0, 4.0]) == 2.0
    assert mean([3.0, 3.0]) == 3.0
    assert mean([]) is None
