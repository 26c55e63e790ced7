"""What sessions leave to the next one of a comparison with a named release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest

from pytest_llmperf.gates.design import design_for
from pytest_llmperf.gates.regression import Pair
from pytest_llmperf.records import (
    Json,
    Judged,
    LaunchValues,
    MetricValue,
    Observation,
    RegressionGate,
    Verdict,
)
from pytest_llmperf.session.anchor import attempt_after, judged_after, sequence_with
from pytest_llmperf.session.attempts import Attempt, Nights
from pytest_llmperf.session.comparison import Comparison
from pytest_llmperf.store import open_sessions

MOST = 8
GATE = RegressionGate(metric="tpot_mean", loss_to_catch=0.05, allow=0.0, source="t.py:1")
UNDECIDED = Verdict(
    kind="regression",
    mode="ab",
    metric="tpot_mean",
    unit="ms",
    verdict="inconclusive",
    reason_code="accumulating",
    reason="undecided",
    source="t.py:1",
)
FAILED = replace(UNDECIDED, verdict="fail", reason_code="loss_shown")
PASSED = replace(UNDECIDED, verdict="pass", reason_code="loss_excluded")
NOISE = replace(UNDECIDED, reason_code="noise")


def compared(pairs: Sequence[Pair]) -> Comparison:
    return Comparison(
        against="v1",
        changed=(),
        refusal=None,
        pairs=lambda metric: list(pairs),
        design=lambda gate: design_for(gate, alpha=0.001, max_pairs=MOST),
        priors={},
        left_out={"candidate": 0, "reference": 0},
    )


def two(value: float) -> list[Pair]:
    return [([MetricValue(value=value)], [MetricValue(value=1.0)])] * 2


@dataclass
class Suite:
    """One test, night after night."""

    nights: list[Observation]
    so_far: int = 0

    def attempt(self) -> Attempt:
        return attempt_after("s", self.nights, MOST)

    def night(self, verdict: Verdict, pairs: Sequence[Pair] | None = None) -> Judged:
        attempt = self.attempt()
        assert attempt.nights is not None
        told = attempt.told(verdict)
        self.so_far += 1
        pairs = two(float(self.so_far)) if pairs is None else pairs
        judged = judged_after(told, attempt, attempt.nights, compared(pairs))
        self.nights.append(observed(judged, self.so_far))
        return judged


def observed(judged: Judged, night: int) -> Observation:
    return Observation(
        id=f"n{night}",
        key="k",
        created=f"2026-11-{night:02}T02:00:00+00:00",
        test="t.py::a",
        workload="w",
        environment={},
        subject={},
        block={},
        launches=(LaunchValues(launch_id="l", started_at="", runs=1, metrics={}),),
        judged=(judged,),
    )


@pytest.fixture
def suite() -> Suite:
    return Suite([])


def test_nights_add_their_pairs_in_order(suite: Suite) -> None:
    for _ in range(3):
        suite.night(UNDECIDED)
    assert [night.judged[0].before for night in suite.nights] == [0, 2, 4]
    nights = suite.attempt().nights
    assert nights is not None
    assert nights.pairs == ((1.0, 1.0), (1.0, 1.0), (2.0, 1.0), (2.0, 1.0), (3.0, 1.0), (3.0, 1.0))
    assert (nights.since, nights.missing) == ("2026-11-01", 0)


@pytest.mark.parametrize("verdict", [PASSED, FAILED, NOISE])
def test_what_is_decided_ends_a_sequence(suite: Suite, verdict: Verdict) -> None:
    suite.night(UNDECIDED)
    assert suite.night(verdict).ended
    assert suite.attempt().nights == Nights(most_pairs=MOST)


def test_the_last_pair_ends_a_sequence(suite: Suite) -> None:
    ended = [suite.night(UNDECIDED).ended for _ in range(5)]
    assert ended == [False, False, False, True, False]


def test_a_failure_stands_until_a_later_sequence_passes(suite: Suite) -> None:
    suite.night(UNDECIDED)
    suite.night(FAILED)
    told = suite.attempt().told(UNDECIDED)
    assert (told.verdict, told.reason_code) == ("fail", "failed_before")
    assert "on 2026-11-02" in told.reason
    suite.night(UNDECIDED)
    assert suite.attempt().told(UNDECIDED).verdict == "fail"
    suite.night(PASSED)
    assert suite.attempt().told(UNDECIDED).verdict == "inconclusive"


def test_asking_again_costs_nothing_since_it_adds_pairs(suite: Suite) -> None:
    for _ in range(3):
        suite.night(PASSED)
    assert suite.attempt().share(0.001) == 0.001


def test_nights_that_are_gone_are_missed(suite: Suite) -> None:
    for _ in range(3):
        suite.night(UNDECIDED)
    del suite.nights[1]
    nights = suite.attempt().nights
    assert nights is not None
    assert nights.missing == 2
    assert suite.night(UNDECIDED).before == 0  # a new one begins
    nights = suite.attempt().nights
    assert nights is not None
    assert (nights.missing, len(nights.pairs)) == (0, 2)


def test_a_night_without_its_first_is_missed(suite: Suite) -> None:
    for _ in range(2):
        suite.night(UNDECIDED)
    del suite.nights[0]
    nights = suite.attempt().nights
    assert nights is not None
    assert nights.missing == 2


@pytest.mark.parametrize(
    "launch",
    [[], [MetricValue(value=None)], [MetricValue(value=0.0)], [MetricValue(value=float("inf"))]],
)
def test_only_pairs_of_two_positive_numbers_are_kept(
    suite: Suite, launch: list[MetricValue]
) -> None:
    one = [MetricValue(value=2.0), MetricValue(value=4.0)]
    assert suite.night(UNDECIDED, [(one, launch), (launch, one), (one, one)]).pairs == ((3.0, 3.0),)


def test_the_question_is_the_release_by_name_and_by_what_runs() -> None:
    code: dict[str, Json] = {"code": {"sglang": {"digest": "a", "head": "1"}}}
    asked = sequence_with("v1", GATE, MOST, code)
    assert asked == sequence_with("v1", GATE, MOST, {"code": {"sglang": {"digest": "a"}}})
    others = [
        sequence_with("v2", GATE, MOST, code),
        sequence_with("v1", replace(GATE, loss_to_catch=0.1), MOST, code),
        sequence_with("v1", GATE, MOST + 2, code),
        sequence_with("v1", GATE, MOST, {"code": {"sglang": {"digest": "b"}}}),
    ]
    assert len({asked, *others}) == 5


def test_sessions_of_an_undecided_sequence_are_told_from_the_others(suite: Suite) -> None:
    suite.night(UNDECIDED)
    suite.night(PASSED)
    suite.night(UNDECIDED)
    suite.night(UNDECIDED)
    assert open_sessions(suite.nights) == {"n3", "n4"}
    suite.night(NOISE)
    assert open_sessions(suite.nights) == set()


def test_a_sequence_begun_anew_lets_go_of_the_old_one(suite: Suite) -> None:
    for _ in range(3):
        suite.night(UNDECIDED)
    del suite.nights[1]
    suite.night(UNDECIDED)
    assert open_sessions(suite.nights) == {"n4"}
