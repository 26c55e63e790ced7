from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_llmperf.gates.limits import judge_limit
from pytest_llmperf.records import Limit, MetricValue, Verdict

Launches = Sequence[Sequence[float | None]]


def limit(
    kind: Literal["floor", "ceiling"] = "floor", metric: str = "", value: float = 1800.0
) -> Limit:
    metric = metric or {"floor": "output_throughput", "ceiling": "ttft_p95"}[kind]
    source = f"{kind} set in tests/perf/test_r1.py:7"
    return Limit(kind=kind, metric=metric, limit=value, on=None, source=source)


def judge(
    launches: Launches,
    of: Limit | None = None,
    *,
    family: int = 1,
    launch_cv: float = 0.03,
    invalid_reasons: Sequence[str] = (),
) -> Verdict:
    return judge_limit(
        of or limit(),
        [[MetricValue(value=value) for value in launch] for launch in launches],
        family=family,
        launch_cv=launch_cv,
        device="RTX 4090",
        invalid_reasons=invalid_reasons,
    )


# --- one launch or two -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "verdict", "code"),
    [
        (1900.0, "pass", "within"),
        (1800.0, "pass", "within"),
        (1799.0, "inconclusive", "guard_band"),
        (1639.0, "inconclusive", "guard_band"),
        (1637.0, "fail", "beyond"),
        (1.0, "fail", "beyond"),
    ],
)
def test_one_launch_is_judged_with_a_guard(value: float, verdict: str, code: str) -> None:
    decided = judge([[value]])
    assert (decided.verdict, decided.reason_code) == (verdict, code)
    assert decided.covered
    assert decided.detectable_loss == pytest.approx(0.09)
    assert "this launch" in decided.reason
    assert "9 % guard for an assumed launch CV of 3 %" in decided.reason


@pytest.mark.parametrize(
    ("value", "verdict"), [(400.0, "pass"), (435.0, "inconclusive"), (437.0, "fail")]
)
def test_one_launch_under_a_ceiling(value: float, verdict: str) -> None:
    assert judge([[value]], limit("ceiling", value=400.0)).verdict == verdict


def test_two_launches_are_judged_by_their_mean() -> None:
    decided = judge([[1600.0], [1650.0]])
    assert decided.verdict == "fail"
    assert decided.n_launches == 2
    assert "these 2 launches" in decided.reason
    assert decided.ci_low is None, "what is printed is what decides"


def test_the_guard_is_as_wide_as_the_assumed_spread() -> None:
    assert judge([[1700.0]], launch_cv=0.01).verdict == "fail"
    assert judge([[1700.0]], launch_cv=0.03).verdict == "inconclusive"


def test_the_guard_widens_where_many_gates_share_the_false_alarm_rate() -> None:
    widths = [judge([[1700.0]], family=family).detectable_loss for family in (1, 2, 20, 100)]
    assert widths == sorted(widths)  # type: ignore[type-var]
    assert widths[0] == widths[1] == pytest.approx(0.09)
    assert widths[2] == pytest.approx(math.expm1(3.4808 * 0.03), rel=1e-4)


# --- three launches and more -----------------------------------------------------------------


def test_three_launches_are_judged_by_their_interval() -> None:
    decided = judge([[1612.0], [1600.0], [1620.0]])
    assert (decided.verdict, decided.reason_code) == ("fail", "beyond")
    assert decided.ci_high is not None
    assert decided.ci_high < 1800
    assert (decided.df, decided.n_launches, decided.n_runs) == (2, 3, 3)
    assert (decided.alpha, decided.family) == (0.01, 1)


def test_an_interval_that_reaches_the_limit_is_noise() -> None:
    decided = judge([[1790.0], [1750.0], [1820.0]])
    assert (decided.verdict, decided.reason_code) == ("inconclusive", "noise")
    assert decided.covered
    assert decided.ci_low is not None
    assert decided.ci_high is not None
    assert decided.ci_low < 1800 < decided.ci_high


def test_a_mean_on_the_good_side_passes_however_wide_the_interval() -> None:
    assert judge([[1500.0], [1900.0], [2100.0]]).verdict == "pass"


def test_a_family_widens_the_interval() -> None:
    launches = [[1612.0], [1600.0], [1632.0]]
    assert judge(launches).verdict == "fail"
    shared = judge(launches, family=20, launch_cv=0.05)
    assert shared.verdict == "inconclusive"
    assert "99.95 % CI" in shared.reason


def test_three_launches_never_know_less_than_each_alone() -> None:
    decided = judge([[1600.0], [1300.0], [1000.0]])
    assert (decided.verdict, decided.reason_code) == ("fail", "beyond_guard")
    assert decided.ci_high is not None
    assert decided.ci_high > 1800
    assert "each launch alone is beyond the 9 % guard" in decided.reason


def test_a_mean_far_beyond_the_spread_seen_and_assumed_fails() -> None:
    decided = judge([[1590.0], [1620.0], [1641.0]], launch_cv=0.03, family=20)
    assert decided.ci_high is not None
    assert decided.ci_high > 1800
    assert decided.verdict == "inconclusive", "within the wider guard of a family"
    decided = judge([[1560.0], [1580.0], [1641.0]], family=20)
    assert (decided.verdict, decided.reason_code) == ("fail", "beyond_guard")
    assert "the mean is beyond the guard" in decided.reason


def test_a_wide_spread_widens_the_guard_of_the_mean() -> None:
    assert judge([[1800.0], [1800.0], [1100.0]]).verdict == "inconclusive"


def test_absurd_spreads_are_judged_without_overflow() -> None:
    assert judge([[1e-300], [1e5], [1e305]]).verdict == "pass"
    assert judge([[1e-300], [1.0], [1e4]]).verdict == "inconclusive"
    assert judge([[1e300], [1.0], [1e3]], limit("ceiling")).verdict == "inconclusive"


def test_without_an_assumed_spread_the_limit_is_the_limit() -> None:
    assert judge([[1799.0]], launch_cv=0.0).verdict == "fail"
    assert judge([[1799.0], [1700.0], [1850.0]], launch_cv=0.0).verdict == "inconclusive"


def test_equal_launches_have_an_interval_of_no_width() -> None:
    assert judge([[1799.0]] * 3).verdict == "fail"
    assert judge([[1800.0]] * 3).verdict == "pass"


def test_rounding_of_the_mean_fails_nobody() -> None:
    for value in (0.1, 1.1, 3.3, 1799.9999):
        assert judge([[value, value, value]] * 5, limit(value=value)).verdict == "pass"


# --- messages --------------------------------------------------------------------------------


def test_the_message_of_a_missed_floor() -> None:
    assert judge([[1612.0], [1600.0], [1624.0]]).reason == (
        "−10.4 % under floor: 1,612 < 1,800 tok/s output throughput on RTX 4090 "
        "(3 launches, 99 % CI 1,545-1,682; floor set in tests/perf/test_r1.py:7)"
    )


def test_the_message_of_a_missed_ceiling() -> None:
    assert judge([[448.0]], limit("ceiling", value=400.0)).reason == (
        "+12 % over ceiling: 448 > 400 ms p95 TTFT on RTX 4090 (this launch, beyond the 9 % guard "
        "for an assumed launch CV of 3 %; ceiling set in tests/perf/test_r1.py:7)"
    )


def test_the_verdict_stands_in_the_first_forty_characters() -> None:
    for launches in ([[1612.0]], [[1612.0]] * 3, [[0.5]]):
        assert " < 1,800" in judge(launches).reason[:40]


def test_numbers_that_differ_are_shown_to_differ() -> None:
    assert "1,799.999 < 1,800 tok/s" in judge([[1799.999]] * 3).reason
    assert "99.9996 < 100 %" in judge([[0.999996]], limit(metric="success_rate", value=1)).reason


# --- counts, zeros and holes -----------------------------------------------------------------


def test_counts_are_compared_as_they_are() -> None:
    rate = limit(metric="success_rate", value=1.0)
    assert judge([[1.0, 1.0], [1.0]], rate).verdict == "pass"
    missed = judge([[1.0, 1.0, 0.99375]], rate)
    assert missed.verdict == "fail"
    assert missed.reason.startswith("−0.208 % under floor: 99.79 < 100 % success rate")
    assert judge([[0.98], [1.0], [0.99]], limit(metric="success_rate", value=0.99)).verdict == (
        "pass"
    )
    assert judge([[0.0]], rate).verdict == "fail"


def test_a_standstill_fails_a_floor_whatever_the_other_runs_gave() -> None:
    for launches in ([[0.0]], [[5000.0, 0.0]], [[9000.0], [9000.0], [9000.0, 0.0]]):
        decided = judge(launches)
        assert decided.verdict == "fail"
        assert decided.reason.startswith("−100 % under floor: 0 < 1,800 tok/s")
        assert decided.observed == 0.0


def test_zeros_under_a_ceiling_are_fast() -> None:
    gaps = limit("ceiling", metric="itl_p50", value=10.0)
    assert judge([[0.0]], gaps).verdict == "pass"
    assert judge([[0.0], [8.0], [9.0]], gaps).verdict == "pass"
    assert judge([[0.0], [80.0], [90.0]], gaps).verdict == "fail"


def test_a_limit_of_zero() -> None:
    assert judge([[5.0]], limit(value=0.0)).verdict == "pass"
    decided = judge([[5.0]], limit("ceiling", value=0.0))
    assert decided.verdict == "fail"
    assert decided.difference is None


def test_nothing_measured_is_not_covered() -> None:
    cases: list[Launches] = [[[None]], [[1900.0], [None]], [[None, None], [1900.0]]]
    for launches in cases:
        decided = judge(launches)
        assert decided.verdict == "inconclusive"
        assert (decided.reason_code, decided.covered) == ("not_measured", False)
        assert decided.reason.startswith("output throughput was not measured in 1 of")


def test_a_launch_with_another_value_is_judged_on_that() -> None:
    assert judge([[None, 1900.0]]).verdict == "pass"


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1.0])
@pytest.mark.parametrize("kind", ["floor", "ceiling"])
def test_impossible_values_are_not_covered(value: float, kind: Literal["floor", "ceiling"]) -> None:
    for launches in ([[value]], [[1.0], [1.0], [1.0, value]]):
        decided = judge(launches, limit(kind))
        assert decided.verdict == "inconclusive"
        assert (decided.reason_code, decided.covered) == ("impossible", False)


def test_no_valid_run_says_why() -> None:
    empty: list[Launches] = [[], [[], []]]
    for launches in empty:
        decided = judge(launches, invalid_reasons=["client-bound: 98 % CPU", "cache hit"])
        assert (decided.reason_code, decided.covered) == ("no_valid_runs", False)
        assert "client-bound: 98 % CPU; cache hit" in decided.reason
    assert "nothing was measured" in judge([]).reason


def test_clocks_that_are_not_known_are_no_noise() -> None:
    """A busy machine will be free another day; a network with long round trips stays."""
    decided = judge([[]], invalid_reasons=["clock-error: known to 5 ms", "clock-error: to 6 ms"])
    assert (decided.verdict, decided.reason_code) == ("inconclusive", "clock_error")
    assert not decided.covered


def test_an_unbounded_percentile_fails_and_names_the_requests() -> None:
    values = [
        [MetricValue(value=300.0)],
        [MetricValue(value=310.0), MetricValue(value=None, unbounded=True, failed=8)],
    ]
    decided = judge_limit(limit("ceiling", value=400.0), values, device="RTX 4090", requests=160)
    assert (decided.verdict, decided.reason_code) == ("fail", "unbounded")
    assert decided.reason.startswith("p95 TTFT is unbounded: 8 of 160 requests failed")
    unknown = judge_limit(limit("ceiling"), values, device="RTX 4090")
    assert unknown.reason.startswith("p95 TTFT is unbounded: 8 requests failed")


# --- properties ------------------------------------------------------------------------------

BADNESS = {"pass": 0, "inconclusive": 1, "fail": 2}
ratios = st.lists(st.lists(st.floats(0.5, 1.5), min_size=1, max_size=3), min_size=1, max_size=6)


def near_an_edge(verdict: Verdict, edge: float = 1e-6) -> bool:
    """Whether rounding alone could decide otherwise."""
    ends = (verdict.observed, verdict.ci_low, verdict.ci_high)
    guards = (1.0, 1 - 0.09, 1 + 0.09)
    return any(
        end is not None and verdict.limit and abs(end / verdict.limit - guard) < edge
        for end in ends
        for guard in guards
    )


@given(ratios, st.floats(1e-3, 1e6))
def test_verdicts_do_not_depend_on_the_unit(values: list[list[float]], scale: float) -> None:
    for kind in ("floor", "ceiling"):
        one = judge(values, limit(kind, value=1.0))
        scaled = [[value * scale for value in launch] for launch in values]
        other = judge(scaled, limit(kind, value=scale))
        assume(not near_an_edge(one))
        assert (one.verdict, one.reason_code) == (other.verdict, other.reason_code)
        assert one.detectable_loss == pytest.approx(other.detectable_loss)


@given(st.lists(st.floats(0.5, 1.5), min_size=1, max_size=6))
def test_floors_and_ceilings_mirror_each_other(values: list[float]) -> None:
    """With an interval on the log scale; with a guard on the scale of the limit itself."""
    mirrored = [1 / value if len(values) >= 3 else 2 - value for value in values]
    if len(values) == 2:
        mirrored = [2 - math.sqrt(values[0] * values[1])] * 2
    floor = judge([[value] for value in values], limit(value=1.0))
    ceiling = judge([[value] for value in mirrored], limit("ceiling", value=1.0))
    assume(not near_an_edge(floor) and not near_an_edge(ceiling))
    alone = {floor.reason_code, ceiling.reason_code} & {"beyond_guard"}
    if not alone:
        assert (floor.verdict, floor.reason_code) == (ceiling.verdict, ceiling.reason_code)


@given(ratios, st.floats(0.0, 0.6))
def test_more_loss_never_improves_a_verdict(values: list[list[float]], loss: float) -> None:
    for kind, factor in (("floor", 1 - loss), ("ceiling", 1 + loss)):
        of = limit(kind, value=1.0)  # type: ignore[arg-type]
        before = judge(values, of)
        after = judge([[value * factor for value in launch] for launch in values], of)
        assume(not near_an_edge(before) and not near_an_edge(after))
        assert BADNESS[after.verdict] >= BADNESS[before.verdict]


@given(ratios, st.data(), st.floats(0.0, 0.6))
def test_a_worse_value_never_makes_a_failure_or_doubt_pass(
    values: list[list[float]], data: st.DataObject, loss: float
) -> None:
    at = data.draw(st.integers(0, len(values) - 1))
    for kind, factor in (("floor", 1 - loss), ("ceiling", 1 + loss)):
        of = limit(kind, value=1.0)  # type: ignore[arg-type]
        worse = [
            [value * factor for value in launch] if index == at else launch
            for index, launch in enumerate(values)
        ]
        before, after = judge(values, of), judge(worse, of)
        assume(not near_an_edge(before) and not near_an_edge(after))
        if before.verdict != "pass":
            assert after.verdict != "pass"


@given(ratios)
def test_a_wider_assumption_never_makes_a_failure(values: list[list[float]]) -> None:
    narrow, wide = judge(values, limit(value=1.0)), judge(values, limit(value=1.0), launch_cv=0.1)
    assert BADNESS[wide.verdict] <= BADNESS[narrow.verdict]


@given(ratios)
def test_every_verdict_is_whole(values: list[list[float]]) -> None:
    for kind in ("floor", "ceiling"):
        decided = judge(values, limit(kind, value=1.0))
        assert decided.observed is not None
        assert decided.difference == pytest.approx(decided.observed - 1)
        assert decided.detectable_loss is not None
        assert decided.detectable_loss >= 0
        assert decided.n_launches == len(values)
        assert decided.n_runs == sum(map(len, values))
        assert decided.source in decided.reason
