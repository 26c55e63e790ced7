"""Which attempt at the same question a session is."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from pytest_llmperf.records import Judged, LaunchValues, Observation, Verdict, VerdictWord
from pytest_llmperf.session.attempts import RERUN_HOURS, attempt_at

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PASSED = Verdict(
    kind="regression",
    mode="ab",
    metric="tpot_mean",
    unit="ms",
    verdict="pass",
    reason_code="loss_excluded",
    reason="no loss",
    source="t.py:1",
)


def observed(word: VerdictWord, hours_ago: float, sequence: str = "s") -> Observation:
    judged = Judged(kind="regression", metric="tpot_mean", verdict=word, sequence=sequence)
    return Observation(
        id=f"{word}{hours_ago}",
        key="k",
        created=(NOW - timedelta(hours=hours_ago)).isoformat(),
        test="t.py::a",
        workload="w",
        environment={},
        subject={},
        block={},
        launches=(LaunchValues(launch_id="l", started_at="", runs=1, metrics={}),),
        judged=(judged,),
    )


def test_each_rerun_halves_what_is_left() -> None:
    attempt = attempt_at("s", [observed("pass", 3), observed("pass", 2)], NOW)
    assert (attempt.number, attempt.share(0.01)) == (3, 0.0025)
    assert "attempt 3 on this commit" in attempt.told(PASSED).reason


@pytest.mark.parametrize("words", [("inconclusive",), ()])
def test_sessions_that_decided_nothing_do_not_count(words: tuple[VerdictWord, ...]) -> None:
    assert attempt_at("s", [observed(word, 1) for word in words], NOW).number == 1


def test_another_question_does_not_count() -> None:
    assert attempt_at("s", [observed("pass", 1, "other")], NOW).number == 1
    assert attempt_at("", [observed("pass", 1, "")], NOW).number == 1


def test_nightly_sessions_of_an_unchanged_commit_do_not_go_blind() -> None:
    nights = [observed("pass", 24 * number) for number in range(10, 0, -1)]
    attempt = attempt_at("s", nights, NOW)
    assert attempt.number == 1
    assert attempt.told(PASSED).reason == PASSED.reason


def test_a_failure_stands_however_old_it_is() -> None:
    attempt = attempt_at("s", [observed("fail", RERUN_HOURS + 100)], NOW)
    noise = replace(PASSED, verdict="inconclusive", reason_code="noise")
    told = attempt.told(noise)
    assert (told.verdict, told.reason_code) == ("fail", "failed_before")
    # only a session that passes clears it
    assert attempt.told(PASSED).verdict == "pass"
