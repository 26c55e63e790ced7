"""The sessions that one process sends, built before they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Protocol

from pytest_llmperf import clock
from pytest_llmperf.load.planned import Session

#: Bytes of requests built ahead, and at least so many sessions as the caller wants.
_AHEAD_BYTES = 64 * 2**20
#: More than so many are not built ahead, however small: a session costs more memory than its bytes.
_AHEAD_SESSIONS = 4096
_SLICE_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """What is one process's: every ``of``-th thing from ``number`` on.

    In a closed loop of ``slots`` these are the slots, and sessions are dealt to slots in turn: so
    a process with one slot more than another also has more sessions, and all end together. In an
    open loop (``slots`` is ``None``) sessions are dealt directly.
    """

    number: int = 0
    of: int = 1
    slots: int | None = None

    def sessions(self, total: int | None) -> Iterator[int]:
        """The numbers of this process' sessions, of ``total`` or without end."""
        numbers = count() if total is None else range(total)
        deal = self.slots or self.of
        return (number for number in numbers if number % deal % self.of == self.number)

    def share(self, total: int) -> int:
        """How many of ``total`` things are this shard's."""
        return (total - self.number + self.of - 1) // self.of


class Plan(Protocol):
    """What a run consists of; see :mod:`..compose.plan`."""

    @property
    def sessions(self) -> int | None: ...
    @property
    def due_ns(self) -> Sequence[int] | None: ...
    def session(self, number: int) -> Session: ...


class Supply:
    """One shard's sessions in order, the first of them built at once and the rest in idle moments;
    one that is needed earlier is built when it is taken, in some tens of microseconds."""

    def __init__(self, plan: Plan, shard: Shard, *, at_least: int) -> None:
        self._plan = plan
        self._numbers = shard.sessions(plan.sessions)
        self._next = next(self._numbers, None)
        self._built: deque[Session] = deque()
        self._bytes = 0
        self._at_least = at_least
        while not self._full():
            self._build()

    def _full(self) -> bool:
        if self._next is None:
            return True
        if len(self._built) < self._at_least:
            return False
        return len(self._built) >= _AHEAD_SESSIONS or self._bytes >= _AHEAD_BYTES

    def _build(self) -> None:
        if self._next is None:
            return
        session = self._plan.session(self._next)
        self._next = next(self._numbers, None)
        self._bytes += _size(session)
        self._built.append(session)

    def refill(self) -> None:
        """Build ahead for a moment, if there is room."""
        until = clock.now_ns() + _SLICE_NS
        while not self._full() and clock.now_ns() < until:
            self._build()

    def take(self) -> Session | None:
        """The next session; ``None`` when all are taken."""
        if not self._built:
            self._build()
        if not self._built:
            return None
        session = self._built.popleft()
        self._bytes -= _size(session)
        return session


def _size(session: Session) -> int:
    return sum(len(turn.payload) for turn in session.turns)
