"""Energy between two moments, by hand and by properties."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_llmperf.accelerators.conditions import Condition
from pytest_llmperf.metrics.energy import Energy, Point, Unknown, Window, energy_of, trapezoid

#: The window begins so far into the clock; nothing may depend on it.
T0_NS = 7_000_000_000_000


def window(seconds: float) -> Window:
    return Window(start_ns=T0_NS, end_ns=T0_NS + round(seconds * 1e9))


def at(second: float, *, over_s: float = 0.0, **read: Any) -> Condition:
    return Condition(uuid="GPU-0", at_ns=T0_NS + round(second * 1e9), power_over_s=over_s, **read)


def powers(*points: Point) -> list[Condition]:
    return [at(second, power_w=watts) for second, watts in points]


def counts(*points: Point) -> list[Condition]:
    return [at(second, energy_j=joules) for second, joules in points]


def both(*points: tuple[float, float, float]) -> list[Condition]:
    return [at(second, power_w=watts, energy_j=joules) for second, watts, joules in points]


# --- by hand ---------------------------------------------------------------------------------


def test_power_is_integrated_between_samples_and_cut_at_the_edges() -> None:
    # 100 W until 1 s, up to 300 W at 2 s, level after that: 100 + 200 + 300 + 150 within [0, 3.5]
    seen = powers((-0.5, 100), (0.5, 100), (1, 100), (2, 300), (3, 300), (4, 300))
    found = energy_of(seen, window(3.5))
    assert found.joules == pytest.approx(750)
    assert found.source == "power"


def test_a_counter_is_read_off_between_samples() -> None:
    # 1000 J at -0.5 s and 1100 J at 0.5 s: 1050 at 0. 1400 at 2.5 s and 1500 at 3.5: 1450 at 3.
    seen = counts((-0.5, 1000), (0.5, 1100), (1.5, 1250), (2.5, 1400), (3.5, 1500))
    found = energy_of(seen, window(3))
    assert found.joules == pytest.approx(400)
    assert found.source == "counter"


def test_the_counter_is_preferred_where_both_agree() -> None:
    seen = both((-1, 104, 0), (0, 104, 100), (1, 104, 200), (2, 104, 300), (3, 104, 400))
    found = energy_of(seen, window(2))
    assert found.joules == pytest.approx(200)
    assert found.source == "counter"


@pytest.mark.parametrize(
    ("watts", "agrees"), [(95.5, True), (94, False), (105, True), (106, False)]
)
def test_what_does_not_agree_within_five_percent_is_no_figure(watts: float, agrees: bool) -> None:
    seen = both(*((second, watts, 100 * second) for second in range(-1, 12)))
    found = energy_of(seen, window(10))
    assert (found.joules is not None) is agrees
    if not agrees:
        told = f"its counter says 1,000 J and its power {watts * 10:,.0f} J, more than 5% apart"
        assert found == Energy(missing=told)


def test_a_second_s_average_belongs_to_the_middle_of_that_second() -> None:
    # Idle at 100 W until the window opens, 500 W in it: the average of the last second lags.
    means = [(-1.0, 100.0), (0.0, 100.0), (1.0, 500.0), (2.0, 500.0), (3.0, 500.0), (4.0, 500.0)]
    seen = [at(second, power_w=watts, over_s=1.0) for second, watts in means]
    plain = [at(second, power_w=watts) for second, watts in means]
    lagging = energy_of(plain, window(4)).joules
    assert energy_of(seen, window(4)).joules == pytest.approx(1950)
    assert lagging == pytest.approx(1800)


def test_too_few_samples_are_no_figure() -> None:
    found = energy_of(powers((-1, 100), (0.2, 100), (1.2, 100), (2.2, 100)), window(1.4))
    assert found == Energy(missing="too short: 2 samples in 1.4 s; energy needs at least 3")
    (one,) = powers((0.5, 100))
    assert energy_of([one], window(1)).missing.startswith("too short: 1 sample in 1.0 s")


@pytest.mark.parametrize("make", [powers, counts])
def test_a_gap_is_no_figure(make: object) -> None:
    assert callable(make)
    points = [(-1.0, 100.0), (0.5, 101.0), (1.5, 102.0), (4.6, 103.0), (5.6, 104.0)]
    found = energy_of(make(*points), window(5))
    assert found == Energy(missing="two samples are 3.1 s apart; energy needs one every 3 s")
    points[3] = (4.5, 103.0)
    assert energy_of(make(*points), window(5)).joules is not None


def test_a_gap_outside_of_the_window_does_not_matter() -> None:
    seen = powers((-60, 10), (-1, 100), (0, 100), (1, 100), (2, 100), (3, 100), (60, 10))
    assert energy_of(seen, window(2)).joules == pytest.approx(200)


def test_samples_that_did_not_know_are_a_gap_as_well() -> None:
    known = [(float(second), 100.0) for second in range(-1, 11)]
    hole = [at(second) if 3 <= second <= 6 else at(second, power_w=100) for second in range(-1, 11)]
    assert energy_of(powers(*known), window(9)).joules == pytest.approx(900)
    assert "5.0 s apart" in energy_of(hole, window(9)).missing


def test_a_counter_that_fell_is_no_figure() -> None:
    for fallen in (0.0, 199.0):  # begun anew, and run over
        seen = counts((-1, 0), (0, 100), (1, 200), (2, fallen), (3, fallen + 100), (4, 500))
        told = energy_of(seen, window(3)).missing
        assert told.startswith(f"its counter fell from 200 to {fallen:,.0f} J")


def test_a_counter_that_stands_still_under_power_is_no_figure() -> None:
    seen = both(*((second, 100, 5000) for second in range(-1, 6)))
    assert "its counter says 0 J and its power 400 J" in energy_of(seen, window(4)).missing


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        ((0.4, 1, 2, 3, 4), "its first sample came 0.4 s after the first request"),
        ((-1, 0, 1, 2, 3.5), "its last sample came 0.5 s before the last token"),
    ],
)
def test_a_counter_must_be_read_before_and_after(seconds: Sequence[float], told: str) -> None:
    seen = counts(*((second, 100 * (second + 1)) for second in seconds))
    assert energy_of(seen, window(4)) == Energy(missing=told)


def test_power_is_held_level_for_a_second_beyond_its_samples_and_no_longer() -> None:
    level = [(second, 100.0) for second in (0.9, 2.0, 3.0)]
    assert energy_of(powers(*level), window(4)).joules == pytest.approx(400)
    assert energy_of(powers(*level), window(4.1)).missing.startswith("its last sample came 1.1 s")
    late = [(second, 100.0) for second in (1.1, 2.0, 3.0)]
    assert energy_of(powers(*late), window(4)).missing.startswith("its first sample came 1.1 s")


def test_power_that_comes_from_the_counter_does_not_check_it() -> None:
    # Only the points of the counter reach both edges; those of the power lie far off and too late.
    seen = [at(second, energy_j=100.0 * second + 1000) for second in (-1, 0, 1, 2, 3, 4)]
    seen = [replace(one, power_w=900.0, power_over_s=1.0, power_derived=True) for one in seen]
    assert energy_of(seen, window(3)).joules == pytest.approx(300)
    assert energy_of(seen, window(3)).source == "counter"


def test_a_counter_is_denied_by_its_own_reason() -> None:
    seen = counts((0.2, 0), (1, 100), (2, 200), (3, 300), (4, 400))
    seen = [replace(one, power_w=100.0, power_derived=True) for one in seen[1:]]
    found = energy_of(seen, window(3.5))
    assert found.missing == "its first sample came 1.0 s after the first request"


def test_a_device_says_why_it_tells_nothing() -> None:
    assert energy_of([at(0, untold="half a card")], window(3)).missing == "half a card"


def test_a_device_that_tells_nothing_is_said_so() -> None:
    seen = [at(float(second)) for second in range(5)]
    assert energy_of(seen, window(4)).missing == "it tells neither its power nor its energy"
    assert energy_of([], window(4)).missing == "it tells neither its power nor its energy"
    assert energy_of([Condition(uuid="GPU-0", power_w=1)], window(4)).joules is None


def test_nothing_drawn_is_not_believed() -> None:
    seen = powers(*((second, 0) for second in range(-1, 6)))
    assert energy_of(seen, window(4)).missing == "it says that it drew nothing"


def test_moments_that_coincide_do_no_harm() -> None:
    seen = both(
        (-1, 100, 0), (0, 100, 100), (1, 100, 200), (1, 100, 200), (2, 100, 300), (3, 100, 400)
    )
    assert energy_of(seen, window(2)).joules == pytest.approx(200)


# --- properties ------------------------------------------------------------------------------

steps = st.lists(st.floats(0.05, 2.9), min_size=5, max_size=40)


def moments(gaps: Sequence[float]) -> list[float]:
    """Samples from a little before the window on, so far apart."""
    found = [-0.5]
    for gap in gaps:
        found.append(found[-1] + gap)
    return found


@given(gaps=steps, base=st.floats(1, 1000), slope=st.floats(0, 50), share=st.floats(0.6, 1))
def test_the_trapezoid_of_a_linear_power_is_exact(
    gaps: list[float], base: float, slope: float, share: float
) -> None:
    seconds = moments(gaps)
    until = seconds[-1] * share
    found = trapezoid([(at_s, base + slope * (at_s + 0.5)) for at_s in seconds], max(until, 0.0))
    exact = base * until + slope * (until**2 / 2 + 0.5 * until) if until > 0 else 0.0
    assert math.isclose(found, exact, rel_tol=1e-9, abs_tol=1e-6)


@given(gaps=steps, watts=st.floats(1, 1000), begun=st.floats(0, 1e9))
def test_a_counter_of_level_power_counts_the_window(
    gaps: list[float], watts: float, begun: float
) -> None:
    seconds = moments(gaps)
    until = seconds[-1] - 0.01
    seen = counts(*((each, begun + watts * (each + 0.5)) for each in seconds))
    found = energy_of(seen, window(until)) if until > 0 else Energy()
    inside = sum(0 <= round(each * 1e9) <= round(until * 1e9) for each in seconds)
    assert (found.joules is not None) is (inside >= 3)
    if found.joules is not None:
        assert math.isclose(found.joules, watts * until, rel_tol=1e-4, abs_tol=1e-3)


@given(
    gaps=steps, powers_w=st.lists(st.floats(1, 1000), min_size=41, max_size=41), cut=st.floats(0, 1)
)
def test_two_parts_make_the_whole(gaps: list[float], powers_w: list[float], cut: float) -> None:
    seconds = moments(gaps)
    until = max(seconds[-1], 0.1)
    points = list(zip(seconds, powers_w, strict=False))
    middle = until * cut
    shifted = [(at_s - middle, watts) for at_s, watts in points]
    try:
        whole = trapezoid(points, until)
        parts = trapezoid(points, middle), trapezoid(shifted, until - middle)
    except Unknown:
        return
    assert math.isclose(whole, sum(parts), rel_tol=1e-9, abs_tol=1e-6)


@given(gaps=steps, fall_at=st.integers(1, 39), fall=st.floats(0.5, 1e9))
def test_a_counter_that_falls_within_the_window_is_never_believed(
    gaps: list[float], fall_at: int, fall: float
) -> None:
    seconds = moments(gaps)
    place = min(fall_at, len(seconds) - 1)
    assume(seconds[place] > 1e-6)  # a fall before the window is none of its business
    lost = [0.0 if n < place else fall + 100 * gaps[n - 1] for n in range(len(seconds))]
    seen = counts(
        *((at_s, 1e9 + 100 * at_s - less) for at_s, less in zip(seconds, lost, strict=True))
    )
    found = energy_of(seen, window(max(seconds[-1], 0.1)))
    assert found.joules is None
    assert found.missing
