"""Sequences of pairs that go on from session to session."""

from __future__ import annotations

from collections.abc import Iterable

from pytest_llmperf.records import Observation


def open_sessions(observations: Iterable[Observation]) -> frozenset[str]:
    """The ids of those of ``observations``, the oldest first, that hold pairs of a sequence which
    is not decided yet: without them it could not be judged."""
    held: dict[tuple[str, str], list[str]] = {}
    for observation in observations:
        for judged in observation.judged:
            where = (observation.key, judged.sequence)
            if judged.ended or (judged.pairs and not judged.before):
                held[where] = []
            if judged.pairs and not judged.ended:
                held.setdefault(where, []).append(observation.id)
    return frozenset(id_ for ids in held.values() for id_ in ids)
