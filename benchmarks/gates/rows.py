"""Finding rows of results, and writing them as lines of a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .noise import SHAPES

Row = Mapping[str, Any]
Rows = Sequence[Row]


def percent(fraction: float, digits: int = 2) -> str:
    """ "0.98", "12.3", "99.96", "100"; without a sign, and never rounded to all or nothing."""
    value = fraction * 100
    shown = f"{value:.{digits}f}"
    if value < 100 and float(shown) == 100:
        shown = f"{value:.{digits + 2}f}"
    return shown.rstrip("0").rstrip(".") if "." in shown else shown


def rate(row: Row) -> str:
    """Bold where the cell is shown to alarm more often than it may."""
    digits = 3 if row["nominal"] < 0.001 else 2
    shown = f"{row['rate'] * 100:.{digits}f}"
    return f"**{shown}**" if row["standing"] == "above" else shown


def with_error(row: Row) -> str:
    digits = 3 if row["nominal"] < 0.001 else 2
    return f"{rate(row)} ± {row['error'] * 100:.{digits}f}"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    yield from (f"| {' | '.join(line)} |" for line in lines)


def of(rows: Rows, table: str, **wanted: object) -> list[Row]:
    return [
        row
        for row in rows
        if row["table"] == table and all(row.get(key) == value for key, value in wanted.items())
    ]


def one(rows: Rows, table: str, **wanted: object) -> Row:
    found = of(rows, table, **wanted)
    if len(found) != 1:
        raise KeyError(f"{len(found)} rows of {table!r} with {wanted}")
    return found[0]


def shapes() -> list[tuple[str, float, str]]:
    """Every noise that all rules are tried on: its shape, the correlation of runs, and in words."""
    plain = [(shape, 0.0, shape) for shape in SHAPES]
    return [*plain, ("normal", 0.5, "runs AR(1), 0.5"), ("normal", 0.9, "runs AR(1), 0.9")]
