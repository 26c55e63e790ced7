"""Which load to measure next, which loads are within the objectives, and where the knee is.

A sweep measures one workload at several loads: so many requests in flight, or so many per second.
Everything here is a function of the points measured so far; nothing is measured here.

**Within.** A load is within the objectives when the 99th percentile over requests of every
objective's metric is within its limit in every valid run, failed requests counted as infinitely
late: the form in which MLPerf's server scenario states its limits. A load without a valid run, or
one of whose objectives was not measured, is neither within nor outside: it is *undecided*.

**Search.** From the lowest load upwards in doublings, until a load is outside, or is the highest
asked for, or throughput has stopped growing (less than :data:`GROWTH` over two doublings), or two
loads in a row are undecided. Then the gap between the last load within and the first outside is
halved, on the scale of logarithms, until they differ by a factor of :data:`RATIO` or no load lies
between them; an undecided load there ends the search, because nothing tells in which half to go
on.

**Highest** is the highest load within that lies below every load outside. Where a load above that
is within nevertheless, the order is not what a search relies on, and the reason says so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.records import MetricValue

#: ``concurrency``: requests in flight in a closed loop. ``rate``: requests per second in an open
#: one.
Over = Literal["concurrency", "rate"]

#: The last load within and the first outside differ by no more than this factor, where loads
#: between them exist.
RATIO = 1.15
#: Growth of throughput over two doublings of the load below which more load is only a longer
#: queue.
GROWTH = 0.02
#: Fewer points than this say nothing of a curve's shape.
POINTS_FOR_KNEE = 4
_UNDECIDED_IN_A_ROW = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One load, measured. Figures are means over valid runs, ``None`` where not measured.

    ``throughput`` is in tok/s by the sweep's throughput metric, ``per_user`` the mean over
    requests of 1000 / TPOT in tok/s, ``attainment`` the share of all requests sent that met every
    objective. ``worst`` holds each objective's 99th percentile in the run that was worst for it.
    ``within`` is ``None`` for an undecided point and where there are no objectives; ``reason``
    says why a point is outside or undecided and is empty otherwise.
    """

    load: float
    throughput: float | None
    per_user: float | None
    attainment: float | None
    within: bool | None
    worst: Mapping[str, MetricValue] = field(default_factory=dict)
    reason: str = ""

    @property
    def undecided(self) -> bool:
        return self.within is None and bool(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What a sweep may measure: just ``values`` where there are any, else from ``low`` to
    ``high``. Made by :func:`read_search`, which checks what users write."""

    over: Over
    low: float
    high: float
    values: tuple[float, ...] = ()

    @property
    def ladder(self) -> tuple[float, ...]:
        """The loads to climb: ``values``, or doublings from ``low`` with ``high`` at the end."""
        if self.values:
            return self.values
        doublings = math.ceil(round(math.log2(self.high / self.low), 9))
        return (*(self.low * 2**step for step in range(doublings)), self.high)

    @property
    def most(self) -> int:
        """The largest number of points that the search can come to."""
        ladder = self.ladder
        if self.values:
            return len(ladder)
        halvings = [0, *(self._halvings(low, high) for low, high in pairwise(ladder))]
        return max(place + more for place, more in enumerate(halvings, start=1))

    def _halvings(self, low: float, high: float) -> int:
        middle = self.between(low, high)
        if middle is None:
            return 0
        return 1 + max(self._halvings(low, middle), self._halvings(middle, high))

    def between(self, low: float, high: float) -> float | None:
        """The load half-way by ratio; ``None`` when the two are close enough, or neighbours."""
        if high / low <= RATIO:
            return None
        middle = math.sqrt(low * high)
        if self.over == "rate":
            return float(f"{middle:.3g}")
        return round(middle) if high - low > 1 else None


def read_search(over: str, low: object, high: object, values: Sequence[object] | None) -> Search:
    """The search that a user asks for; raises :class:`~pytest_llmperf.errors.UsageMistake`."""
    kinds = get_args(Over)
    if over not in kinds:
        raise UsageMistake(f"sweep(over={over!r}): unknown kind of load.{nearest(over, kinds)}")
    kind: Over = "rate" if over == "rate" else "concurrency"
    if values is not None:
        loads = tuple(_load(kind, "values", value) for value in values)
        if not loads or len(set(loads)) < len(loads):
            raise UsageMistake(
                f"sweep(values={list(values)}): name each load once, and at least one."
            )
        return Search(over=kind, low=min(loads), high=max(loads), values=tuple(sorted(loads)))
    search = Search(over=kind, low=_load(kind, "low", low), high=_load(kind, "high", high))
    if search.high < search.low:
        raise UsageMistake(
            f"sweep(low={low!r}, high={high!r}): the search goes upwards; exchange the two."
        )
    return search


def _load(over: Over, name: str, value: object) -> float:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if over == "rate" and number and 0 < float(str(value)) < math.inf:
        return float(str(value))
    if over == "concurrency" and isinstance(value, int) and number and value >= 1:
        return value
    expected = {
        "concurrency": "a whole number of at least 1, the requests in flight",
        "rate": "a number above 0, requests per second",
    }
    raise UsageMistake(f"sweep(over={over!r}, {name}={value!r}): expected {expected[over]}.")


# --- searching -------------------------------------------------------------------------------


def next_load(search: Search, points: Sequence[Point]) -> float | None:
    """The load to measure after ``points``; ``None`` when the search has ended."""
    at = {point.load: point for point in points}
    climbed: list[Point] = []
    for load in search.ladder:
        if load not in at:
            return load
        climbed.append(at[load])
        if not search.values and ends_climb(climbed):
            break
    return None if search.values else _halve(search, points)


def ends_climb(climbed: Sequence[Point]) -> bool:
    """Whether climbing beyond the last of ``climbed`` is of no use."""
    last = climbed[-_UNDECIDED_IN_A_ROW:]
    stuck = len(last) == _UNDECIDED_IN_A_ROW and all(point.undecided for point in last)
    return climbed[-1].within is False or stuck or stopped_growing(climbed)


def stopped_growing(climbed: Sequence[Point]) -> bool:
    """Whether the last two doublings brought next to no throughput."""
    if len(climbed) < 3:
        return False
    before, after = climbed[-3].throughput, climbed[-1].throughput
    return before is not None and after is not None and after < (1 + GROWTH) * before


def _halve(search: Search, points: Sequence[Point]) -> float | None:
    low, high = highest_within(points), first_outside(points)
    if low is None or high is None:
        return None
    if any(point.undecided and low < point.load < high.load for point in points):
        return None
    return search.between(low, high.load)


def first_outside(points: Sequence[Point]) -> Point | None:
    """The lowest load that is outside."""
    outside = [point for point in points if point.within is False]
    return min(outside, key=lambda point: point.load, default=None)


def highest_within(points: Sequence[Point]) -> float | None:
    """The highest load within that lies below every load outside; ``None`` without one."""
    limit = first_outside(points)
    below = [p.load for p in points if p.within and (limit is None or p.load < limit.load)]
    return max(below, default=None)


def within_above(points: Sequence[Point]) -> list[Point]:
    """Loads within that lie above one outside: there a search would be misled."""
    limit = first_outside(points)
    return [p for p in points if limit is not None and p.within and p.load > limit.load]


def best_load(points: Sequence[Point]) -> float | None:
    """The load of the greatest throughput up to the highest within; without objectives, of all."""
    highest = highest_within(points)
    judged = any(point.within is not None for point in points)
    known = [
        (point.throughput, -point.load)
        for point in points
        if point.throughput is not None
        and (not judged or (highest is not None and point.within and point.load <= highest))
    ]
    return -max(known)[1] if known else None


# --- the knee --------------------------------------------------------------------------------


def knee(points: Sequence[Point], *, sensitivity: float = 1.0) -> float | None:
    """The load from which more load buys ever less throughput; ``None`` where none stands out.

    After Satopaa, Albrecht, Irwin and Raghavan, *Finding a "Kneedle" in a Haystack: Detecting Knee
    Points in System Behavior*, ICDCS Workshops 2011. Of the n points that have a throughput, loads
    and throughputs are each mapped linearly onto 0..1, least to greatest. The knee is the load at
    which the throughput lies farthest above the diagonal (the least such load), unless

    - there are fewer than :data:`POINTS_FOR_KNEE` points, or all throughputs are equal,
    - it is the first or the last load,
    - at no later load does that distance fall below its maximum by more than
      ``sensitivity`` / (n - 1), the paper's threshold: the mean spacing of the loads.

    Departures from the paper: the few points are not smoothed by a spline first, and of several
    knees only the greatest is told.
    """
    known = sorted((p.load, p.throughput) for p in points if p.throughput is not None)
    if len(known) < POINTS_FOR_KNEE:
        return None
    loads, through = _onto_unit([x for x, _ in known]), _onto_unit([y for _, y in known])
    if loads is None or through is None:
        return None
    above = [y - x for x, y in zip(loads, through, strict=True)]
    at = above.index(max(above))
    threshold = above[at] - sensitivity / (len(above) - 1)
    if at in (0, len(above) - 1) or min(above[at + 1 :]) >= threshold:
        return None
    return known[at][0]


def _onto_unit(values: Sequence[float]) -> list[float] | None:
    least, greatest = min(values), max(values)
    if least == greatest:
        return None
    return [(value - least) / (greatest - least) for value in values]
