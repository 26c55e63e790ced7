"""Gates as the page tells them: one row in the table, and a story where one is not met."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.metrics import units

from .certainty import certainty
from .intervals import Strip, strip_of
from .words import anchor, beside, count, percent, short, worse

Entry = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """One gate as a row and as a story: ``facts`` are its figures, the most telling first,
    ``caption`` says what its strip shows, ``changed`` what differs between the two sides.
    ``verdict`` is "expected" for a failure that was. ``anchor`` and ``history`` are places on the
    page, empty where there is none."""

    test: str
    name: str
    metric: str
    word: str
    verdict: str
    wanted: str
    value: str
    change: str
    detects: str
    reason: str
    source: str
    facts: Sequence[tuple[str, str]]
    caption: str
    changed: Sequence[str]
    anchor: str
    history: str
    strip: Strip | None
    simulated: bool


def gate_view(gate: Entry, *, history: str) -> GateView:
    """One of :func:`~.told.told_gates`; ``history`` is where on the page its history is."""
    measured = gate["measurement"]
    return GateView(
        test=gate["test"],
        name=short(gate["test"]),
        metric=units.spoken(gate["metric"]),
        word="failed as expected" if gate["expected"] else _word(gate),
        verdict="expected" if gate["expected"] else gate["verdict"],
        wanted=_wanted(gate),
        value=_value_and_limit(gate)[0],
        change=_change(gate),
        detects=percent(gate["detectable_loss"]),
        reason=gate["reason"],
        source=gate["source"],
        facts=[(name, value) for name, value in _facts(gate) if value],
        caption=_caption(gate),
        changed=gate["changed"],
        anchor=anchor(measured) if measured else "",
        history=history,
        strip=strip_of(gate),
        simulated=gate["simulated"],
    )


def gate_loss(gate: Entry) -> float:
    """How far a gate is missed, as a share of what it is held against; 0 where nobody knows."""
    lost: float | None = gate["loss"] if gate["kind"] == "regression" else gate["difference"]
    return abs(lost or 0.0)


def _word(gate: Entry) -> str:
    if not gate["covered"]:
        return f"not covered: {gate['reason_code'].replace('_', ' ')}"
    return str(gate["verdict"])


def _wanted(gate: Entry) -> str:
    if gate["kind"] == "regression":
        tolerated = f", {percent(gate['allow'])} allowed" if gate["allow"] else ""
        return f"no loss of {percent(gate['loss_to_catch'])}{tolerated}"
    sign = "≥" if gate["kind"] == "floor" else "≤"
    return f"{sign} {_value_and_limit(gate)[1]}"


def _value_and_limit(gate: Entry) -> tuple[str, str]:
    return beside(gate["observed"], gate["limit"], gate["unit"])


def _change(gate: Entry) -> str:
    if gate["kind"] == "regression":
        return worse(gate["loss"], gate["loss_to_catch"])
    return percent(gate["difference"], signed=True)


def _facts(gate: Entry) -> list[tuple[str, str]]:
    if gate["observed"] is None:
        return []
    if gate["kind"] == "regression":
        now, before = beside(gate["observed"], gate["reference"], gate["unit"])
        return [
            ("Change", _change(gate)),
            ("How sure", certainty(gate)),
            ("Before", "" if gate["reference"] is None else before),
            ("Now", now),
            ("Wanted", _wanted(gate)),
            ("From", _amount(gate)),
        ]
    return [
        ("Value", _value_and_limit(gate)[0]),
        ("Wanted", _wanted(gate)),
        ("Off by", _change(gate)),
        ("How sure", certainty(gate)),
        ("From", _amount(gate)),
    ]


def _amount(gate: Entry) -> str:
    if gate["n_pairs"]:
        return count(gate["n_pairs"], "pair")
    return count(gate["n_launches"], "launch", "launches") if gate["n_launches"] else ""


def _caption(gate: Entry) -> str:
    if gate["kind"] == "regression":
        return (
            "Dotted: no change. Red line: the loss to catch. Dot: what was measured. "
            "Bar: where the truth is sure to lie. Further right is worse."
        )
    bound = "the floor" if gate["kind"] == "floor" else "the ceiling"
    return f"Red line: {bound}. Dot: what was measured. Bar: where the truth is sure to lie."
