"""Documents of older versions, read as if they were written today.

A step is a pure function from a document of one version to the same document of the next one; it
need not touch ``schema_version``. A step that has been released is never changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .base import StoreError

#: The version that is written.
VERSION = "1.4"

Step = Callable[[dict[str, Any]], dict[str, Any]]


def _with_judged_gates(document: dict[str, Any]) -> dict[str, Any]:
    """1.1 knows the verdict of each gate, and which gates were taken away on purpose."""
    match document.get("kind"):
        case "observation":
            return {"judged": []} | document
        case "level":
            return {"retired": []} | document
        case _:
            return document


def _with_outputs(document: dict[str, Any]) -> dict[str, Any]:
    """1.2 knows what each launch answered to fixed prompts."""
    launches = document.get("launches")
    if not isinstance(launches, list):
        return document
    new = [{"outputs": []} | each if isinstance(each, dict) else each for each in launches]
    return document | {"launches": new}


def _with_pairs(document: dict[str, Any]) -> dict[str, Any]:
    """1.3 knows the pairs of sequences that go on over sessions, and how long launches take."""
    if document.get("kind") == "profile":
        return {"startup_s": None, "measure_s": None} | document
    judged = document.get("judged")
    if not isinstance(judged, list):
        return document
    none = {"pairs": [], "before": 0, "ended": False}
    new = [none | each if isinstance(each, dict) else each for each in judged]
    return document | {"judged": new}


def _with_parts(document: dict[str, Any]) -> dict[str, Any]:
    """1.4 keeps launches one by one until their session has ended."""
    return {"part_of": None} | document if document.get("kind") == "observation" else document


#: From the version that a step reads to the version that it leads to, and the step.
STEPS: Mapping[str, tuple[str, Step]] = {
    "1.0": ("1.1", _with_judged_gates),
    "1.1": ("1.2", _with_outputs),
    "1.2": ("1.3", _with_pairs),
    "1.3": ("1.4", _with_parts),
}


def migrated(
    document: Mapping[str, Any],
    where: str,
    *,
    steps: Mapping[str, tuple[str, Step]] | None = None,
    version: str = VERSION,
) -> dict[str, Any]:
    """``document`` in ``version``; it is left as it is. ``where`` it was found is for the error.

    Raises :class:`StoreError` for a version that no chain of steps leads away from.
    """
    known = STEPS if steps is None else steps
    current = dict(document)
    while (found := current.get("schema_version")) != version:
        if not isinstance(found, str) or found not in known:
            raise StoreError(_unknown(found, where, version, known))
        following, step = known[found]
        current = {**step(current), "schema_version": following}
    return current


def _unknown(found: object, where: str, version: str, known: Mapping[str, object]) -> str:
    read = ", ".join([*known, version])
    return (
        f"{where} has schema_version {found!r}, and this pytest-llmperf reads {read}: if a newer "
        "pytest-llmperf wrote it, install that one here too; else restore it."
    )
