"""The tables of docs/gating.md that are about accepted levels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from .remembered import LOST_SHAPES
from .rows import Rows, one, percent, shapes, table, with_error

_STORED = (8, 20)


def _alarms(rows: Rows) -> Iterator[str]:
    lines = []
    for shape, phi, told in shapes():
        noise = {"shape": shape, "phi": phi}
        cells = [
            *(
                one(rows, "false alarms, history", stored=n, alpha=alpha, **noise)
                for alpha in (0.01, 0.0005)
                for n in _STORED
            ),
            *(
                one(rows, "false alarms, history wide", stored=n, session_cv=0.06, **noise)
                for n in _STORED
            ),
        ]
        suspected = [percent(cell["rate"] + cell["suspected"]) for cell in cells[:2]]
        lines.append([told, *(with_error(cell) for cell in cells), *suspected])
    head = ["sessions", *(f"{n} stored, {alpha} %" for alpha in (1, 0.05) for n in _STORED)]
    head += [f"{n} stored, 1 %, differ by 6 %" for n in _STORED]
    return table([*head, *(f"{n} stored, 1 %: FAIL or suspected" for n in _STORED)], lines)


def _power(rows: Rows) -> Iterator[str]:
    lines = []
    for stored in _STORED:
        for shape in LOST_SHAPES:
            same, lost = (
                one(rows, "power, history", stored=stored, shape=shape, loss=loss)
                for loss in (0.0, 0.15)
            )
            lines.append(
                [
                    str(stored),
                    shape,
                    percent(same["pass"], 1),
                    percent(same["fail"]),
                    percent(lost["fail"], 1),
                    percent(lost["suspected"], 1),
                    percent(lost["pass"], 1),
                    percent(same["two_kinds"], 1),
                    f"{percent(same['detectable_median'], 0)} %",
                ]
            )
    head = ["stored", "sessions", "unchanged: PASS, %", "FAIL, %", "15 % lost: FAIL, %"]
    return table(
        [*head, "suspected, %", "PASS, %", "said to be of two kinds, %", "printed as detectable"],
        lines,
    )


def _losses(rows: Rows) -> Iterator[str]:
    losses = (0.0, 0.05, 0.10, 0.15, 0.20, 0.25)
    lines = []
    for stored in _STORED:
        case = {"stored": stored, "shape": "normal"}
        cells = [one(rows, "power, history", loss=loss, **case) for loss in losses]
        told = [
            " · ".join(percent(cell[key], 1) for key in ("fail", "suspected", "pass"))
            for cell in cells
        ]
        lines.append([str(stored), *told])
    return table(["stored", *(f"{percent(loss)} % lost" for loss in losses)], lines)


TABLES: Mapping[str, Callable[[Rows], Iterator[str]]] = {
    "history-alarms": _alarms,
    "history-power": _power,
    "history-losses": _losses,
}
