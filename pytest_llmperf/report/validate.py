"""Checking a report that lies on disk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pytest_llmperf.reading import Unreadable, decoded, parse_json, read_bytes

from .schema import schema_errors

#: Lists of what belongs to one session each.
_OF_SESSIONS = (
    "servers", "measurements", "sweeps", "tests", "gates", "noise", "quality", "profiles"
)  # fmt: skip
#: Of a workload: what a session of ours always decides.
_KNOWN_HERE = ("seed", "runs", "temperature", "api", "stream", "arrivals")


def validate_report(path: Path) -> list[str]:
    """Everything wrong with the report at ``path``, in words with the JSON path; empty when valid.

    Raises :class:`~pytest_llmperf.reading.Unreadable` when the file cannot be read.
    """
    return read_report(path)[1]


def read_report(path: Path) -> tuple[Any, list[str]]:
    """The JSON at ``path``, and everything wrong with it as a report."""
    data = read_bytes(path)
    try:
        document = parse_json(decoded(data))
    except Unreadable as why:
        return None, [f"$: it {why}"]
    return document, problems_in(document)


def problems_in(document: Any) -> list[str]:
    """Everything wrong with a report, in words with the JSON path; empty when it is valid."""
    return schema_errors(document) or [
        *dangling(document),
        *strays(document),
        *unknown(document),
    ]


def unknown(document: Mapping[str, Any]) -> Iterator[str]:
    """What only a foreign report may leave open, in one that is not."""
    if document.get("foreign") is not None:
        return
    for at, entry in enumerate(document["measurements"]):
        asked, where = entry["workload"]["asked"], f"$.measurements[{at}]"
        for name in _KNOWN_HERE:
            if asked[name] is None:
                yield f"{where}.workload.asked.{name}: null, in a report that is not foreign"
        for index, run in enumerate(entry["runs"]):
            for name in ("seed", "started_at", "client"):
                if run[name] is None:
                    yield f"{where}.runs[{index}].{name}: null, in a report that is not foreign"


def strays(document: Mapping[str, Any]) -> Iterator[str]:
    """Entries that say they are of a session which is not among those that were merged."""
    merged = document.get("merged")
    parts = {part["id"] for part in merged["parts"]} if merged else {None}
    for kind in _OF_SESSIONS:
        for at, entry in enumerate(document.get(kind, ())):
            if entry.get("part") not in parts:
                where = f"$.{kind}[{at}].part"
                yield f"{where}: no session {entry.get('part')!r} among those that were merged"


def dangling(document: Mapping[str, Any]) -> Iterator[str]:
    """References in a schema-valid document that lead nowhere."""
    servers = {server["id"] for server in document["servers"]}
    launches = {launch["id"] for server in document["servers"] for launch in server["launches"]}
    measurements = {entry["id"] for entry in document["measurements"]}
    for at, entry in enumerate(document["measurements"]):
        if entry["server"] not in servers:
            yield f"$.measurements[{at}].server: no server {entry['server']!r} in the report"
        for index, run in enumerate(entry["runs"]):
            if run["launch_id"] not in launches:
                where = f"$.measurements[{at}].runs[{index}].launch_id"
                yield f"{where}: no launch {run['launch_id']!r} in the report"
    for at, sweep in enumerate(document["sweeps"]):
        for index, point in enumerate(sweep["points"]):
            if point["measurement"] not in measurements:
                where = f"$.sweeps[{at}].points[{index}].measurement"
                yield f"{where}: no measurement {point['measurement']!r} in the report"
    for at, gate in enumerate(document["gates"]):
        if gate["measurement"] is not None and gate["measurement"] not in measurements:
            yield f"$.gates[{at}].measurement: no measurement {gate['measurement']!r} in the report"
