"""When the sessions of an open loop start: offsets from the beginning of the run, in ns; pure.

Every process is drawn in *expected arrivals*, the scale on which one arrives per unit, and then
carried over to time by inverting the rate's integral. So a ramp keeps the shape of its process,
and offsets depend on a seed alone, not on who sends.
"""

from __future__ import annotations

import math
import random
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, count, islice, repeat, takewhile

from pytest_llmperf.records import Arrivals

_NS = 1_000_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Sessions per second: ``start`` at first, then linearly to ``end`` over ``span_s`` seconds,
    and ``end`` from there on."""

    start: float
    end: float
    span_s: float

    @property
    def expected(self) -> float:
        """Arrivals expected within the span."""
        return (self.start + self.end) / 2 * self.span_s

    def when(self, arrivals: float) -> float:
        """The second by which ``arrivals`` are expected."""
        beyond = arrivals - self.expected
        if beyond >= 0:
            return self.span_s + beyond / self.end
        slope = (self.end - self.start) / self.span_s
        # The root of slope/2 t² + start t = arrivals that stays well-behaved where slope is small.
        root = math.sqrt(self.start * self.start + 2 * slope * arrivals)
        return 2 * arrivals / (self.start + root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """How sessions arrive: ``kind`` is "constant", "poisson" or "gamma", ``rate`` per second.

    With ``final_rate`` the rate changes linearly to that over the run. ``burstiness`` is the
    shape of gamma gaps: below 1 they come in bursts, and 1 is Poisson.
    """

    kind: Arrivals
    rate: float
    final_rate: float | None = None
    burstiness: float = 1.0

    @property
    def last_rate(self) -> float:
        return self.rate if self.final_rate is None else self.final_rate

    def steps(self, seed: int) -> Iterator[float]:
        """When one arrives, on the scale where one does per unit, without end."""
        if self.kind == "constant":
            return map(float, count())
        return accumulate(self._gaps(random.Random(f"arrivals:{seed}")))

    def _gaps(self, chance: random.Random) -> Iterator[float]:
        shape = self.burstiness
        if self.kind == "poisson":
            return (-math.log(1.0 - chance.random()) for _ in repeat(None))
        if self.kind == "gamma":
            return (chance.gammavariate(shape, 1 / shape) for _ in repeat(None))
        raise ValueError(f"no arrivals are drawn for {self.kind!r}")


def offsets_by_count(process: Process, sessions: int, *, seed: int) -> Sequence[int]:
    """Start offsets of so many sessions, in order."""
    first, last = process.rate, process.last_rate
    rate = Rate(start=first, end=last, span_s=2 * sessions / (first + last))
    return array("q", (_ns(rate.when(step)) for step in islice(process.steps(seed), sessions)))


def offsets_by_duration(process: Process, duration_s: float, *, seed: int) -> Sequence[int]:
    """Start offsets of all sessions that begin before ``duration_s``, in order."""
    rate = Rate(start=process.rate, end=process.last_rate, span_s=duration_s)
    steps = takewhile(lambda step: step < rate.expected, process.steps(seed))
    return array("q", (_ns(rate.when(step)) for step in steps))


def offsets_of_trace(
    arrivals_s: Sequence[float], *, speed: float = 1.0, duration_s: float | None = None
) -> Sequence[int]:
    """Start offsets of a trace's sessions, sorted times in seconds, as from its first one.

    ``speed`` divides the times; ``duration_s`` leaves out what would begin later.
    """
    first = arrivals_s[0] if arrivals_s else 0.0
    offsets = (_ns((at - first) / speed) for at in arrivals_s)
    if duration_s is not None:
        end = _ns(duration_s)
        offsets = (offset for offset in offsets if offset < end)
    return array("q", offsets)


def _ns(seconds: float) -> int:
    return round(seconds * _NS)
