"""Part files: the requests of one run each, left by the process that measured it.

The first line holds what all of them have in common, a JSON object by column; every other line is
one request, a JSON array. A part is there whole or not at all, so whoever dies later takes nothing
with him.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.records import Pass, Run

from .columns import REQUEST_COLUMNS, RUN_COLUMNS, Value

_PART, _UNFINISHED = ".part", ".tmp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run belongs, beside what it knows of that itself."""

    test: str
    measurement: str
    server: str
    workload: str


def write_part(directory: Path, run: Run, pass_: Pass, place: Place) -> None:
    """Leave the requests of ``run``, which ``pass_`` saw, in ``directory``, which is made. Raises
    OSError."""
    from .seen import Seen  # numpy: not before it is needed

    seen = Seen(pass_)
    rows = zip(*(column.of(seen) for column in REQUEST_COLUMNS), strict=True)
    directory.mkdir(parents=True, exist_ok=True)
    # By name in the order of time: processes of one machine share the clock.
    path = directory / f"{pass_.started_ns:020d}-{os.getpid()}{_PART}"
    unfinished = path.with_suffix(_UNFINISHED)
    with unfinished.open("x", encoding="ascii") as file:
        for line in (_head(run, place), *rows):
            file.write(json.dumps(line) + "\n")
    unfinished.replace(path)


def read_parts(directory: Path) -> Iterator[tuple[dict[str, Value], Iterator[list[Value]]]]:
    """What each part's requests have in common, and the requests, in the order of time; to be
    read before the next part is."""
    for path in sorted(directory.glob(f"*{_PART}")):
        with path.open(encoding="ascii") as file:
            yield json.loads(next(file)), map(json.loads, file)


def remove_parts(directory: Path) -> None:
    """Remove all parts, and the directory if nothing else is in it. Raises OSError."""
    if not directory.is_dir():
        return
    for path in list(directory.iterdir()):
        if path.suffix in (_PART, _UNFINISHED):
            path.unlink(missing_ok=True)
    if not any(directory.iterdir()):
        directory.rmdir()


def _head(run: Run, place: Place) -> Mapping[str, Value]:
    known: dict[str, Value] = {
        "test": place.test,
        "measurement": place.measurement,
        "server": place.server,
        "launch_id": run.launch_id,
        "side": run.side,
        "pair": run.pair,
        "workload": place.workload,
        "run": run.index,
        "seed": run.seed,
        "run_started_at": run.started_at,
        "valid": run.valid,
    }
    return {column.name: known[column.name] for column in RUN_COLUMNS}
