"""What a store remembers of one key, as numbers: one per session and metric."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.metrics import units
from pytest_llmperf.records import Direction, Level, Observation
from pytest_llmperf.store import Store, resting_on, since


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One key: its sessions and its levels, each the oldest first; at least one session."""

    key: str
    sessions: tuple[Observation, ...]
    levels: tuple[Level, ...]

    @property
    def newest(self) -> Observation:
        return self.sessions[-1]

    @property
    def level(self) -> Level | None:
        """The accepted level that holds."""
        return self.levels[-1] if self.levels else None

    @property
    def gated(self) -> tuple[str, ...]:
        """Metrics that a gate of any session names, in the order in which they came up."""
        names = (metric for session in self.sessions for metric in session.gates)
        return tuple(dict.fromkeys(names))

    @property
    def measured(self) -> tuple[str, ...]:
        """Metrics that any session has a figure of."""
        launches = (launch for session in self.sessions for launch in session.launches)
        return tuple(dict.fromkeys(name for launch in launches for name in launch.metrics))

    @property
    def label(self) -> str:
        """To be put behind a name: says so where any figure comes from a simulator."""
        from pytest_llmperf.report.document import SIMULATORS

        engines = {session.subject.get("engine") for session in self.sessions}
        return " (SIMULATED)" if engines & SIMULATORS else ""

    def under(self, level: Level | None) -> tuple[Observation, ...]:
        """The sessions that ``level`` rests on."""
        return resting_on(level, self.sessions)

    def since(self, level: Level | None) -> tuple[Observation, ...]:
        """The sessions after those of ``level``; all of them without one."""
        return since(level, self.sessions)


def read(store: Store, key: str) -> History:
    return History(
        key=key, sessions=tuple(store.observations(key)), levels=tuple(store.levels(key))
    )


def histories(store: Store, asked: Sequence[str] = ()) -> list[History]:
    """Every key with a session, or those that ``asked`` names: by key, or by a part of the key or
    of the test's node id. Raises UsageMistake for one that names nothing."""
    kept = (read(store, key) for key in sorted(store.keys()))
    found = [history for history in kept if history.sessions]
    for text in asked:
        if not any(_named(history, text) for history in found):
            tests = {history.newest.test for history in found}
            hint = nearest(text, tests) if tests else " The store is empty."
            raise UsageMistake(f"nothing in the store is called {text!r}.{hint}")
    return [history for history in found if not asked or any(_named(history, t) for t in asked)]


def _named(history: History, text: str) -> bool:
    return text in history.key or any(text in session.test for session in history.sessions)


def loss(before: float | None, after: float | None, direction: Direction) -> float | None:
    """How much worse ``after`` is, as a fraction of ``before``; negative where it is better."""
    if before is None or after is None or before == 0 or not math.isfinite(after / before):
        return None
    change = after / before - 1
    return -change if direction == "higher" else change


def metrics_of(history: History, asked: Sequence[str] = ()) -> tuple[str, ...]:
    """The metrics to tell of: those asked for, or those that gates name."""
    for name in asked:
        units.resolve(name)
    return tuple(name for name in asked if name in history.measured) if asked else history.gated
