from __future__ import annotations

import pytest

from pytest_llmperf.gates.failures import fail_for_requests, failures_recur, should_repeat
from pytest_llmperf.gates.verdict import headline, is_red, message, no_comparison, worst_first
from pytest_llmperf.records import (
    ClientHealth,
    Limit,
    RegressionGate,
    Run,
    Verdict,
    VerdictWord,
)


def verdict(
    word: VerdictWord, reason: str = "", *, covered: bool = True, difference: float | None = None
) -> Verdict:
    return Verdict(
        kind="floor",
        mode="limits",
        metric="output_throughput",
        unit="tok/s",
        verdict=word,
        reason_code="x",
        reason=reason or word,
        source="t.py:1",
        covered=covered,
        difference=difference,
    )


PASS = verdict("pass", "fast")
NOISE = verdict("inconclusive", "noisy")
HOLE = verdict("inconclusive", "no limit for cpu", covered=False)
SLOW = verdict("fail", "−4 % under floor", difference=-0.04)
SLOWER = verdict("fail", "−30 % under floor", difference=-0.3)
STOPPED = verdict("fail", "p95 TTFT is unbounded")


@pytest.mark.parametrize(
    ("decided", "strict", "red"),
    [
        (PASS, False, False),
        (PASS, True, False),
        (NOISE, False, False),
        (NOISE, True, True),
        (HOLE, False, True),
        (HOLE, True, True),
        (SLOW, False, True),
        (SLOW, True, True),
    ],
)
def test_what_is_red(decided: Verdict, strict: bool, red: bool) -> None:
    assert is_red(decided, strict) is red


def test_the_worst_comes_first() -> None:
    found = worst_first([PASS, NOISE, SLOW, HOLE, SLOWER, STOPPED])
    assert found == [STOPPED, SLOWER, SLOW, HOLE, NOISE, PASS]


def test_headlines_begin_with_the_verdict() -> None:
    assert headline(SLOW) == "−4 % under floor"
    assert headline(PASS) == "pass: fast"
    assert headline(NOISE) == "inconclusive: noisy"
    assert headline(HOLE) == "not covered: no limit for cpu"


def test_a_message_tells_the_worst_and_then_all() -> None:
    assert message([PASS, SLOW, HOLE, SLOWER]).splitlines() == [
        "−30 % under floor (+2 more)",
        "−4 % under floor",
        "not covered: no limit for cpu",
        "pass: fast",
    ]
    assert message([SLOW, PASS]).splitlines()[0] == "−4 % under floor"
    with pytest.raises(ValueError, match="no verdicts"):
        message([])


def test_a_regression_gate_with_nothing_to_compare_with_is_no_silent_pass() -> None:
    gate = RegressionGate(
        metric="ttft_p95", loss_to_catch=0.2, allow=0.01, source="gate set in t.py:9"
    )
    decided = no_comparison(gate, "no_reference", "nothing to compare with", covered=False)
    assert is_red(decided, strict=False)
    assert (decided.kind, decided.mode, decided.reason_code) == ("regression", "ab", "no_reference")
    assert (decided.loss_to_catch, decided.allow) == (0.2, 0.01)
    assert headline(decided) == "not covered: nothing to compare with (gate set in t.py:9)"


# --- failed requests -------------------------------------------------------------------------


def run(failed: dict[str, int], *, index: int = 0, launch: str = "a") -> Run:
    return Run(
        launch_id=launch,
        index=index,
        seed=1,
        started_at="2026-11-20T10:00:00+00:00",
        duration_s=1.0,
        valid=True,
        invalid_reasons=(),
        metrics={},
        sent=160,
        succeeded=160 - sum(failed.values()),
        failed=failed,
        input_tokens_mean=None,
        output_tokens_mean=None,
        reasoning_tokens_mean=None,
        cached_tokens_total=None,
        token_source=None,
        client=ClientHealth(
            cpu_share=0.1,
            loop_lag_ms_p99=None,
            loop_lag_ms_max=None,
            peak_rss_bytes=1,
            mean_in_flight=None,
        ),
    )


@pytest.mark.parametrize(("failed", "again"), [(0, False), (1, True), (2, True), (3, False)])
def test_few_failures_are_tried_once_more(failed: int, again: bool) -> None:
    assert should_repeat(run({"cut": failed} if failed else {})) is again


def test_failures_that_recur_are_told() -> None:
    runs = [run({"http_500": 2}), run({"cut": 1})]
    assert failures_recur(runs) == "requests failed in two runs in a row: 1 of 160 (cut)"


def test_failures_that_do_not_recur_are_forgiven() -> None:
    assert failures_recur([run({"cut": 1}), run({})]) is None
    assert failures_recur([run({"cut": 1}), run({}), run({"cut": 1}, index=1)]) is None
    assert failures_recur([run({"cut": 1}), run({"cut": 1}, launch="b")]) is None
    assert failures_recur([]) is None


def test_many_failures_count_at_once() -> None:
    assert failures_recur([run({"cut": 2, "http_500": 3})]) == (
        "requests failed: 5 of 160 (3 http_500, 2 cut)"
    )


def test_a_gate_fails_for_failed_requests() -> None:
    floor = Limit(
        kind="floor", metric="output_throughput", limit=1800, on=None, source="floor set in t.py:7"
    )
    why = "requests failed in two runs in a row: 1 of 160 (cut)"
    decided = fail_for_requests(floor, why, "RTX 4090")
    assert (decided.verdict, decided.reason_code) == ("fail", "requests_failed")
    assert decided.reason == (
        f"{why}; the floor of output throughput on RTX 4090 fails with them (floor set in t.py:7)"
    )
