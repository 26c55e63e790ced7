"""What --llmperf-require finds missing, from what a session set out to do and what arrived."""

from __future__ import annotations

from typing import Any

import pytest

from pytest_llmperf.judging_options import Scope
from pytest_llmperf.records import Judged, Level, Observation
from pytest_llmperf.session.required import Gate, Known, Roll, known_gates, shortcomings

A, B = "perf/test_a.py::test_a", "perf/test_b.py::test_b[1]"
ALL = Scope(given="perf", nodeid="perf")


def gate(test: str = A, metric: str = "tpot_mean", kind: str = "regression") -> Gate:
    return Gate(test=test, kind=kind, metric=metric)


def fragment(test: str = A, outcome: str = "passed", **verdict: object) -> dict[str, Any]:
    entry = {"test": test, "kind": "regression", "metric": "tpot_mean", "covered": True}
    entry |= {"verdict": "pass", "reason_code": "loss_excluded"} | verdict
    gates = [] if outcome == "skipped" else [entry]
    return {"tests": [{"test": test, "outcome": outcome}], "gates": gates}


def missing(
    *fragments: dict[str, Any],
    declared: tuple[Gate, ...] = (gate(),),
    selected: tuple[str, ...] = (A,),
    known: tuple[Known, ...] = (),
    scope: Scope = ALL,
    **endings: str,
) -> list[str]:
    roll = Roll(declared=set(declared), selected=set(selected))
    return shortcomings(scope, roll, known, fragments, endings, "perf store")


@pytest.mark.parametrize(
    ("nodeid", "covers"),
    [
        ("", {A, B}),
        ("perf", {A, B}),
        ("perf/test_a.py", {A}),
        (A, {A}),
        ("perf/test_b.py::test_b", {B}),
        (B, {B}),
        ("perf/test", set()),
        ("per", set()),
    ],
)
def test_a_scope_covers_whole_names_only(nodeid: str, covers: set[str]) -> None:
    scope = Scope(given="x", nodeid=nodeid)
    assert {each for each in (A, B) if scope.covers(each)} == covers


def test_everything_judged_is_nothing_missing() -> None:
    assert missing(fragment()) == []
    assert missing(fragment(outcome="slow", verdict="fail")) == []


@pytest.mark.parametrize(
    ("fragments", "selected", "why"),
    [
        ([], (), "the test was deselected"),
        ([fragment(outcome="skipped")], (A,), "the test was skipped"),
        ([fragment(outcome="xfailed", covered=False)], (A,), "expected to fail"),
        ([], (A,), "never came to its end"),
    ],
)
def test_a_collected_gate_that_did_not_run(
    fragments: list[dict[str, Any]], selected: tuple[str, ...], why: str
) -> None:
    (said,) = missing(*fragments, selected=selected)
    assert said.startswith(f"{A}: its gate on mean TPOT did not run, ")
    assert why in said


def test_a_red_test_tells_itself_why() -> None:
    assert missing(fragment(outcome="broken", covered=False), fragment(B)) == []


def test_groups_that_xdist_writes_behind_names_do_no_harm() -> None:
    roll = Roll(declared={gate()})
    roll.select([f"{A}@llmperf", f"{B}@mine_llmperf", "x.py::test_at[a@b]"])
    assert roll.selected == {A, B, "x.py::test_at[a@b]"}


def test_nothing_collected_and_nothing_known_is_missing_too() -> None:
    (said,) = missing(declared=(), selected=())
    assert said.startswith("--llmperf-require perf: no gate was collected there")


@pytest.mark.parametrize("code", ["noise", "learning", "budget"])
def test_not_one_gate_decided_is_red(code: str) -> None:
    (said,) = missing(fragment(verdict="inconclusive", reason_code=code))
    assert f"not one gate was decided (1 {code})" in said
    assert (
        missing(
            fragment(verdict="inconclusive", reason_code=code),
            fragment(B),
            declared=(gate(), gate(B)),
        )
        == []
    )


def test_what_lies_elsewhere_is_not_asked_for() -> None:
    scope = Scope(given="perf/test_b.py", nodeid="perf/test_b.py")
    assert missing(fragment(B), declared=(gate(), gate(B)), scope=scope) == []


# --- what the store knows --------------------------------------------------------------------


def test_a_test_that_is_gone_is_missed_with_a_command_to_copy() -> None:
    known = (Known(gate=gate(B), on="2026-11-02"),)
    (said,) = missing(fragment(), known=known)
    assert said.startswith(f"{B}: its gate on mean TPOT, judged on 2026-11-02, was not collected")
    assert f"baseline retire '{B}' --store 'perf store' --reason TEXT" in said


def test_a_gate_that_its_test_no_longer_declares_is_missed() -> None:
    known = (Known(gate=gate(kind="floor"), on="2026-11-02"),)
    (said,) = missing(fragment(), known=known)
    assert "is not declared any more" in said


def test_an_old_store_does_not_tell_kinds_and_any_will_do() -> None:
    known = (Known(gate=gate(kind=""), on="2026-11-02"),)
    assert missing(fragment(), known=known) == []


def observation(day: int, **more: Any) -> Observation:
    given: dict[str, Any] = {"id": f"o{day}", "key": "k", "test": A, "workload": "w"} | more
    return Observation(
        created=f"2026-11-{day:02d}T00:00:00+00:00",
        environment={},
        subject={},
        block={},
        launches=(),
        **given,
    )


def judged(metric: str) -> Judged:
    return Judged(kind="floor", metric=metric, verdict="pass")


def test_gates_are_known_from_every_session_until_they_are_retired() -> None:
    sessions = [
        observation(1, gates=("ttft_p50",)),
        observation(2, judged=(judged("e2e_mean"), judged("tpot_mean"))),
        observation(4, judged=(judged("e2e_mean"),)),
    ]
    names = {(known.gate.metric, known.gate.kind, known.on) for known in known_gates(sessions, [])}
    assert names == {
        ("ttft_p50", "", "2026-11-01"),
        ("e2e_mean", "floor", "2026-11-04"),
        ("tpot_mean", "floor", "2026-11-02"),
    }
    level = Level(
        id="l",
        key="k",
        created="2026-11-03T00:00:00+00:00",
        observations=("o2",),
        reason="r",
        retired=("e2e_mean", "tpot_mean"),
    )
    left = {known.gate.metric for known in known_gates(sessions, [level])}
    # e2e_mean was judged again after that
    assert left == {"ttft_p50", "e2e_mean"}
