"""How two sets of launches differ, with the interval that their own spread allows."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pytest_llmperf.records import Direction

from .stats import t_quantile

#: ``noise``: the interval holds "no change". ``unknown``: there is no interval, or nothing at all.
Word = Literal["worse", "better", "noise", "unknown"]

#: Launches that a side needs for its spread to be seen.
ENOUGH_LAUNCHES = 2
# Rounding of means must not make a difference where two sides measured the same.
_TOUCHING = 1e-9
_LARGEST_LOG = 700.0  # of a number that a float holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """``after`` compared with ``before``, both means over launches in the metric's unit.

    ``change`` and its interval are fractions of ``before``, positive where the number grew,
    whichever direction is good. They are ``None`` where they cannot be told: ``change`` where
    ``before`` is zero or a side is empty or infinite, the interval also with one launch a side.
    """

    before: float | None
    after: float | None
    change: float | None
    low: float | None
    high: float | None
    word: Word
    n_before: int
    n_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shift:
    """The difference of two means on the scale of comparison; ``half`` the interval's half."""

    size: float
    half: float | None


def compare_launches(
    before: Sequence[float],
    after: Sequence[float],
    *,
    direction: Direction,
    confidence: float,
    counted: bool = False,
) -> Difference:
    """Compare launch means of one metric, each at least zero, ``math.inf`` where failed requests
    pushed it there.

    The interval is Welch's t interval of ``confidence`` (0.99) on the log scale; on the metric's
    own scale for counts (``counted``) and where a mean is zero and has no logarithm. ``worse`` and
    ``better`` are said only where the whole interval lies on that side.
    """
    if not before or not after or math.inf in before or math.inf in after:
        return _without_numbers(before, after, direction)
    log = not counted and min(*before, *after) > 0
    shift = _welch(_scaled(before, log), _scaled(after, log), confidence)
    base = _mean(before, log)
    ends: list[float | None] = [None, None]
    if shift.half is not None:
        ends = [_change(shift.size + sign * shift.half, base, log) for sign in (-1, 1)]
    return Difference(
        before=base,
        after=_mean(after, log),
        change=_change(shift.size, base, log),
        low=ends[0],
        high=ends[1],
        word=_word(shift, direction),
        n_before=len(before),
        n_after=len(after),
    )


def _without_numbers(
    before: Sequence[float], after: Sequence[float], direction: Direction
) -> Difference:
    """One side is empty, or infinite: then which side it is says enough, if both are there."""
    word: Word = "unknown"
    if before and after and (math.inf in before) != (math.inf in after):
        grew = math.inf in after
        word = "better" if grew == (direction == "higher") else "worse"
    return Difference(
        before=_mean(before, log=False) if before else None,
        after=_mean(after, log=False) if after else None,
        change=None,
        low=None,
        high=None,
        word=word,
        n_before=len(before),
        n_after=len(after),
    )


def _welch(before: Sequence[float], after: Sequence[float], confidence: float) -> _Shift:
    size = statistics.fmean(after) - statistics.fmean(before)
    if min(len(before), len(after)) < ENOUGH_LAUNCHES:
        return _Shift(size=size, half=None)
    shares = [statistics.variance(side) / len(side) for side in (before, after)]
    if sum(shares) == 0:
        return _Shift(size=size, half=0.0)
    spread = sum(
        share**2 / (len(side) - 1) for share, side in zip(shares, (before, after), strict=True)
    )
    # Rounded down: the interval gets wider by it, never narrower.
    df = max(1, int(sum(shares) ** 2 / spread)) if spread > 0 else 1
    return _Shift(size=size, half=t_quantile(df, (1 + confidence) / 2) * math.sqrt(sum(shares)))


def _word(shift: _Shift, direction: Direction) -> Word:
    if shift.half is None:
        return "unknown"
    if abs(shift.size) - shift.half <= _TOUCHING:
        return "noise"
    return "better" if (shift.size > 0) == (direction == "higher") else "worse"


def _scaled(values: Sequence[float], log: bool) -> list[float]:
    return [math.log(value) for value in values] if log else list(values)


def _mean(values: Sequence[float], log: bool) -> float:
    if log and min(values) != max(values):
        return statistics.geometric_mean(values)
    return statistics.fmean(values)


def _change(shift: float, base: float, log: bool) -> float | None:
    if log:
        return math.expm1(min(shift, _LARGEST_LOG))
    return shift / base if base else None
