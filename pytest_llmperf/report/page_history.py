"""The history of gated metrics on the page: its steps in words; a chart shows the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.metrics import units

from .words import count, quantity, short, worse

Entry = Mapping[str, Any]
#: Histories that are shown unfolded when nothing failed.
_FEW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryView:
    """One metric of one test over its sessions. ``index`` is that of a gate of the report which
    has it; ``rows`` are the stretches between steps, none where the level never changed."""

    index: int
    anchor: str
    name: str
    metric: str
    sentence: str
    level: str
    rows: Sequence[tuple[str, str, str, str, str]]
    opened: bool


def histories(gates: Sequence[Entry]) -> dict[tuple[str, str], HistoryView]:
    """The histories of a report's gates by test and metric: gates on one metric share one."""
    found: dict[tuple[str, str], int] = {}
    failed: set[tuple[str, str]] = set()
    for index, gate in enumerate(gates):
        key = (gate["test"], gate["metric"])
        if gate.get("history"):
            found.setdefault(key, index)
        if gate["verdict"] == "fail":
            failed.add(key)
    few = len(found) <= _FEW
    return {
        key: _history(gates[index], index, opened=few or key in failed)
        for key, index in found.items()
    }


def _history(gate: Entry, index: int, *, opened: bool) -> HistoryView:
    history = gate["history"]
    return HistoryView(
        index=index,
        anchor=f"history-{index}",
        name=short(gate["test"]),
        metric=units.spoken(gate["metric"]),
        sentence=_sentence(history),
        level=_level(history, gate["unit"]),
        rows=_rows(history, gate),
        opened=opened,
    )


def _sentence(history: Entry) -> str:
    points, steps = history["points"], history["steps"]
    older = f", {history['older']} older ones not shown" if history["older"] else ""
    stepped = count(len(steps), "change") + " of level" if steps else "no change of level"
    return (
        f"{count(len(points), 'session')} from {points[0]['created'][:10]} to "
        f"{points[-1]['created'][:10]}{older}; {stepped}, by {history['method']}."
    )


def _level(history: Entry, unit: str) -> str:
    if history["level"] is None:
        return "No level is accepted."
    return f"Accepted: {quantity(history['level'], unit)}, {history['against']}."


def _rows(history: Entry, gate: Entry) -> list[tuple[str, str, str, str, str]]:
    points, steps = history["points"], history["steps"]
    if not steps:
        return []
    starts = [0, *(step["at"] for step in steps)]
    levels = [steps[0]["before"], *(step["after"] for step in steps)]
    ends = [*starts[1:], sum(not point["fresh"] for point in points)]
    changes = ["", *(_changed(step, gate["metric"]) for step in steps)]
    return [
        (
            points[start]["created"][:10],
            subject(points[start]),
            str(end - start),
            quantity(level, gate["unit"]),
            change,
        )
        for start, end, level, change in zip(starts, ends, levels, changes, strict=True)
    ]


def subject(point: Entry) -> str:
    """What ran, in short."""
    commit = (point["commit"] or "")[:7] + (" with changes" if point["dirty"] else "")
    return " · ".join(part for part in (point["version"], commit.strip()) if part) or "-"


def _changed(step: Entry, metric: str) -> str:
    if not step["before"]:
        return "-"
    change = step["after"] / step["before"] - 1
    return worse(-change if units.row_of(metric).direction == "higher" else change)
