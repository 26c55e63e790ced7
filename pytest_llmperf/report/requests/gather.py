"""From the parts of all processes to one file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import ReportError

from .columns import RUN_COLUMNS, Value
from .files import write_rows
from .parts import read_parts

#: A launch and a moment: no launch begins two runs at once.
_RunKey = tuple[Value, Value]


def gather(directory: Path, document: Mapping[str, Any], path: Path, *, option: str) -> None:
    """Write the requests of all parts in ``directory`` to ``path``, whole or not at all.

    Runs that the report ``document`` has stand under its names; the requests of others are there
    as well: a test that died reports nothing. Raises
    :class:`~pytest_llmperf.errors.ReportError` for a disk that refuses, naming ``option``, and,
    when the file is written, for a run of the report whose requests are not there.
    """
    reported = _reported(document)
    found: set[_RunKey] = set()
    write_rows(_rows(directory, reported, found), path, option=option)
    lacking = len(reported.keys() - found)
    if lacking:
        raise ReportError(
            f"{path} lacks the requests of {lacking} of the {len(reported)} runs in the report: "
            f"the process that measured them did not leave them in {directory}, which all "
            "processes of the session must reach.",
            path=path,
        )


def _rows(
    directory: Path, reported: Mapping[_RunKey, Mapping[str, Value]], found: set[_RunKey]
) -> Iterator[Sequence[Value]]:
    for head, requests in read_parts(directory):
        key = head["launch_id"], head["run_started_at"]
        found.add(key)
        head |= reported.get(key, {})
        common = [head[column.name] for column in RUN_COLUMNS]
        yield from ([*common, *request] for request in requests)


def _reported(document: Mapping[str, Any]) -> dict[_RunKey, Mapping[str, Value]]:
    """How the report names each of its runs; of several tests with one run, the first has it."""
    names: dict[_RunKey, Mapping[str, Value]] = {}
    for entry in document["measurements"]:
        for run in entry["runs"]:
            key = run["launch_id"], run["started_at"]
            names.setdefault(key, {"test": entry["test"], "measurement": entry["id"]})
    return names
