"""What every way to tell a report works out of it first, and what it calls things by."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .document import Entry

Document = Mapping[str, Any]
#: Outcomes of tests that leave gates undecided, in words.
PROBLEMS = {"broken": "broken", "could_not_measure": "could not be measured"}
SIMULATED = "these figures come from the simulator and describe no hardware."


def told_gates(document: Document) -> list[Entry]:
    """Each gate, with what its own entry does not say: whether it is ``excused``, in a test that
    failed and is marked to (``xfail``), so that nothing of it makes the session red; whether it
    failed as ``expected``, so excused; and whether its figures are ``simulated``."""
    marked = {test["test"] for test in document["tests"] if test["outcome"] == "xfailed"}
    simulated = {entry["id"] for entry in document["measurements"] if entry["simulated"]}
    return [
        {
            **gate,
            "excused": gate["test"] in marked,
            "expected": gate["verdict"] == "fail" and gate["test"] in marked,
            "simulated": gate["measurement"] in simulated,
        }
        for gate in document["gates"]
    ]


def first_line(test: Mapping[str, Any]) -> str:
    """What became of a test, on one line."""
    message: str = test["message"]
    return message.splitlines()[0] if message else "no message"
