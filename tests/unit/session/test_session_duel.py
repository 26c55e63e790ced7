"""Which runs of a duel make its pairs; how a duel goes is told in tests/plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from pytest_llmperf.gates.regression import loss_of
from pytest_llmperf.records import MetricValue, Run, Workload
from pytest_llmperf.session.duel import Duel, Rules

WORKLOAD = cast("Workload", "chat")
RULES = Rules(alpha=0.01, most_pairs=12, budget_s=None, compare_with_itself=False, seed=1)


def run(pair: int, value: float, *, valid: bool = True) -> Run:
    metrics = {"output_throughput": MetricValue(value=value)}
    return cast(
        "Run", SimpleNamespace(pair=pair, valid=valid, metrics=metrics, launch_id=f"{pair}")
    )


@dataclass
class Launches:
    """A side whose launches were measured already."""

    found: list[Run] = field(default_factory=list)

    def runs(self, _: Workload) -> tuple[Run, ...]:
        return tuple(self.found)


def duel(ours: list[Run], theirs: list[Run]) -> Duel:
    sides: Any = Launches(ours), Launches(theirs)
    return Duel(candidate=sides[0], reference=sides[1], gates={}, rules=RULES, priors=lambda _: {})


def values(pairs: Any) -> list[tuple[list[float], list[float]]]:
    return [tuple([value.value for value in side] for side in pair) for pair in pairs]  # type: ignore[misc]


def test_runs_that_did_not_count_are_only_among_those_beside() -> None:
    found = duel(
        [run(0, 90, valid=False), run(0, 100), run(1, 50, valid=False), run(2, 100), run(3, 100)],
        [run(0, 100), run(1, 100), run(2, 100), run(3, 100)],
    )
    counted = found.pairs(WORKLOAD, "output_throughput")
    assert values(counted) == [([100], [100])] * 3
    beside = found._with_invalid(WORKLOAD, "output_throughput", 2)
    assert values(beside) == [([90, 100], [100]), ([50], [100]), ([100], [100])]
    # What was measured after the deciding look for other gates does not count on either side.
    assert values(found._with_invalid(WORKLOAD, "output_throughput", 1)) == [([90, 100], [100])]


def test_where_every_run_counted_there_is_nothing_beside() -> None:
    found = duel([run(0, 90), run(1, 90)], [run(0, 100), run(1, 100, valid=False)])
    assert found._with_invalid(WORKLOAD, "output_throughput", 1) == []
    assert found._with_invalid(WORKLOAD, "output_throughput", 0) == []


@pytest.mark.parametrize(
    ("direction", "ours", "expected"),
    [
        ("higher", 80.0, 0.2),
        ("lower", 125.0, 0.25),
        ("higher", 125.0, -0.25),
        ("lower", 80.0, -0.2),
    ],
)
def test_a_loss_of_pairs(direction: Any, ours: float, expected: float) -> None:
    pair = ([MetricValue(value=ours)], [MetricValue(value=100.0)])
    assert loss_of([pair, pair, ([], [])], direction) == pytest.approx(expected)


@pytest.mark.parametrize("value", [None, 0.0, float("inf"), float("nan"), -1.0])
def test_what_has_no_logarithm_has_no_loss(value: float | None) -> None:
    assert loss_of([([MetricValue(value=value)], [MetricValue(value=1.0)])], "higher") is None
    assert loss_of([], "higher") is None
