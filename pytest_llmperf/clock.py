"""The one monotonic clock.

Every deadline and every latency in this package is read from here, so that a test can replace
:data:`now_ns` and :data:`sleep` and a step of the wall clock cannot change a verdict.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import cache

#: Nanoseconds of the system-wide monotonic clock; comparable between processes of one machine.
now_ns: Callable[[], int] = time.monotonic_ns

#: Suspend this thread for a number of seconds.
sleep: Callable[[float], None] = time.sleep


def now() -> float:
    """Seconds of the monotonic clock."""
    return now_ns() / 1e9


@cache
def _anchor() -> tuple[datetime, int]:
    return datetime.now(UTC), time.monotonic_ns()


def stamp() -> datetime:
    """The date and time in UTC: the wall clock as this process first read it, carried on by the
    monotonic one. So stamps of a process are in order and as far apart as what they stamp, also
    where somebody sets the wall clock meanwhile."""
    began, began_ns = _anchor()
    return began + timedelta(microseconds=(time.monotonic_ns() - began_ns) / 1000)


class Deadline:
    """A point on the monotonic clock, ``seconds`` from its making."""

    __slots__ = ("_end", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = now() + seconds

    @property
    def left(self) -> float:
        """Seconds until the deadline, 0.0 once it has passed."""
        return max(0.0, self._end - now())

    @property
    def passed(self) -> bool:
        return self.left == 0.0


class Stopwatch:
    """Seconds since its making."""

    __slots__ = ("_start",)

    def __init__(self) -> None:
        self._start = now()

    @property
    def elapsed(self) -> float:
        return now() - self._start
