"""Whether the candidate fails more requests than its reference."""

from __future__ import annotations

import math
from collections.abc import Mapping

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pytest_llmperf.gates.failures import fail_for_requests, failures_exceed
from pytest_llmperf.records import ClientHealth, RegressionGate, Run


def run(sent: int, failed: Mapping[str, int] | int = 0) -> Run:
    causes = {"timeout": failed} if isinstance(failed, int) and failed else failed or {}
    assert not isinstance(causes, int)
    client = ClientHealth(
        cpu_share=0.1,
        loop_lag_ms_p99=None,
        loop_lag_ms_max=None,
        peak_rss_bytes=1,
        mean_in_flight=None,
    )
    return Run(
        launch_id="a",
        index=0,
        seed=1,
        started_at="2026-11-20T10:00:00+00:00",
        duration_s=1.0,
        valid=True,
        invalid_reasons=(),
        metrics={},
        sent=sent,
        succeeded=sent - sum(causes.values()),
        failed=causes,
        input_tokens_mean=None,
        output_tokens_mean=None,
        reasoning_tokens_mean=None,
        cached_tokens_total=None,
        token_source=None,
        client=client,
    )


def chance(ours: int, sent: int, theirs: int, other: int) -> float:
    """Fisher's exact test in exact numbers."""
    both, all_sent = ours + theirs, sent + other
    ways = sum(
        math.comb(sent, mine) * math.comb(other, both - mine)
        for mine in range(ours, min(both, sent) + 1)
        if both - mine <= other
    )
    return ways / math.comb(all_sent, both)


@given(
    sent=st.integers(1, 400),
    other=st.integers(1, 400),
    ours=st.integers(0, 20),
    theirs=st.integers(0, 20),
)
def test_it_is_fishers_exact_test(sent: int, other: int, ours: int, theirs: int) -> None:
    ours, theirs = min(ours, sent), min(theirs, other)
    exact = chance(ours, sent, theirs, other)
    assume(exact < 0.99)
    for alpha in (exact * 0.999, exact * 1.001):
        told = failures_exceed([run(sent, ours)], [run(other, theirs)], alpha)
        assert (told is not None) == (ours > 0 and alpha > exact)


def test_the_sentence() -> None:
    told = failures_exceed(
        [run(500, {"timeout": 3, "cut": 1}), run(500, {"timeout": 5})], [run(1000, 1)], 0.05
    )
    assert told == (
        "more requests failed than on the reference: 9 of 1000 (8 timeout, 1 cut) against 1 of "
        "1000 (equal servers do so 1 time in 94)"
    )


def test_as_many_failures_on_both_sides_are_no_difference() -> None:
    assert failures_exceed([run(1000, 5)], [run(1000, 5)], 0.01) is None
    assert failures_exceed([run(1000)], [run(1000, 50)], 0.01) is None


def test_what_next_to_never_happens() -> None:
    told = failures_exceed([run(100_000, 90_000)], [run(100_000)], 0.01)
    assert told is not None
    assert told.endswith("(equal servers do so next to never)")


def test_without_requests_there_is_no_evidence() -> None:
    assert failures_exceed([], [run(10)], 0.01) is None
    assert failures_exceed([run(10, 10)], [], 0.01) is None


def test_a_regression_gate_fails_with_its_requests() -> None:
    gate = RegressionGate(
        metric="ttft_p95", loss_to_catch=0.2, allow=0.05, source="gate set in t.py:9"
    )
    decided = fail_for_requests(gate, "requests failed: 9 of 160", "RTX 4090")
    assert (decided.kind, decided.mode, decided.verdict) == ("regression", "ab", "fail")
    assert fail_for_requests(gate, "why", "RTX 4090", mode="history").mode == "history"
    assert (decided.loss_to_catch, decided.allow, decided.limit) == (0.2, 0.05, None)
    assert decided.reason == (
        "requests failed: 9 of 160; the regression gate of p95 TTFT on RTX 4090 fails with them "
        "(gate set in t.py:9)"
    )


@pytest.mark.parametrize("failed", [1, 2])
def test_a_few_failures_of_many_are_luck(failed: int) -> None:
    assert failures_exceed([run(1000, failed)], [run(1000)], 0.01) is None
