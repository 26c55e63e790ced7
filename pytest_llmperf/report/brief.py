"""The report in few words, for ``-q``: a line for each gate that did not pass, and a last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from pytest_llmperf.metrics import units

from .columns import PLAIN, Look, clip, inert, start, wrapped
from .terminal import demand, difference, observed, painted, verdict_word
from .words import count, short

_KINDS = ("failed", "not covered", "inconclusive", "passed")


def brief_lines(document: Mapping[str, Any], look: Look = PLAIN) -> list[str]:
    """One line per gate that did not pass, never wider than the terminal."""
    document = inert(document)
    return [_line(gate, look) for gate in document["gates"] if gate["verdict"] != "pass"]


def closing_lines(document: Mapping[str, Any], look: Look = PLAIN) -> list[str]:
    """The verdict, and what it is made of: one line, or two where a terminal is narrow."""
    word = "FAIL" if document["verdict"] == "fail" else document["verdict"]
    said = "; ".join((_gates(document), *_tests(document), *_marks(document)))
    first, *others = wrapped(f"llmperf: {word}: {said}", look, "")
    coloured = word if word == "none" else painted(word, look)
    return [first.replace(word, coloured, 1), *others]


def _line(gate: Mapping[str, Any], look: Look) -> str:
    word, _, why = verdict_word(gate).partition("\n")
    parts = [units.spoken(gate["metric"])]
    if gate["observed"] is not None:
        parts = [f"{parts[0]} {observed(gate)}", f"asked {' '.join(demand(gate).split())}"]
    how_far, _, between = difference(gate).partition("\n")
    parts += [f"{how_far} ({between})" if between else how_far] if how_far != "-" else []
    said = ", ".join([*parts, why] if why else parts)
    name = clip(short(gate["test"]), max(10, look.width - len(word) - len(said) - 4))
    line = start(f"{word}: {name}: {said}", look.width)
    return line.replace(word, painted(word, look), 1)


def _gates(document: Mapping[str, Any]) -> str:
    gates = document["gates"]
    if not gates:
        return "no gates"
    found = Counter(_kind(gate) for gate in gates)
    parts = [f"{found[kind]:,} {kind}" for kind in _KINDS if found[kind]]
    if len(parts) == 1:
        return f"{count(len(gates), 'gate')} {next(iter(found))}"
    return f"{', '.join(parts)}, of {len(gates):,} gates"


def _kind(gate: Mapping[str, Any]) -> str:
    if gate["verdict"] == "inconclusive" and not gate["covered"]:
        return "not covered"
    return {"fail": "failed", "pass": "passed"}.get(gate["verdict"], "inconclusive")


def _tests(document: Mapping[str, Any]) -> list[str]:
    broken = sum(test["outcome"] == "broken" for test in document["tests"])
    return [f"{count(broken, 'test')} broken"] if broken else []


def _marks(document: Mapping[str, Any]) -> list[str]:
    marks = ["INCOMPLETE"] if not document["complete"] else []
    return [*marks, "SIMULATED"] if document["simulated"] else marks
