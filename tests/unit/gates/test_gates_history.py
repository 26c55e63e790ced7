from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gates.history import LEARNING, judge_history
from pytest_llmperf.gates.verdict import is_red
from pytest_llmperf.records import MetricValue, RegressionGate, Verdict

GATE = RegressionGate(
    metric="output_throughput",
    loss_to_catch=0.15,
    allow=0.0,
    source="gate set in tests/perf/test_r1.py:9",
)
#: Ten sessions of two launches around 1000, some 1 % apart, none of them far from the others.
STEADY: list[list[float]] = [
    [1000 + 2 * step, 1000 + 3 * step] for step in (-6, -4, -3, -2, -1, 1, 2, 3, 4, 6)
]


def launches(*values: float) -> list[list[MetricValue]]:
    """One launch of a single run for each value."""
    return [[MetricValue(value=value)] for value in values]


def judge(
    fresh: Sequence[Sequence[MetricValue]],
    accepted: Sequence[Sequence[float]] = STEADY,
    gate: RegressionGate = GATE,
    *,
    family: int = 1,
    changed: Sequence[str] = (),
    invalid_reasons: Sequence[str] = (),
) -> Verdict:
    return judge_history(
        gate,
        fresh,
        accepted,
        alpha=0.01,
        family=family,
        device="RTX 4090",
        against="the level accepted on 2026-11-01",
        changed=changed,
        invalid_reasons=invalid_reasons,
    )


def test_a_failure_in_a_sentence() -> None:
    decided = judge(launches(895.0, 905.0), changed=["driver 550 -> 560"])
    assert (decided.verdict, decided.reason_code, decided.covered) == ("fail", "loss_shown", True)
    assert decided.reason == (
        "10 % slower: output throughput (99 % sure: at least 7.4 %) against the level accepted on "
        "2026-11-01, 2 launches and 10 stored sessions on RTX 4090; gate: catch a loss of 15 % "
        "(gate set in tests/perf/test_r1.py:9); differs: driver 550 -> 560"
    )
    assert decided.changed == ("driver 550 -> 560",)


def test_the_figures_are_those_of_a_prediction() -> None:
    logs = [sum(math.log(value) for value in session) / 2 for session in STEADY]
    spread = float(np.std(logs, ddof=1))
    decided = judge(launches(995.0, 1005.0))
    assert (decided.kind, decided.mode, decided.verdict) == ("regression", "history", "pass")
    assert decided.reference == pytest.approx(math.exp(np.mean(logs)))
    assert decided.observed == pytest.approx(math.sqrt(995 * 1005))
    assert (decided.df, decided.look, decided.looks) == (9, 1, 1)
    assert (decided.n_launches, decided.n_runs, decided.n_pairs) == (2, 2, 0)
    assert decided.sigma == pytest.approx(spread)
    shift = float(np.mean(logs)) - math.log(995 * 1005) / 2
    low = shift - 2.821438 * spread * math.sqrt(1 + 1 / 10)
    assert decided.loss_low == pytest.approx(-math.expm1(-low), rel=1e-4)
    assert decided.reason.startswith("no loss of 15 %: output throughput 0.0")


def test_eight_sessions_at_three_percent_see_about_fifteen() -> None:
    steps = np.array([-1.4, -0.9, -0.5, -0.2, 0.2, 0.5, 0.9, 1.4])
    sessions = [[value] for value in 1000 * np.exp(0.03 * steps / steps.std(ddof=1))]
    decided = judge(launches(1000.0), sessions, replace(GATE, loss_to_catch=0.03))
    assert decided.detectable_loss == pytest.approx(0.14, abs=0.015)
    assert (decided.verdict, decided.reason_code, decided.covered) == (
        "inconclusive",
        "noise",
        True,
    )
    assert decided.reason.startswith("this history shows a loss of 1")
    assert "9 times in 10, the gate wants 3 %; a comparison with a reference" in decided.reason


def test_a_latency_is_worse_when_it_grows() -> None:
    gate = replace(GATE, metric="ttft_p95")
    assert judge(launches(1200.0), gate=gate).verdict == "fail"
    assert judge(launches(800.0), gate=gate).verdict == "pass"
    assert judge(launches(800.0)).verdict == "fail"


def test_many_launches_of_a_session_are_still_one_session() -> None:
    """Thirty launches in a slow hour are no more certain of the day than two."""
    few, many = judge(launches(980.0, 984.0)), judge(launches(*[980.0, 984.0] * 15))
    assert few.loss_low == pytest.approx(many.loss_low)
    assert few.sigma == pytest.approx(many.sigma)


def test_fewer_launches_than_usual_are_less_certain() -> None:
    wide = [[980.0 + step, 1020.0 + step] for step in range(10)]
    one, two = judge(launches(1004.0), wide), judge(launches(990.0, 1018.0), wide)
    assert one.sigma is not None
    assert two.sigma is not None
    assert one.sigma > two.sigma


def test_a_session_is_no_steadier_than_its_own_launches_show() -> None:
    calm, wild = judge(launches(900.0, 900.0)), judge(launches(700.0, 1157.0))
    assert calm.verdict == "fail"
    assert wild.verdict == "inconclusive"


@given(st.floats(1e-3, 1e3), st.floats(0.7, 1.3))
def test_the_unit_does_not_matter(scale: float, ratio: float) -> None:
    plain = judge(launches(1000 * ratio))
    scaled = judge(
        launches(1000 * ratio * scale),
        [[value * scale for value in session] for session in STEADY],
    )
    assert plain.verdict == scaled.verdict
    assert plain.loss_low == pytest.approx(scaled.loss_low, abs=1e-9)


@given(st.floats(0.5, 1.5), st.floats(0.5, 1.0))
def test_slower_never_turns_a_failure_into_a_pass(ratio: float, slower: float) -> None:
    before, after = judge(launches(1000 * ratio)), judge(launches(1000 * ratio * slower))
    if before.verdict == "fail":
        assert after.verdict == "fail"
    if after.verdict == "pass":
        assert before.verdict == "pass"


# --- too little, and of two kinds ------------------------------------------------------------


@pytest.mark.parametrize("sessions", [1, 3, LEARNING - 1])
def test_below_eight_sessions_it_learns(sessions: int) -> None:
    decided = judge(launches(100.5), STEADY[:sessions])
    assert (decided.verdict, decided.reason_code, decided.covered) == (
        "inconclusive",
        "learning",
        True,
    )
    assert decided.reason.startswith(f"LEARNING {sessions}/8 sessions: output throughput 89.")
    assert decided.loss == pytest.approx(0.9, abs=0.01)
    assert (decided.loss_low, decided.look) == (None, None)
    assert (decided.detectable_loss is None) == (sessions == 1)


def test_eight_sessions_are_enough() -> None:
    assert judge(launches(500.0), STEADY[1:9]).verdict == "fail"


def test_sessions_of_two_kinds_are_not_judged() -> None:
    slow = [[value * 0.8 for value in session] for session in STEADY[5:]]
    two_kinds = [*STEADY[:5], *slow]
    for value in (1000.0, 800.0, 500.0):
        decided = judge(launches(value), two_kinds)
        assert (decided.verdict, decided.reason_code) == ("inconclusive", "bimodal_history")
        assert decided.covered
        assert decided.reason.startswith("sessions are of two kinds, so none is judged")


def test_a_session_like_the_odd_one_is_of_its_kind() -> None:
    """One slow session is on record: a second one is no news of the code."""
    with_odd = [*STEADY, [800.0, 802.0]]
    assert judge(launches(801.0), with_odd).reason_code == "bimodal_history"
    assert judge(launches(1000.0), with_odd).reason_code != "bimodal_history"
    assert judge(launches(801.0)).verdict == "fail"


# --- nothing to compare: each fails closed -----------------------------------------------------


@pytest.mark.parametrize("accepted", [[], [[], []]])
def test_no_level_is_red_and_says_how_to_accept_one(accepted: list[list[float]]) -> None:
    decided = judge(launches(1000.0), accepted)
    assert (decided.verdict, decided.reason_code) == ("inconclusive", "no_level")
    assert is_red(decided, strict=False)
    assert decided.reason.startswith("no accepted level for output throughput on RTX 4090: accept")
    assert "--llmperf-update-baseline" in decided.reason
    assert "pytest-llmperf baseline accept" in decided.reason


@pytest.mark.parametrize("sessions", [1, 10])
@pytest.mark.parametrize(
    ("value", "verdict", "code"),
    [
        (MetricValue(value=None, unbounded=True, failed=3), "fail", "unbounded"),
        (MetricValue(value=None), "inconclusive", "not_measured"),
        (MetricValue(value=math.nan), "inconclusive", "impossible"),
        (MetricValue(value=-5.0), "inconclusive", "impossible"),
        (MetricValue(value=0.0), "fail", "standstill"),
    ],
)
def test_without_a_number_it_is_red_even_while_learning(
    value: MetricValue, verdict: str, code: str, sessions: int
) -> None:
    decided = judge([*launches(1000.0), [value]], STEADY[:sessions])
    assert (decided.verdict, decided.reason_code) == (verdict, code)
    assert is_red(decided, strict=False)


def test_a_latency_of_zero_is_no_measurement() -> None:
    decided = judge(launches(0.0), gate=replace(GATE, metric="ttft_p95"))
    assert (decided.reason_code, decided.covered) == ("zero", False)


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_a_level_of_impossible_values_is_red(value: float) -> None:
    decided = judge(launches(1000.0), [*STEADY, [value]])
    assert (decided.reason_code, decided.covered) == ("impossible_level", False)


def test_no_valid_run() -> None:
    assert judge([]).reason_code == "no_valid_runs"
    assert is_red(judge([[]]), strict=False)
    busy = judge([], invalid_reasons=["client-bound: 99 % of a core"])
    assert (busy.reason_code, busy.covered) == ("client_bound", True)


# --- how often it cries wolf, and how often it sees --------------------------------------------

REPETITIONS = 500


def ended(
    loss: float, sessions: int, *, stored: int = 2, fresh: int = 2, kinds: bool = False
) -> dict[str, int]:
    """Sessions differ by 3 %, launches by 1 %; with ``kinds`` half of the sessions are slow."""
    rng = np.random.default_rng(5)
    luck = rng.normal(0.0, 0.03, (REPETITIONS, sessions + 1, 1))
    if kinds:
        luck -= 0.3 * rng.integers(0, 2, luck.shape)
    past = np.exp(luck[:, 1:] + rng.normal(0.0, 0.01, (REPETITIONS, sessions, stored)))
    now = np.exp(luck[:, 0] + rng.normal(0.0, 0.01, (REPETITIONS, fresh))) * (1 - loss)
    words = [
        judge(launches(*values), history).verdict
        for values, history in zip(now.tolist(), past.tolist(), strict=True)
    ]
    return {word: words.count(word) for word in ("fail", "pass", "inconclusive")}


def above(rate: float) -> float:
    """More than this many of REPETITIONS come by chance less often than once in a million."""
    return REPETITIONS * rate + 5.5 * math.sqrt(REPETITIONS * rate) + 6


@pytest.mark.parametrize(("sessions", "stored", "fresh"), [(8, 2, 2), (12, 1, 4), (8, 4, 1)])
def test_false_alarms_and_misses(sessions: int, stored: int, fresh: int) -> None:
    unchanged = ended(0.0, sessions, stored=stored, fresh=fresh)
    lost = ended(0.15, sessions, stored=stored, fresh=fresh)
    assert unchanged["fail"] < above(0.01)
    assert lost["pass"] < above(0.05)
    assert lost["fail"] > REPETITIONS * 0.6


def test_two_kinds_of_sessions_raise_no_alarms() -> None:
    ends = ended(0.0, 12, kinds=True)
    assert ends["fail"] < above(0.01)
    assert ends["inconclusive"] > REPETITIONS * 0.9
