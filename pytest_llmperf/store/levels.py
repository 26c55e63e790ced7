"""Which sessions an accepted level rests on."""

from __future__ import annotations

from collections.abc import Sequence

from pytest_llmperf.records import Level, Observation

#: The most sessions that a level rests on, unless somebody says how many: older ones tell of a
#: machine and an engine that may not be there any more.
MOST_SESSIONS = 20


def resting_on(level: Level | None, sessions: Sequence[Observation]) -> tuple[Observation, ...]:
    """Those of ``sessions``, of one key, that ``level`` rests on."""
    ids = set(level.observations) if level else set()
    return tuple(session for session in sessions if session.id in ids)


def since(level: Level | None, sessions: Sequence[Observation]) -> tuple[Observation, ...]:
    """The sessions after those of ``level``, the oldest first; all of them without one."""
    under = resting_on(level, sessions)
    return tuple(sessions[sessions.index(under[-1]) + 1 :] if under else sessions)


def acceptable(
    level: Level | None, sessions: Sequence[Observation], last: int | None = None
) -> tuple[Observation, ...]:
    """What a new level would rest on: the ``last`` so many sessions, by default those since
    ``level`` in which the same ran as in the newest. None where that is what ``level`` rests on."""
    if last is not None:
        chosen = tuple(sessions[-last:])
    else:
        new = since(level, sessions)
        chosen = tuple(one for one in new if one.subject == new[-1].subject)[-MOST_SESSIONS:]
    return () if chosen == resting_on(level, sessions) else chosen
