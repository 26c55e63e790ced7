"""Change points: found where they are, and hardly ever where there is none."""

from __future__ import annotations

import importlib.util
import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.gates import steps
from pytest_llmperf.gates.steps import LEAST, find_steps, simple_steps

NEEDS_RUPTURES = pytest.mark.skipif(
    importlib.util.find_spec("ruptures") is None, reason="needs the package ruptures"
)


def noise(rng: random.Random, count: int, mean: float = 0.0, sigma: float = 0.02) -> list[float]:
    return [rng.gauss(mean, sigma) for _ in range(count)]


@pytest.mark.parametrize("seed", range(5))
def test_a_clear_step_is_found_where_it_is(seed: int) -> None:
    rng = random.Random(seed)
    values = noise(rng, 20) + noise(rng, 10, 0.15)
    assert simple_steps(values) == (20,)


def test_up_and_down_again() -> None:
    rng = random.Random(1)
    values = noise(rng, 20) + noise(rng, 12, 0.2) + noise(rng, 20, -0.1)
    assert simple_steps(values) == (20, 32)


@pytest.mark.parametrize("seed", range(5))
def test_a_stretch_that_came_and_went(seed: int) -> None:
    rng = random.Random(seed)
    # As high after it as before: no single cut explains much.
    assert simple_steps(noise(rng, 12) + noise(rng, 8, -0.15) + noise(rng, 9)) == (12, 20)


def test_the_newest_few_are_enough_of_a_long_history() -> None:
    rng = random.Random(3)
    assert simple_steps(noise(rng, 40) + noise(rng, 4, 0.2)) == (40,)


def test_one_outlier_is_no_level() -> None:
    rng = random.Random(2)
    assert simple_steps([*noise(rng, 15), 3.0, *noise(rng, 15)]) == ()


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0], [1.0, 1.0, 9.0, 9.0], [5.0] * 30])
def test_too_few_or_all_alike_have_no_steps(values: list[float]) -> None:
    assert find_steps(values).starts == ()


def test_a_step_without_any_noise() -> None:
    assert find_steps([1.0] * 10 + [2.0] * 10).starts == (10,)


def test_the_same_history_has_the_same_steps() -> None:
    rng = random.Random(4)
    values = noise(rng, 12) + noise(rng, 12, 0.03)
    assert {simple_steps(values) for _ in range(3)} == {simple_steps(values)}


@given(levels=st.lists(st.floats(-100, 100), min_size=1, max_size=4), each=st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_levels_are_apart_and_in_order(levels: list[float], each: int) -> None:
    values = [level + 0.01 * (at % 3) for level in levels for at in range(each)]
    starts = simple_steps(values)
    edges = [0, *starts, len(values)]
    if starts:
        assert all(after - before >= LEAST for before, after in pairwise(edges))


@pytest.mark.parametrize("tails", ["normal", "heavy"])
def test_false_alarms_keep_to_the_level(tails: str) -> None:
    rng = random.Random(11)

    def draw() -> float:
        # Student's t with three degrees of freedom has tails as heavy as real machines have.
        return rng.gauss(0, 1) / (
            1 if tails == "normal" else (sum(rng.gauss(0, 1) ** 2 for _ in range(3)) / 3) ** 0.5
        )

    runs, alpha = 400, 0.02
    alarms = sum(bool(simple_steps([draw() for _ in range(25)], alpha=alpha)) for _ in range(runs))
    # 8 expected; 26 or more has a chance below one in a million.
    assert alarms < 26


def test_power_at_three_standard_deviations() -> None:
    rng = random.Random(12)
    runs = 100
    histories = (noise(rng, 20, sigma=1) + noise(rng, 6, 3.0, sigma=1) for _ in range(runs))
    found = [simple_steps(values) for values in histories]
    assert sum(bool(starts) for starts in found) > 85
    assert sum(any(abs(at - 20) <= 1 for at in starts) for starts in found) > 80


def test_the_method_is_named() -> None:
    installed = importlib.util.find_spec("ruptures") is not None
    method = steps.PELT if installed else steps.SIMPLE
    assert find_steps([1.0, 1.1, 0.9, 1.0, 1.05]).method == method


@NEEDS_RUPTURES
def test_pelt_finds_what_stands_out() -> None:
    rng = random.Random(1)
    values = noise(rng, 20) + noise(rng, 12, 0.2) + noise(rng, 20, -0.1)
    assert find_steps(values).starts == (20, 32)


@NEEDS_RUPTURES
def test_false_alarms_of_pelt() -> None:
    rng = random.Random(13)
    runs = 200
    alarms = sum(bool(find_steps(noise(rng, 25), alpha=0.02).starts) for _ in range(runs))
    assert alarms < 17  # 4 expected; more has a chance below one in a million
