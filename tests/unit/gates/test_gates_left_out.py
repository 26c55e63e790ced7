from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.gates.left_out import beside_invalid, with_left_out
from pytest_llmperf.records import Verdict

PASSED = Verdict(
    kind="regression",
    mode="ab",
    metric="tpot_mean",
    unit="ms",
    verdict="pass",
    reason_code="loss_excluded",
    reason="no loss of 3 %",
    source="t.py:1",
)
STOPPED = replace(PASSED, verdict="inconclusive", reason_code="budget")
FAILED = replace(PASSED, verdict="fail", reason_code="loss_shown")


def test_nothing_left_out_changes_nothing() -> None:
    assert with_left_out(PASSED, 0, 0, ()) is PASSED


@pytest.mark.parametrize("verdict", [PASSED, STOPPED])
def test_only_the_candidate_invalid_is_red(verdict: Verdict) -> None:
    found = with_left_out(verdict, 5, 0, ["not steady"])
    assert (found.verdict, found.reason_code, found.covered) == (
        "inconclusive",
        "candidate_invalid",
        False,
    )
    assert "5 launches without a valid run were left out, 5 of the candidate" in found.reason
    assert "not steady" in found.reason


def test_both_sides_alike_are_told_and_a_pass_stands() -> None:
    found = with_left_out(PASSED, 2, 2, ["not steady"])
    assert (found.verdict, found.covered) == ("pass", True)
    assert "4 launches without a valid run" in found.reason


def test_a_failure_stands_whatever_was_left_out() -> None:
    assert with_left_out(FAILED, 9, 0, ["x"]).verdict == "fail"


def test_running_out_of_pairs_for_them_is_not_covered() -> None:
    found = with_left_out(STOPPED, 3, 3, ["not steady"])
    assert (found.reason_code, found.covered) == ("invalid_pairs", False)


def test_a_client_that_was_too_slow_is_as_neutral_as_noise() -> None:
    found = with_left_out(STOPPED, 3, 3, ["client-bound: 97 % of a core"])
    assert (found.reason_code, found.covered) == ("budget", True)


def test_what_all_runs_would_show_is_told_and_decides_nothing() -> None:
    known = replace(PASSED, loss=-0.01)
    found = beside_invalid(known, 0.2)
    assert found == replace(known, reason=found.reason, loss_with_invalid=0.2)
    assert found.reason == "no loss of 3 %; with the runs that did not count: 20 % slower"
    assert beside_invalid(known, None) is known
    assert beside_invalid(PASSED, 0.2) is PASSED


def test_visits_are_called_visits() -> None:
    assert "4 visits without a valid run" in with_left_out(PASSED, 2, 2, ["x"], "visits").reason
