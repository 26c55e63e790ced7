"""Launches that were kept one by one: what a session leaves that was ended before its time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from pytest_llmperf.records import Observation

from .documents import moment


def put_together(kept: Iterable[Observation]) -> list[Observation]:
    """``kept``, the oldest first, with the parts of what was never kept as a whole made one, and
    without the parts of what was."""
    found = list(kept)
    whole = {one.id for one in found if one.part_of is None}
    groups: dict[str, list[Observation]] = {}
    for one in found:
        if one.part_of not in whole:
            groups.setdefault(one.part_of or one.id, []).append(one)
    made = (_together(id_, parts) for id_, parts in groups.items())
    return sorted(made, key=lambda one: (moment(one.created), one.id))


def _together(id_: str, parts: Sequence[Observation]) -> Observation:
    launches = tuple(launch for part in parts for launch in part.launches)
    return replace(parts[0], id=id_, part_of=None, launches=launches)


def part_id(whole: str, launch_id: str) -> str:
    """The id of one launch of the observation ``whole``."""
    return f"{beginning(whole)}{launch_id}"


def beginning(whole: str) -> str:
    """How the ids of the parts of ``whole`` begin."""
    return f"{whole}."
