"""How the score of mutation testing is counted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.mutation import ROOMS, ROOT, drawn, interval, score

NAMES = [f"x_{number}" for number in range(50)]


@given(st.integers(1, 60), st.integers())
def test_a_sample_is_the_same_for_one_seed(sample: int, seed: int) -> None:
    found = drawn(NAMES, sample, seed)
    assert found == drawn(NAMES, sample, seed)
    assert len(found) == len(set(found)) == min(sample, len(NAMES))
    assert set(found) <= set(NAMES)


def test_what_no_test_reaches_is_a_survivor() -> None:
    results = {"a": "killed", "b": "survived", "c": "timeout", "d": "no tests", "e": "segfault"}
    found = score(list("abcde"), results, population=5)
    assert (found["tried"], found["noticed"], found["score"]) == (5, 3, 0.6)
    assert found["survivors"] == ["b", "d"]
    assert found["interval"] is None, "the whole population has no interval"
    assert score(list("ab"), results, population=5)["interval"] is not None


@pytest.mark.parametrize(
    ("hits", "tries", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611)],
)
def test_the_interval_is_wilsons(hits: int, tries: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3."""
    assert interval(hits, tries) == pytest.approx([low, high], abs=1e-4)


def test_all_that_is_changed_and_run_is_there() -> None:
    for room in ROOMS.values():
        assert all(list(ROOT.glob(pattern)) for pattern in room.changed)
        assert all((ROOT / test).exists() for test in room.tests)
