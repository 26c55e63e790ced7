"""How sure a comparison is, in three lines, for those who read no further."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .real import summary
from .rows import Rows, of, percent, table

#: What is planted in real sequences, as :mod:`.real.summary` calls it.
_NOTHING = "nothing"


def in_short(rows: Rows) -> Iterator[str]:
    """The lines of the table."""
    return table(["", "", "how it is known"], [_false_alarms(rows), _caught(rows), _real()])


def _false_alarms(rows: Rows) -> list[str]:
    cells = of(rows, "false alarms, ab", nominal=0.01)
    worst = max(cells, key=lambda row: float(row["rate"]))
    return [
        "nothing has changed, and it fails",
        f"in {percent(worst['rate'])} ± {percent(worst['error'])} of 100 sessions, with the "
        f"worst of {len(cells)} kinds of noise",
        "simulated launches, judged by the shipped code",
    ]


def _caught(rows: Rows) -> list[str]:
    alone, shared = (
        min(float(row["fail"]) for row in of(rows, "as used, ab", alpha=alpha) if row["loss"])
        for alpha in (0.01, 0.0005)
    )
    return [
        "the loss that a gate names is there, and it fails",
        f"in {percent(alone, 1)} of 100 at the least; where 20 gates share the false alarms, in "
        f"{percent(shared, 1)}",
        "the same",
    ]


def _real() -> list[str]:
    found = summary.rows()
    quiet = _tally([row for (planted, _, _), row in found.items() if planted == _NOTHING])
    lossy = _tally([row for (planted, _, _), row in found.items() if planted != _NOTHING])
    return [
        "real SGLang on two shared cores",
        f"unchanged: {quiet[0]} of {quiet[1]} gates failed; slowed by 5 or 10 %: {lossy[0]} of "
        f"{lossy[1]} did",
        f"{sum(1 for _ in summary.lines())} sequences of launches",
    ]


def _tally(rows: Sequence[summary.Row]) -> tuple[int, int]:
    """Gates that failed, and all."""
    return sum(row.count("fail") for row in rows), sum(row.decisions for row in rows)
