"""Two sets of launches: how they differ, and how surely."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gates.compare import Difference, compare_launches
from pytest_llmperf.records import Direction

SLOWER = [1540.0, 1552.0, 1561.0, 1549.0]
FASTER = [1650.0, 1662.0, 1641.0, 1655.0]
POSITIVE = st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=8)


def compare(
    before: list[float],
    after: list[float],
    direction: Direction = "higher",
    confidence: float = 0.99,
    counted: bool = False,
) -> Difference:
    return compare_launches(
        before, after, direction=direction, confidence=confidence, counted=counted
    )


def test_a_loss_beyond_noise() -> None:
    found = compare(FASTER, SLOWER)
    assert found.word == "worse"
    assert found.before == pytest.approx(1651.98, abs=0.01)
    assert found.after == pytest.approx(1550.48, abs=0.01)
    assert found.change == pytest.approx(1550.48 / 1651.98 - 1, abs=1e-4)
    assert found.change is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.change < found.high < 0
    assert (found.n_before, found.n_after) == (4, 4)


def test_the_interval_is_welchs_on_logarithms() -> None:
    from scipy import stats

    before, after = FASTER, [*SLOWER, 1600.0, 1500.0]
    logs = [[math.log(value) for value in side] for side in (after, before)]
    whole = stats.ttest_ind(*logs, equal_var=False)
    expected = whole.confidence_interval(0.99)
    found = compare(before, after)
    # Ours rounds the degrees of freedom down, which makes it a little wider.
    assert found.low is not None
    assert found.high is not None
    assert math.log1p(found.low) <= expected.low
    assert math.log1p(found.high) >= expected.high
    assert math.log1p(found.high) - math.log1p(found.low) < 1.1 * (expected.high - expected.low)


@pytest.mark.parametrize(
    ("before", "after", "direction", "word"),
    [
        (FASTER, SLOWER, "higher", "worse"),
        (FASTER, SLOWER, "lower", "better"),
        (SLOWER, FASTER, "higher", "better"),
        (SLOWER, FASTER, "lower", "worse"),
        (SLOWER, SLOWER, "lower", "noise"),
        (FASTER, [1655.0, 1640.0], "higher", "noise"),
        ([5.0, 5.0], [5.0, 5.0], "lower", "noise"),
        ([5.0, 5.0], [5.1, 5.1], "lower", "worse"),
    ],
)
def test_words_follow_the_direction(
    before: list[float], after: list[float], direction: Direction, word: str
) -> None:
    assert compare(before, after, direction).word == word


@pytest.mark.parametrize(
    ("before", "after"), [([100.0], SLOWER), (SLOWER, [100.0]), ([2.0], [1.0])]
)
def test_one_launch_has_no_interval(before: list[float], after: list[float]) -> None:
    found = compare(before, after)
    assert found.word == "unknown"
    assert found.change is not None
    assert found.low is None
    assert found.high is None


@pytest.mark.parametrize(
    ("before", "after", "direction", "word"),
    [
        ([100.0, 101.0], [100.0, math.inf], "lower", "worse"),
        ([math.inf], [100.0], "lower", "better"),
        ([math.inf, 100.0], [math.inf, 100.0], "lower", "unknown"),
        ([], [100.0], "lower", "unknown"),
        ([100.0], [], "higher", "unknown"),
        ([math.inf], [], "higher", "unknown"),
        ([], [], "higher", "unknown"),
    ],
)
def test_what_is_missing_or_infinite_has_no_number(
    before: list[float], after: list[float], direction: Direction, word: str
) -> None:
    found = compare(before, after, direction)
    assert found.word == word
    assert found.change is None
    assert found.low is None


def test_zeros_are_compared_without_logarithms() -> None:
    found = compare([0.0, 0.0], [0.25, 0.25], "lower")
    assert found.word == "worse"
    assert found.change is None  # of nothing
    stopped = compare([100.0, 101.0, 99.0], [0.0, 0.0, 0.0])
    assert stopped.word == "worse"
    assert stopped.change == pytest.approx(-1)


def test_counts_are_compared_as_they_are() -> None:
    found = compare([1.0] * 4, [0.98, 0.97, 0.975, 0.975], counted=True)
    assert found.word == "worse"
    assert found.change == pytest.approx(-0.025)


@given(before=POSITIVE, after=POSITIVE)
def test_better_seen_from_one_side_is_worse_from_the_other(
    before: list[float], after: list[float]
) -> None:
    there, back = compare(before, after), compare(after, before)
    opposite = {"worse": "better", "better": "worse"}
    assert back.word == opposite.get(there.word, there.word)


@given(before=POSITIVE, after=POSITIVE, factor=st.floats(0.1, 10))
def test_the_unit_does_not_matter(before: list[float], after: list[float], factor: float) -> None:
    plain = compare(before, after)
    scaled = compare([factor * v for v in before], [factor * v for v in after])
    assert plain.change is not None
    assert scaled.change == pytest.approx(plain.change, rel=1e-6, abs=1e-6)


@given(values=POSITIVE, confidence=st.floats(0.5, 0.9999))
def test_nothing_differs_from_itself(values: list[float], confidence: float) -> None:
    found = compare(values, list(reversed(values)), confidence=confidence)
    assert found.word == "noise"
    assert found.change == pytest.approx(0, abs=1e-6)


def test_false_alarms_keep_to_the_level() -> None:
    rng = random.Random(5)

    def side() -> list[float]:
        return [math.exp(rng.gauss(0, 0.03)) for _ in range(4)]

    runs = 3000
    alarms = sum(compare(side(), side()).word == "worse" for _ in range(runs))
    # One-sided, so half of 1 % is expected: 15. More than 40 has a chance below one in a million.
    assert alarms <= 40
