"""What a device drew between two moments: by its own counter, else by its power over time.

Both are known at samples only. The counter is read off by straight lines between them; power is
integrated by trapezoids, and where a device has both, each checks the other: but for power that was
worked out from that very counter. What is not certain
is not told: then there is no figure, and a reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from pytest_llmperf.accelerators.conditions import Condition

#: Fewer samples within the window than this say too little of what lay between them.
FEWEST_SAMPLES = 3
#: Between two samples further apart anything may have happened.
LARGEST_GAP_S = 3.0
#: So far beyond the first and the last sample power is taken to have been as it was there.
_EDGE_S = 1.0
#: A counter and the integral of power further apart than this cannot both be right.
LARGEST_DISAGREEMENT = 0.05
_UNTOLD = "it tells neither its power nor its energy"

#: A moment in seconds, and what was read then.
Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """From the first request written to the last token, on :mod:`pytest_llmperf.clock`."""

    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9

    def since(self, at_ns: int) -> float:
        """Seconds from its beginning."""
        return (at_ns - self.start_ns) / 1e9

    def holds(self, at_ns: int) -> bool:
        return self.start_ns <= at_ns <= self.end_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """``joules``, by the ``source``; ``None`` with what was ``missing``, in words."""

    joules: float | None = None
    source: Literal["counter", "power"] | None = None
    missing: str = ""


class Unknown(Exception):
    """Why there is no figure, in words."""


def energy_of(seen: Sequence[Condition], window: Window) -> Energy:
    """What one device drew in ``window``, by its conditions in the order of their moments."""
    stamped = [(one, window.since(one.at_ns)) for one in seen if one.at_ns is not None]
    measured = ((one, at) for one, at in stamped if not one.power_derived)
    power = [(at - one.power_over_s / 2, one.power_w) for one, at in measured]
    count = [(at, one.energy_j) for one, at in stamped]
    untold = next((one.untold for one, _ in stamped if one.untold), _UNTOLD)
    try:
        return _energy(_known(power), _known(count), window.seconds, untold)
    except Unknown as why:
        return Energy(missing=str(why))


def _known(points: Sequence[tuple[float, float | None]]) -> list[Point]:
    return sorted((at, value) for at, value in points if value is not None)


def _energy(
    power: Sequence[Point], counter: Sequence[Point], until_s: float, untold: str
) -> Energy:
    if not power and not counter:
        raise Unknown(untold)
    by_power = _checked(power, until_s, trapezoid) if power else None
    by_counter = _checked(counter, until_s, counted) if counter else None
    if by_power is not None and by_counter is not None:
        _agree(by_counter, by_power)
    joules = by_power if by_counter is None else by_counter
    if not joules:
        raise Unknown("it says that it drew nothing")
    return Energy(joules=joules, source="power" if by_counter is None else "counter")


def _checked(
    points: Sequence[Point],
    until_s: float,
    measure: Callable[[Sequence[Point], float], float],
) -> float:
    inside = sum(0 <= at <= until_s for at, _ in points)
    if inside < FEWEST_SAMPLES:
        raise Unknown(
            f"too short: {inside} {'sample' if inside == 1 else 'samples'} in {until_s:.1f} s; "
            f"energy needs at least {FEWEST_SAMPLES}"
        )
    near = _around(points, until_s)
    gap = max(after[0] - before[0] for before, after in pairwise(near))
    if gap > LARGEST_GAP_S:
        raise Unknown(
            f"two samples are {gap:.1f} s apart; energy needs one every {LARGEST_GAP_S:.0f} s"
        )
    return measure(near, until_s)


def _agree(counter: float, power: float) -> None:
    apart = abs(counter - power)
    if apart > LARGEST_DISAGREEMENT * max(abs(counter), abs(power)):
        raise Unknown(
            f"its counter says {counter:,.0f} J and its power {power:,.0f} J, more than "
            f"{LARGEST_DISAGREEMENT:.0%} apart"
        )


def trapezoid(points: Sequence[Point], until_s: float) -> float:
    """The integral of straight lines between ``points`` from 0 to ``until_s``, held level for up to
    a second beyond the first and the last. Raises :class:`Unknown` where they do not reach."""
    first, last = points[0], points[-1]
    late, early = max(first[0], 0.0), max(until_s - last[0], 0.0)
    if late > _EDGE_S or early > _EDGE_S:
        raise Unknown(_uncovered(late, early))
    level = [(min(first[0], 0.0), first[1]), *points, (max(last[0], until_s), last[1])]
    return math.fsum(_area(before, after, until_s) for before, after in pairwise(level))


def _area(before: Point, after: Point, until_s: float) -> float:
    left, right = max(before[0], 0.0), min(after[0], until_s)
    if right <= left:
        return 0.0
    return (right - left) * (_between(before, after, left) + _between(before, after, right)) / 2


def counted(points: Sequence[Point], until_s: float) -> float:
    """What a counter grew by from 0 to ``until_s``. Raises :class:`Unknown` where it fell, or was
    not read before and after."""
    for before, after in pairwise(points):
        if after[1] < before[1]:
            raise Unknown(
                f"its counter fell from {before[1]:,.0f} to {after[1]:,.0f} J: it began anew, or "
                "ran over"
            )
    late, early = max(points[0][0], 0.0), max(until_s - points[-1][0], 0.0)
    if late or early:
        raise Unknown(_uncovered(late, early))
    return _at(points, until_s) - _at(points, 0.0)


def _uncovered(late: float, early: float) -> str:
    if late >= early:
        return f"its first sample came {late:.1f} s after the first request"
    return f"its last sample came {early:.1f} s before the last token"


def _at(points: Sequence[Point], moment: float) -> float:
    for before, after in pairwise(points):
        if before[0] <= moment <= after[0]:
            return _between(before, after, moment)
    raise ValueError("a moment outside of all samples")


def _between(before: Point, after: Point, moment: float) -> float:
    span = after[0] - before[0]
    if span <= 0:
        return after[1]
    share = (moment - before[0]) / span
    return before[1] * (1 - share) + after[1] * share


def _around(points: Sequence[Point], until_s: float) -> list[Point]:
    """Those in the window, the last one before it and the first one after it."""
    begin = max((i for i, (at, _) in enumerate(points) if at <= 0), default=0)
    last = len(points) - 1
    end = min((i for i, (at, _) in enumerate(points) if at >= until_s), default=last)
    return list(points[begin : end + 1])
