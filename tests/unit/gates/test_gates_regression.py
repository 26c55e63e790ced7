from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gates.design import Design, Prior, design_for
from pytest_llmperf.gates.regression import Pair, judge_ab, state_of
from pytest_llmperf.gates.verdict import is_red
from pytest_llmperf.records import MetricValue, RegressionGate, Verdict

GATE = RegressionGate(
    metric="output_throughput",
    loss_to_catch=0.03,
    allow=0.0,
    source="gate set in tests/perf/test_r1.py:9",
)
UNBOUNDED = MetricValue(value=None, unbounded=True, failed=7)
MISSING = MetricValue(value=None)


def of(metric: str, loss: float = 0.03) -> RegressionGate:
    return replace(GATE, metric=metric, loss_to_catch=loss)


def launch(*values: float) -> list[MetricValue]:
    return [MetricValue(value=value) for value in values]


def compared(ours: Sequence[float], theirs: Sequence[float]) -> list[Pair]:
    """One pair for each two values, of a single run each."""
    return [(launch(mine), launch(other)) for mine, other in zip(ours, theirs, strict=True)]


def around(value: float, pairs: int, spread: float = 0.01) -> list[float]:
    return [value * math.exp(spread if pair % 2 else -spread) for pair in range(pairs)]


def judge(
    pairs: Sequence[Pair],
    gate: RegressionGate = GATE,
    *,
    most: int = 12,
    family: int = 1,
    prior: Prior | None = None,
    changed: Sequence[str] = (),
    invalid_reasons: Sequence[str] = (),
) -> Verdict:
    return judge_ab(
        gate,
        pairs,
        designed(gate, most, family),
        device="RTX 4090",
        against="sglang 0.5.22 (main@1a2b3c)",
        alpha=0.01,
        family=family,
        prior=prior,
        changed=changed,
        invalid_reasons=invalid_reasons,
    )


def designed(gate: RegressionGate = GATE, most: int = 12, family: int = 1) -> Design:
    return design_for(gate, alpha=0.01 / family, max_pairs=most)


# --- sentences and figures -------------------------------------------------------------------


def test_a_failure_in_a_sentence() -> None:
    decided = judge(compared(around(939.0, 6), [1000.0] * 6))
    assert (decided.verdict, decided.reason_code, decided.covered) == ("fail", "loss_shown", True)
    assert decided.reason == (
        "6.1 % slower: output throughput (99 % sure: at least 4.1 %) against sglang 0.5.22 "
        "(main@1a2b3c), 6 interleaved pairs of launches on RTX 4090; gate: catch a loss of 3 % "
        "(gate set in tests/perf/test_r1.py:9)"
    )


def test_the_figures_of_a_failure() -> None:
    decided = judge(compared(around(940.0, 6), [1000.0] * 6), changed=["driver 550 -> 560"])
    assert (decided.kind, decided.mode, decided.unit) == ("regression", "ab", "tok/s")
    assert decided.observed == pytest.approx(940)
    assert decided.reference == pytest.approx(1000)
    assert decided.difference == pytest.approx(-0.06)
    assert decided.loss == pytest.approx(0.06)
    assert decided.loss_low == pytest.approx(0.0397, abs=1e-4)
    assert decided.loss_high == pytest.approx(0.0740, abs=1e-3)
    assert (decided.n_pairs, decided.n_launches, decided.n_runs) == (6, 6, 6)
    assert (decided.look, decided.looks, decided.df) == (2, 5, 5)
    assert (decided.alpha, decided.family) == (0.01, 1)
    assert (decided.loss_to_catch, decided.allow) == (0.03, 0.0)
    assert decided.detectable_loss is not None
    assert 0.015 < decided.detectable_loss < 0.03
    assert decided.changed == ("driver 550 -> 560",)
    assert decided.reason.endswith("; differs: driver 550 -> 560")


def test_a_pass_in_a_sentence() -> None:
    decided = judge(compared(around(998.0, 4, 0.004), [1000.0] * 4))
    assert (decided.verdict, decided.reason_code) == ("pass", "loss_excluded")
    assert decided.reason.startswith(
        "no loss of 3 %: output throughput 0.2 % slower (95 % sure: at worst 1.2 % slower) against "
    )
    better = judge(compared(around(1100.0, 4, 0.004), [1000.0] * 4))
    assert "10 % faster (95 % sure: at least 8.9 % faster)" in better.reason


@pytest.mark.parametrize(
    ("metric", "value", "said"),
    [
        ("ttft_p95", 1061.0, "6.1 % slower: p95 TTFT (99 %"),
        ("accept_length", 939.0, "6.1 % worse: accept length (99 %"),
        ("startup_time", 1061.0, "6.1 % slower: start-up time (99 %"),
    ],
)
def test_each_metric_is_worse_in_its_own_direction(metric: str, value: float, said: str) -> None:
    decided = judge(compared(around(value, 6), [1000.0] * 6), of(metric))
    assert decided.verdict == "fail"
    assert decided.reason.startswith(said)


def test_noise_says_what_would_have_been_seen_and_what_to_do() -> None:
    decided = judge(compared(around(980.0, 12, 0.06), [1000.0] * 12))
    assert (decided.verdict, decided.reason_code, decided.covered) == (
        "inconclusive",
        "noise",
        True,
    )
    assert decided.reason.startswith(
        "12 pairs could show a loss of 8.5 %, the gate wants 3 %; more than 60 pairs "
        "(--llmperf-pairs) would decide at this noise, or a gate on a larger loss, or a quieter "
        "machine: output throughput 2 % slower (99 % sure: no more than 4.4 % faster, 95 % sure: "
        "at worst 6.7 % slower) against "
    )
    assert decided.detectable_loss == pytest.approx(0.085, abs=1e-3)


def test_stopped_for_time_is_neutral() -> None:
    decided = judge(compared(around(980.0, 5, 0.06), [1000.0] * 5))
    assert (decided.verdict, decided.reason_code, decided.covered) == (
        "inconclusive",
        "budget",
        True,
    )
    assert decided.reason.startswith(
        "stopped after 5 of at most 12 pairs, undecided; allow more time (--llmperf-budget): "
        "output throughput 3.2 % slower against "
    )
    assert (decided.look, decided.loss_low, decided.loss_high) == (None, None, None)


def test_stopped_for_invalid_runs_names_them_once() -> None:
    pairs = compared(around(980.0, 3), [1000.0] * 3)
    reason = judge(pairs, invalid_reasons=["the device throttled"] * 3).reason
    assert "(--llmperf-budget); runs left out: the device throttled: output" in reason


def test_one_pair_is_told_without_a_spread() -> None:
    decided = judge(compared([900.0], [1000.0]))
    assert decided.reason_code == "budget"
    assert (decided.sigma, decided.df, decided.detectable_loss) == (None, None, None)
    assert decided.loss == pytest.approx(0.1)
    assert "1 interleaved pair of launches" in decided.reason


def test_too_few_pairs_for_so_many_gates_are_said_to_be() -> None:
    decided = judge(compared(around(900.0, 4), [1000.0] * 4), most=4, family=20)
    assert decided.reason.startswith("4 pairs are too few to show any loss where 20 gates share")
    assert decided.detectable_loss is None


def test_twenty_gates_are_sure_of_more() -> None:
    decided = judge(compared(around(900.0, 12), [1000.0] * 12), family=20)
    assert "(99.95 % sure: at least " in decided.reason
    assert decided.n_pairs == 8


def test_a_tolerated_loss_is_told() -> None:
    decided = judge(compared(around(900.0, 12), [1000.0] * 12), replace(GATE, allow=0.01))
    assert "gate: catch a loss of 3 %, allow 1 % (" in decided.reason


# --- what is a launch, what is a pair ----------------------------------------------------------


def test_the_runs_of_a_launch_are_one_number() -> None:
    several = [(launch(930.0, 950.0), launch(1000.0)) for _ in range(6)]
    decided = judge(several)
    assert decided.observed == pytest.approx(940)
    assert (decided.n_launches, decided.n_runs) == (6, 12)


def test_a_pair_without_a_valid_run_is_left_out() -> None:
    pairs = compared(around(940.0, 7), [1000.0] * 7)
    lacking: list[Pair] = [([], launch(1.0)), (launch(5000.0), []), *pairs]
    assert judge(lacking) == judge(pairs)


def test_what_comes_after_a_decision_changes_nothing() -> None:
    decided = compared(around(1000.0, 4, 0.002), [1000.0] * 4)
    more = compared(around(500.0, 8), [1000.0] * 8)
    assert judge([*decided, *more]) == judge(decided)


@given(st.floats(1e-3, 1e3), st.lists(st.floats(0.9, 1.1), min_size=4, max_size=12))
def test_the_unit_does_not_matter(scale: float, ratios: list[float]) -> None:
    plain = judge(compared([1000 * ratio for ratio in ratios], [1000.0] * len(ratios)))
    scaled = judge(
        compared([1000 * ratio * scale for ratio in ratios], [1000.0 * scale] * len(ratios))
    )
    assert plain.verdict == scaled.verdict
    assert plain.loss == pytest.approx(scaled.loss, abs=1e-9)


@given(st.lists(st.floats(0.9, 1.1), min_size=4, max_size=12))
def test_both_directions_are_mirror_images(ratios: list[float]) -> None:
    """As much more latency on the log scale as less throughput: equally bad, but for the gates'
    own wishes, which are fractions."""
    ones = [1000.0] * len(ratios)
    lower = designed(of("ttft_p95"))
    same = designed()
    ours = state_of(of("ttft_p95"), compared([1000 * r for r in ratios], ones), lower)
    other = state_of(GATE, compared(ones, [1000 * r for r in ratios]), same)
    assert (ours.loss is None) == (other.loss is None)
    if ours.loss is not None and other.loss is not None and ours.pairs == other.pairs:
        assert lower.shift(ours.loss) == pytest.approx(same.shift(other.loss), abs=1e-9)


@pytest.mark.parametrize("pairs", range(13))
def test_the_driver_launches_until_the_judge_would_decide(pairs: int) -> None:
    measured = compared(around(980.0, pairs, 0.03), [1000.0] * pairs)
    state = state_of(GATE, measured, designed())
    if pairs == 0:
        assert (state.word, state.code) == (None, "more")
        return
    verdict = judge(measured)
    assert (state.word is None) == (verdict.reason_code == "budget")
    assert state.word in (verdict.verdict, None)


def test_a_prior_is_handed_on() -> None:
    pairs = compared(around(1000.0, 4), [1000.0] * 4)
    assert judge(pairs, prior=Prior(sigma=0.02, df=30)).df == 9
    assert state_of(GATE, pairs, designed(), Prior(sigma=0.02, df=30)).df == 9


# --- nothing to compare: each fails closed -----------------------------------------------------

GOOD = compared([1000.0] * 5, [1000.0] * 5)


def broken(ours: MetricValue, theirs: MetricValue, metric: str) -> Verdict:
    return judge([*GOOD, ([ours], [theirs])], of(metric))


@pytest.mark.parametrize("metric", ["output_throughput", "ttft_p95", "success_rate"])
@pytest.mark.parametrize(
    ("ours", "theirs", "verdict", "code"),
    [
        (UNBOUNDED, MetricValue(value=1.0), "fail", "unbounded"),
        (UNBOUNDED, MISSING, "fail", "unbounded"),
        (MetricValue(value=1.0), UNBOUNDED, "inconclusive", "reference_unbounded"),
        (UNBOUNDED, UNBOUNDED, "inconclusive", "both_unbounded"),
        (MISSING, MetricValue(value=1.0), "inconclusive", "not_measured"),
        (MetricValue(value=1.0), MISSING, "inconclusive", "not_measured"),
        (MISSING, MISSING, "inconclusive", "not_measured"),
        (MetricValue(value=math.nan), MetricValue(value=1.0), "inconclusive", "impossible"),
        (MetricValue(value=1.0), MetricValue(value=math.inf), "inconclusive", "impossible"),
        (MetricValue(value=-1.0), MetricValue(value=1.0), "inconclusive", "impossible"),
        (MetricValue(value=1.0), MetricValue(value=0.0), "inconclusive", "zero"),
        (MetricValue(value=0.0), MetricValue(value=0.0), "inconclusive", "zero"),
    ],
)
def test_without_two_numbers_it_is_red(
    ours: MetricValue, theirs: MetricValue, verdict: str, code: str, metric: str
) -> None:
    """Even where four pairs before it have passed."""
    decided = broken(ours, theirs, metric)
    assert (decided.verdict, decided.reason_code) == (verdict, code)
    assert is_red(decided, strict=False)
    assert decided.n_pairs == 6
    assert "tests/perf/test_r1.py:9" in decided.reason
    state = state_of(of(metric), [*GOOD, ([ours], [theirs])], designed(of(metric)))
    assert (state.word, state.code) == (verdict, code), "more launches would not mend it"


def test_a_standstill_is_the_candidates_failure() -> None:
    stopped = broken(MetricValue(value=0.0), MetricValue(value=1.0), "output_throughput")
    assert (stopped.verdict, stopped.reason_code) == ("fail", "standstill")
    one_run = judge([*GOOD, (launch(0.0, 1000.0), launch(1000.0))])
    assert one_run.reason_code == "standstill"
    no_time = broken(MetricValue(value=0.0), MetricValue(value=1.0), "ttft_p95")
    assert (no_time.verdict, no_time.reason_code, no_time.covered) == (
        "inconclusive",
        "zero",
        False,
    )


def test_a_run_without_the_metric_beside_one_with_it_does_not_hurt() -> None:
    pairs: list[Pair] = [([MISSING, *launch(1000.0)], launch(1000.0)) for _ in range(4)]
    assert judge(pairs).verdict == "pass"


def test_the_sentences_name_the_side() -> None:
    assert broken(UNBOUNDED, MetricValue(value=1.0), "ttft_p95").reason.startswith(
        "p95 TTFT is unbounded: requests failed, up to 7 in a run, and none of the reference's; "
        "against sglang 0.5.22"
    )
    assert broken(MISSING, MetricValue(value=1.0), "tpot_p50").reason.startswith(
        "p50 TPOT was not measured in 1 of 6 launches of the candidate; see whether"
    )
    assert "is zero of the reference: no loss in percent" in (
        broken(MetricValue(value=1.0), MetricValue(value=0.0), "goodput").reason
    )


def test_no_pairs_at_all() -> None:
    nothing = judge([])
    assert (nothing.reason_code, nothing.covered) == ("no_valid_runs", False)
    assert "nothing was measured" in nothing.reason
    invalid = judge([([], [])], invalid_reasons=["prefix cache helped"])
    assert (invalid.reason_code, invalid.covered) == ("no_valid_runs", False)
    busy = judge([], invalid_reasons=["client-bound: 99 % of a core"])
    assert (busy.reason_code, busy.covered) == ("client_bound", True)
    unknown = judge([], invalid_reasons=["clock-error: known to 5 ms"])
    assert (unknown.reason_code, unknown.covered) == ("clock_error", False)


def test_a_count_that_never_changes_passes() -> None:
    assert judge(compared([1.0] * 4, [1.0] * 4), of("success_rate")).verdict == "pass"


def test_a_count_that_drops_fails() -> None:
    decided = judge(compared([0.9] * 6, [1.0] * 6), of("success_rate"))
    assert decided.verdict == "fail"
    assert decided.reason.startswith("10 % worse: success rate")
