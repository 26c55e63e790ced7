"""What a difference between outputs does to the verdicts of a test."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.records import LaunchValues, Level, Observation, Reply, Verdict, Workload
from pytest_llmperf.session.measurement import Measurement
from pytest_llmperf.session.past import Past
from pytest_llmperf.session.quality import Quality, assess, kept_outputs, remembered, told_by
from pytest_llmperf.settings import QualityMode
from pytest_llmperf.store import StoreError
from pytest_llmperf.store.migrate import migrated

WORKLOAD = Workload(
    name="tiny",
    input_tokens=8,
    output_tokens=4,
    concurrency=1,
    requests=1,
    warmup_requests=1,
    runs=1,
)
FINGERPRINT = (
    Reply(text="a b", tokens=("a ", "b"), logprobs=(-0.25, -1.5)),
    Reply(text=""),
)
OTHER = (Reply(text="a c", tokens=("a ", "c"), logprobs=(-0.25, -1.5)), Reply(text=""))
GATE = Verdict(
    kind="regression",
    mode="ab",
    metric="tpot_mean",
    unit="ms",
    verdict="pass",
    reason_code="loss_excluded",
    reason="not worse",
    source="gate set in t.py:1",
    changed=("version: 1 -> 2",),
)
FLOOR = replace(GATE, kind="floor", mode="limits", changed=())
DIFFERENT = "outputs differ from token 2 of prompt 1 on"


def quality(*lines: str, serious: bool = True, missing: str = "") -> Quality:
    found = assess(measured(), past(), alpha=0.01)
    return replace(
        found,
        outputs=None if missing else found.outputs,
        missing=missing,
        lines=lines,
        serious=lines if serious else (),
    )


def measured() -> Measurement:
    return Measurement(
        id="m",
        server_id="s",
        workload=WORKLOAD,
        runs=(),
        summary={},
        fingerprints={"l1": FINGERPRINT},
    )


def past(*outputs: tuple[str, ...]) -> Past:
    launches = tuple(
        LaunchValues(launch_id=str(n), started_at="", runs=1, metrics={}, outputs=each)
        for n, each in enumerate(outputs or (kept_outputs(FINGERPRINT),))
    )
    observation = Observation(
        id="o",
        key="k",
        created="2026-01-01T00:00:00+00:00",
        test="t",
        workload="w",
        environment={},
        subject={},
        block={},
        launches=launches,
    )
    level = Level(id="v", key="k", created=observation.created, observations=("o",), reason="")
    return Past(
        key="k",
        observations=(observation,),
        level=level,
        accepted=(observation,),
        refused=None,
        changed=(),
    )


def test_outputs_are_remembered_as_they_were() -> None:
    kept = kept_outputs(FINGERPRINT)
    assert all(isinstance(each, str) for each in kept)
    assert remembered(past(kept, (), kept)) == [FINGERPRINT, FINGERPRINT]
    assert kept_outputs(None) == ()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '["a", 1, 2]', "null"])
def test_what_cannot_be_read_is_said(text: str) -> None:
    with pytest.raises(StoreError, match="What a launch said cannot be read"):
        remembered(past((text,)))


def test_stores_without_outputs_are_read() -> None:
    launch = {"launch_id": "l", "started_at": "", "runs": 1, "metrics": {}}
    document = {"kind": "observation", "schema_version": "1.1", "launches": [launch]}
    assert migrated(document, "here")["launches"] == [launch | {"outputs": []}]
    for odd in (None, [1]):
        assert migrated({**document, "launches": odd}, "here")["launches"] == odd


def test_remembered_launches_are_the_reference() -> None:
    found = assess(measured(), past(*[kept_outputs(OTHER)] * 3), alpha=0.01)
    assert found.against == "the level accepted on 2026-01-01"
    assert found.lines == (DIFFERENT,)
    assert found.serious == ()
    twenty = assess(measured(), past(*[kept_outputs(OTHER)] * 20), alpha=0.01)
    assert twenty.serious == (DIFFERENT,)


def test_a_level_without_outputs_is_told() -> None:
    found = assess(measured(), past(()), alpha=0.01)
    assert found.outputs is None
    assert "the accepted level remembers none" in found.missing


def test_a_server_without_outputs_is_told() -> None:
    found = assess(replace(measured(), fingerprints={}), past(), alpha=0.01)
    assert "the server refuses the fixed prompts" in found.missing


def test_advice_stands_beside_what_else_changed() -> None:
    floor, gate = sorted(
        told_by([GATE, FLOOR], quality(DIFFERENT), "advise"), key=lambda each: each.kind
    )
    assert gate == replace(GATE, changed=(*GATE.changed, DIFFERENT))
    assert floor == FLOOR


def test_a_finding_fails_regression_gates_alone() -> None:
    gate, floor = told_by([FLOOR, GATE], quality(DIFFERENT), "fail")
    assert (gate.verdict, gate.reason_code) == ("fail", "outputs_changed")
    assert DIFFERENT in gate.reason
    assert floor == FLOOR


@pytest.mark.parametrize("mode", ["advise", "fail"])
def test_what_may_be_chance_never_fails(mode: QualityMode) -> None:
    (gate,) = told_by([GATE], quality(DIFFERENT, serious=False), mode)
    assert gate.verdict == "pass"
    assert DIFFERENT in gate.changed


def test_a_loss_stays_what_it_was() -> None:
    lost = replace(GATE, verdict="fail", reason_code="loss_shown", reason="slower")
    (gate,) = told_by([lost], quality(DIFFERENT), "fail")
    assert (gate.reason_code, gate.reason) == ("loss_shown", "slower")


def test_outputs_that_count_and_are_not_known_are_not_green() -> None:
    (gate,) = told_by([GATE], quality(missing="nothing is known"), "fail")
    assert (gate.verdict, gate.reason_code, gate.covered) == (
        "inconclusive",
        "outputs_unknown",
        False,
    )
    (advised,) = told_by([GATE], quality(missing="nothing is known"), "advise")
    assert advised == GATE
