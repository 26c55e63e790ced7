"""How often the gates err: every cell of the simulation, and what the cells say together.

    python -m benchmarks.gates.errors --out errors.json
    python -m benchmarks.gates.errors --quick --cell "false alarms, ab"
    python -m benchmarks.gates.errors --cell creep --into errors.json

Each cell has a seed of its own, made from the common one and the cell's name, so one cell played
alone gives the same figures as in a full run, and may be put into the file of one.
"""

from __future__ import annotations

import argparse
import json
import sys
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from pytest_llmperf.clock import Stopwatch

from . import ab, beside, creep, detectable, limits, remembered
from .cells import Cell
from .counting import Counted, standard_error, standings, upper_bound

SEED = 20261122
_QUICKER = 20
_FEWEST = 100
_PROCESSES = 2
_DIGITS = 6

Row = dict[str, Any]


def all_cells() -> Iterator[Cell]:
    rooms = (remembered, limits, ab, creep, detectable, beside)
    return chain.from_iterable(room.cells() for room in rooms)


def chosen(names: Sequence[str]) -> list[Cell]:
    """The cells in whose names any of ``names`` occurs; all of them where none is given."""
    return [cell for cell in all_cells() if not names or any(name in cell.name for name in names)]


def seed_of(name: str, seed: int) -> np.random.SeedSequence:
    return np.random.SeedSequence([seed, zlib.crc32(name.encode())])


def play(name: str, *, seed: int, quicker: int) -> Row:
    """One cell, found again by its name: this may be another process."""
    (cell,) = [each for each in all_cells() if each.name == name]
    repetitions = max(_FEWEST, cell.repetitions // quicker)
    watch = Stopwatch()
    found = cell.play(np.random.default_rng(seed_of(name, seed)), repetitions)
    row: Row = {
        "name": cell.name,
        "table": cell.table,
        **{key: value for key, value in cell.settings.items() if value is not None},
        "repetitions": repetitions,
        **{key: _rounded(value) for key, value in found.items()},
    }
    if cell.nominal is not None:
        rate = int(found["alarms"] or 0) / repetitions
        row |= {"nominal": cell.nominal, "rate": _rounded(rate)}
        row["error"] = _rounded(standard_error(rate, repetitions))
    if cell.broken is not None:
        row["broken"] = cell.broken
    row["seconds"] = round(watch.elapsed, 1)
    return row


def _rounded(value: object) -> object:
    return round(value, _DIGITS) if isinstance(value, float) else value


def judged(rows: Sequence[Row]) -> list[Row]:
    """The same with each cell's standing beside its nominal rate, over all of them at once."""
    counted = {
        row["name"]: Counted(
            alarms=row["alarms"], repetitions=row["repetitions"], nominal=row["nominal"]
        )
        for row in rows
        if "nominal" in row
    }
    standing = standings(counted)
    return [
        {
            **row,
            "standing": standing[row["name"]],
            "upper": _rounded(upper_bound(counted[row["name"]], len(counted))),
        }
        if row["name"] in counted
        else row
        for row in rows
    ]


def document(rows: Sequence[Row], seed: int) -> Mapping[str, object]:
    """``seconds`` is the time of all the cells, each by itself."""
    return {
        "made_on": datetime.now(UTC).date().isoformat(),
        "seed": seed,
        "numpy": np.__version__,
        "cells": len(rows),
        "seconds": round(sum(row["seconds"] for row in rows)),
        "rows": judged(rows),
    }


def merged(rows: Sequence[Row], kept: Mapping[str, Any]) -> list[Row]:
    """The rows of a file of results with those of ``rows`` in place of their older selves."""
    known = {row["name"]: _played(row) for row in kept["rows"]}
    known |= {row["name"]: row for row in rows}
    return [known[cell.name] for cell in all_cells() if cell.name in known]


def _played(row: Row) -> Row:
    """Without what only all cells together say."""
    return {key: value for key, value in row.items() if key not in ("standing", "upper")}


def _written(whole: Mapping[str, object]) -> str:
    """One line for each cell: small, and readable as a difference."""
    rows = whole["rows"]
    assert isinstance(rows, list)
    head = json.dumps({key: value for key, value in whole.items() if key != "rows"})
    lines = ",\n".join(json.dumps(row) for row in rows)
    return f'{head[:-1]}, "rows": [\n{lines}\n]}}\n'


def _told(row: Row) -> str:
    if "rate" in row:
        return f"{row['rate']:.4%} of {row['nominal']:.2%}"
    shown = ("fail", "pass", "pairs", "caught", "any_alarm", "median_ratio", "not_run")
    return ", ".join(f"{key} {row[key]}" for key in shown if key in row)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help=f"1/{_QUICKER} of the repetitions")
    parser.add_argument(
        "--cell", action="append", default=[], metavar="NAME", help="part of a name"
    )
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--processes", type=int, default=_PROCESSES)
    parser.add_argument("--out", type=Path, help="write the JSON here; otherwise it is printed")
    parser.add_argument("--into", type=Path, help="replace these cells in this file of results")
    arguments = parser.parse_args(argv)
    cells = chosen(arguments.cell)
    if not cells:
        parser.error(f"no cell has {' or '.join(arguments.cell)!r} in its name")
    rows = []
    one = partial(play, seed=arguments.seed, quicker=_QUICKER if arguments.quick else 1)
    with ProcessPoolExecutor(arguments.processes) as pool:
        for row in pool.map(one, [cell.name for cell in cells]):
            rows.append(row)
            print(f"{row['seconds']:6.1f} s  {row['name']}: {_told(row)}", file=sys.stderr)
    if arguments.into is not None:
        rows = merged(rows, json.loads(arguments.into.read_text(encoding="utf-8")))
    text = _written(document(rows, arguments.seed))
    out = arguments.out or arguments.into
    if out is None:
        sys.stdout.write(text)
    else:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
