"""Arrivals: as many as asked, at the rate asked, in order, decided by a seed."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from pytest_llmperf.load.declare.arrivals import (
    Process,
    Rate,
    offsets_by_count,
    offsets_by_duration,
    offsets_of_trace,
)
from pytest_llmperf.records import Arrivals

KINDS: tuple[Arrivals, ...] = ("constant", "poisson", "gamma")
rates = st.floats(0.1, 5000)
processes = st.builds(
    Process,
    kind=st.sampled_from(KINDS),
    rate=rates,
    final_rate=st.none() | rates,
    burstiness=st.floats(0.2, 20),
)


def gaps_s(offsets: Any) -> list[float]:
    return [(b - a) / 1e9 for a, b in pairwise([0, *offsets])]


@given(process=processes, count=st.integers(1, 300), seed=st.integers(0, 99))
def test_offsets_by_count_are_so_many_in_order_and_repeatable(
    process: Process, count: int, seed: int
) -> None:
    offsets = offsets_by_count(process, count, seed=seed)
    assert len(offsets) == count
    assert all(a <= b for a, b in pairwise(offsets))
    assert offsets[0] >= 0
    assert list(offsets) == list(offsets_by_count(process, count, seed=seed))
    assert all(type(offset) is int for offset in offsets)


@given(process=processes, duration=st.floats(0.001, 0.1), seed=st.integers(0, 99))
def test_offsets_by_duration_lie_within_it(process: Process, duration: float, seed: int) -> None:
    offsets = offsets_by_duration(process, duration, seed=seed)
    assert all(a <= b for a, b in pairwise(offsets))
    assert not offsets or offsets[-1] <= duration * 1e9 + 1


@pytest.mark.parametrize("kind", ["poisson", "gamma"])
def test_another_seed_gives_other_arrivals(kind: Arrivals) -> None:
    process = Process(kind=kind, rate=10)
    first, second = (offsets_by_count(process, 20, seed=seed) for seed in (1, 2))
    assert list(first) != list(second)


def test_constant_arrivals_stand_equally_far_apart() -> None:
    offsets = offsets_by_count(Process(kind="constant", rate=8), 9, seed=0)
    assert list(offsets) == [125_000_000 * number for number in range(9)]
    assert len(offsets_by_duration(Process(kind="constant", rate=8), 2.0, seed=0)) == 16


@pytest.mark.parametrize("burstiness", [0.25, 1.0, 4.0])
def test_gamma_arrivals_keep_the_mean_rate_and_have_the_shape(burstiness: float) -> None:
    process = Process(kind="gamma", rate=50, burstiness=burstiness)
    count = 20_000
    gaps = gaps_s(offsets_by_count(process, count, seed=11))
    mean = math.fsum(gaps) / count
    spread = 1 / math.sqrt(burstiness)  # of a gap, relative to its mean
    assert mean == pytest.approx(1 / 50, rel=4 * spread / math.sqrt(count))
    assert stats.kstest(gaps, stats.gamma(burstiness, scale=1 / 50 / burstiness).cdf).pvalue > 0.01


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_poisson_gaps_are_exponential(seed: int) -> None:
    gaps = gaps_s(offsets_by_count(Process(kind="poisson", rate=200), 5000, seed=seed))
    assert stats.kstest(gaps, stats.expon(scale=1 / 200).cdf).pvalue > 0.01


def test_poisson_counts_of_equal_spans_are_spread_like_poisson() -> None:
    offsets = offsets_by_duration(Process(kind="poisson", rate=100), 200.0, seed=5)
    per_second = [0] * 200
    for offset in offsets:
        per_second[offset // 1_000_000_000] += 1
    mean = sum(per_second) / 200
    variance = sum((count - mean) ** 2 for count in per_second) / 199
    assert mean == pytest.approx(100, rel=4 / math.sqrt(20_000))
    assert variance / mean == pytest.approx(1, abs=4 * math.sqrt(2 / 199))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "last"), [(10.0, 90.0), (90.0, 10.0), (50.0, 50.0)])
def test_a_ramp_has_the_arrivals_of_its_rate_in_each_half(
    kind: Arrivals, first: float, last: float
) -> None:
    span = 100.0
    process = Process(kind=kind, rate=first, final_rate=last)
    middle = (first + last) / 2
    expected = [(first + middle) / 2 * span / 2, (middle + last) / 2 * span / 2]
    by_duration = offsets_by_duration(process, span, seed=7)
    by_count = offsets_by_count(process, round(middle * span), seed=7)
    for offsets in (by_duration, by_count):
        in_first = sum(offset < span / 2 * 1e9 for offset in offsets)
        in_second = sum(span / 2 * 1e9 <= offset < span * 1e9 for offset in offsets)
        for seen, wanted in zip((in_first, in_second), expected, strict=True):
            assert seen == pytest.approx(wanted, abs=4 * math.sqrt(wanted) + 1)


def test_a_ramp_by_count_ends_when_its_rate_is_reached() -> None:
    process = Process(kind="constant", rate=10, final_rate=30)
    offsets = offsets_by_count(process, 200, seed=0)
    assert offsets[-1] / 1e9 == pytest.approx(10.0, abs=0.1)
    assert gaps_s(offsets)[1] == pytest.approx(1 / 10, rel=0.05)
    assert gaps_s(offsets)[-1] == pytest.approx(1 / 30, rel=0.05)


@given(start=rates, end=rates, span=st.floats(0.1, 1000), share=st.floats(0, 1.5))
def test_when_inverts_the_integral_of_the_rate(
    start: float, end: float, span: float, share: float
) -> None:
    rate = Rate(start=start, end=end, span_s=span)
    at = rate.when(share * rate.expected)
    inside = min(at, span)
    integral = start * inside + (end - start) * inside**2 / (2 * span) + end * max(0, at - span)
    assert integral == pytest.approx(share * rate.expected, rel=1e-9, abs=1e-9)


def test_a_trace_starts_at_once_and_is_hurried_and_cut() -> None:
    times = [100.0, 100.5, 104.0, 109.0]
    assert list(offsets_of_trace(times)) == [0, 500_000_000, 4_000_000_000, 9_000_000_000]
    assert list(offsets_of_trace(times, speed=2.0)) == [
        0,
        250_000_000,
        2_000_000_000,
        4_500_000_000,
    ]
    assert list(offsets_of_trace(times, speed=2.0, duration_s=2.0)) == [0, 250_000_000]
    assert list(offsets_of_trace([])) == []


def test_no_arrivals_are_drawn_for_a_closed_loop() -> None:
    with pytest.raises(ValueError, match="no arrivals are drawn for 'closed'"):
        offsets_by_count(Process(kind="closed", rate=1), 3, seed=0)
