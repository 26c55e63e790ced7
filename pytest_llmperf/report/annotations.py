"""GitHub's workflow commands: a note at the line of each marker whose gate did not pass.

Source: actions/runner, src/Runner.Common/ActionCommand.cs (escapes of data and of properties), and
GitHub's documentation of workflow commands, 2026: a step shows ten errors and ten warnings. Where
there are more, the tenth tells how many.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pytest_llmperf.inert import cleaned
from pytest_llmperf.metrics import units

from .told import PROBLEMS, told_gates
from .words import short

MOST = 10
_LONGEST = 2000
_LONGEST_TITLE = 200
#: "floor set in tests/x.py:7 at main (1a2b3c4d)": the place is at the end, but for the commit that
#: --llmperf-limits-from took it from, and its path may hold blanks.
_PLACE = re.compile(r"^(?:.*\bset in )?(?P<file>[^\n]+?):(?P<line>\d+)(?: at .+ \([0-9a-f]{8}\))?$")

Kind = Literal["error", "warning"]
Document = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Note:
    kind: Kind
    title: str
    message: str
    file: str = ""
    line: int | None = None


def commands(document: Document, *, below: str = "") -> list[str]:
    """A command a line, errors first, at most ten of a kind. ``below`` is the directory of the
    repository that the tests' paths begin in; empty for its top."""
    notes = [
        replace(note, file=posixpath.normpath(posixpath.join(below, note.file)))
        if note.file
        else note
        for note in (*_gates(document), *_tests(document), *_problems(document))
    ]
    lines: list[str] = []
    for kind in ("error", "warning"):
        own = [note for note in notes if note.kind == kind]
        lines += [_command(note) for note in _at_most(own)]
    return lines


def _gates(document: Document) -> Iterator[_Note]:
    """Failures that were expected are no news; what else became of their tests is no error."""
    bad = [
        gate for gate in told_gates(document) if gate["verdict"] != "pass" and not gate["expected"]
    ]
    for gate in sorted(bad, key=lambda gate: bool(gate["verdict"] != "fail")):
        place = _PLACE.search(gate["source"])
        red = gate["verdict"] == "fail" or not (gate["covered"] or gate["excused"])
        word = "fails" if gate["verdict"] == "fail" else "is inconclusive"
        yield _Note(
            kind="error" if red else "warning",
            title=f"{_spoken(gate['metric'])} {word}: {short(gate['test'])}",
            message=gate["reason"],
            file=place["file"] if place else "",
            line=int(place["line"]) if place else None,
        )


def _spoken(metric: str) -> str:
    known = metric in units.METRICS or re.search(r"_(mean|max|p\d{1,3})$", metric)
    return units.spoken(metric) if known else metric


def _tests(document: Document) -> Iterator[_Note]:
    """Tests that have no gate to tell of: their servers did not start, for example."""
    told = {gate["test"] for gate in document["gates"] if gate["verdict"] != "pass"}
    for test in document["tests"]:
        if test["outcome"] in PROBLEMS and test["test"] not in told:
            yield _Note(
                kind="error",
                title=f"{test['outcome'].replace('_', ' ')}: {short(test['test'])}",
                message=test["message"] or "no message",
                file=test["test"].partition("::")[0],
            )


def _problems(document: Document) -> Iterator[_Note]:
    for problem in document["problems"]:
        yield _Note(kind="error", title="pytest-llmperf", message=problem)


def _at_most(notes: Sequence[_Note]) -> list[_Note]:
    if len(notes) <= MOST:
        return list(notes)
    left = len(notes) - MOST + 1
    more = _Note(
        kind=notes[0].kind,
        title="pytest-llmperf",
        message=f"{left} more; the summary and the report have all.",
    )
    return [*notes[: MOST - 1], more]


def _command(note: _Note) -> str:
    known = {"file": note.file, "line": "" if note.line is None else str(note.line)}
    properties = {**known, "title": _clip(note.title, _LONGEST_TITLE)}
    told = ",".join(f"{name}={_property(text)}" for name, text in properties.items() if text)
    return f"::{note.kind} {told}::{_data(_clip(note.message, _LONGEST))}"


def _clip(text: str, longest: int) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def _data(text: str) -> str:
    """As the runner's own toolkit escapes it; lines stay lines, whatever else moves a cursor or
    turns a text around does not."""
    return "%0A".join(cleaned(line).replace("%", "%25") for line in text.splitlines())


def _property(text: str) -> str:
    clean = cleaned(text).replace("%", "%25")
    return clean.replace(":", "%3A").replace(",", "%2C")
