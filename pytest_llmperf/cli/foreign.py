"""Comparing reports of which one or both are another tool's results."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llmperf.errors import LlmPerfError

from .reports import Document, Measured

#: How far the mean lengths of requests may be apart where a file tells no more of its load.
_ALIKE = 0.02
_OURS = "pytest-llmperf"


def foreign(document: Document) -> Mapping[str, Any] | None:
    """Whose results were imported; ``None`` for a report of our own."""
    origin: Mapping[str, Any] | None = document.get("foreign")
    return origin


def origin_lines(document: Document) -> Iterator[str]:
    """Whose figures these are, and what to know of them."""
    if origin := foreign(document):
        version = f" {origin['version']}" if origin["version"] else ""
        yield f"   FOREIGN: measured by {origin['tool']}{version}, and imported."
        yield from (f"   {note}" for note in origin["notes"])


def unlike(before: Document, after: Document) -> list[str]:
    """What keeps two reports apart before their environments are looked at, in words."""
    tools = [origin["tool"] if (origin := foreign(report)) else _OURS for report in (before, after)]
    if tools[0] != tools[1]:
        return [f"who measured ({tools[0]} in A, {tools[1]} in B, each by its own definitions)"]
    return [
        f"the accelerator (not told in {side}, which is foreign; import it with --accelerator)"
        for side, report in (("A", before), ("B", after))
        if foreign(report) and not report["environment"]["fingerprint"]["match"]["accelerator"]
    ]


def loose_pairs(
    single: Sequence[tuple[str, Measured]], *, force: bool
) -> tuple[list[tuple[Measured, Measured]], list[tuple[str, Measured]]]:
    """Foreign files tell little of a load: where it is forced, what each side measured just once
    for a test is compared whatever the load. What is left over comes second."""
    pairs: list[tuple[Measured, Measured]] = []
    left = list(single)
    for test in dict.fromkeys(entry.test for _, entry in single) if force else ():
        sides = [[e for s, e in left if s == side and e.test == test] for side in "AB"]
        if [len(side) for side in sides] == [1, 1]:
            print(f"FORCED: {test}: the loads differ, or are not known to be the same.")
            check_sent(sides[0][0], sides[1][0], force=True)
            pairs.append((sides[0][0], sides[1][0]))
            left = [(side, entry) for side, entry in left if entry.test != test]
    return pairs, left


def check_sent(before: Measured, after: Measured, *, force: bool) -> None:
    """Raises LlmPerfError where requests were not equally long on the average."""
    for name in ("input_tokens_mean", "output_tokens_mean"):
        old, new = before.sent[name], after.sent[name]
        if old is None or new is None or abs(new - old) <= _ALIKE * max(old, new):
            continue
        said = f"{before.title}: {name} is {old:.4g} in A and {new:.4g} in B"
        if not force:
            raise LlmPerfError(
                f"{said}: other requests take other times. Measure with the same lengths, or give "
                "--force to see them anyway."
            )
        print(f"FORCED: {said}.")
