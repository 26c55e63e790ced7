"""The report in few words, for ``-q``: a line for each gate that did not pass, and a last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pytest_llmperf.metrics import units

from .columns import PLAIN, Look, cells, clip, inert_report, wrapped
from .terminal import demand, difference, observed, painted, verdict_word
from .told import PROBLEMS, told_gates
from .words import count, short

_KINDS = ("failed", "failed as expected", "not covered", "inconclusive", "passed")
#: Columns that a test's name gets at least.
_NAME = 10


def brief_lines(document: Mapping[str, Any], look: Look = PLAIN) -> list[str]:
    """One line per gate that did not pass and was to, never wider than the terminal."""
    document = inert_report(document)
    quiet = ("passed", "failed as expected")
    return [_line(gate, look) for gate, kind in _kinds(document) if kind not in quiet]


def closing_lines(document: Mapping[str, Any], look: Look = PLAIN) -> list[str]:
    """The verdict, and what it is made of: one line, or two where a terminal is narrow."""
    word = "FAIL" if document["verdict"] == "fail" else document["verdict"]
    said = "; ".join((_gates(document), *_tests(document), *_marks(document)))
    first, *others = wrapped(f"llmperf: {word}: {said}", look, "")
    coloured = word if word == "none" else painted(word, look)
    return [first.replace(word, coloured, 1), *others]


def _line(gate: Mapping[str, Any], look: Look) -> str:
    word, _, why = verdict_word(gate).partition("\n")
    parts, name = _parts(gate, why), " ".join(short(gate["test"]).split())
    # A number that is cut is another number: what has no room is left out whole.
    while (room := look.width - cells(f"{word}: : {''.join(parts)}")) < min(_NAME, cells(name)):
        if len(parts) == 1:
            break
        parts.pop()
    line = clip(f"{word}: {clip(name, max(_NAME, room))}: {''.join(parts)}", look.width)
    return line.replace(word, painted(word, look), 1)


def _parts(gate: Mapping[str, Any], why: str) -> list[str]:
    """What is told of a gate, the most telling first, each with what joins it to those before."""
    parts = [units.spoken(gate["metric"])]
    if gate["observed"] is not None:
        parts += [f" {observed(gate)}", f", asked {' '.join(demand(gate).split())}"]
    how_far, _, between = difference(gate).partition("\n")
    parts += [f", {how_far}"] if how_far != "-" else []
    parts += [f" ({between})"] if between else []
    return [*parts, f", {why}"] if why else parts


def _gates(document: Mapping[str, Any]) -> str:
    gates = document["gates"]
    if not gates:
        return "no gates"
    found = Counter(kind for _, kind in _kinds(document))
    parts = [f"{found[kind]:,} {kind}" for kind in _KINDS if found[kind]]
    if len(parts) == 1:
        return f"{count(len(gates), 'gate')} {next(iter(found))}"
    return f"{', '.join(parts)}, of {len(gates):,} gates"


def _kinds(document: Mapping[str, Any]) -> list[tuple[Mapping[str, Any], str]]:
    """Each gate and what became of it."""
    return [(gate, _kind(gate)) for gate in told_gates(document)]


def _kind(gate: Mapping[str, Any]) -> str:
    if gate["verdict"] == "inconclusive" and not gate["covered"]:
        return "not covered"
    if gate["verdict"] == "fail":
        return "failed as expected" if gate["expected"] else "failed"
    return "passed" if gate["verdict"] == "pass" else "inconclusive"


def _tests(document: Mapping[str, Any]) -> list[str]:
    found = Counter(test["outcome"] for test in document["tests"])
    return [
        f"{count(found[outcome], 'test')} {words}"
        for outcome, words in PROBLEMS.items()
        if found[outcome]
    ]


def _marks(document: Mapping[str, Any]) -> list[str]:
    marks = ["INCOMPLETE"] if not document["complete"] else []
    return [*marks, "SIMULATED"] if document["simulated"] else marks
