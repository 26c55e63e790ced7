"""Decide after each pair of launches: a loss is shown, a loss is excluded, or launch on."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llmperf.records import VerdictWord

from .design import Design, Look, Prior, fits_below, lower_width, prior_weight, upper_width
from .power import detectable_loss as detectable_loss
from .power import pairs_expected as pairs_expected
from .power import pairs_needed as pairs_needed

# Rounding must not show a loss, or exclude one, that lies exactly on its bound.
_TOUCHING = 1e-12


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a comparison stands after ``pairs`` pairs of launches.

    ``look`` counts from 1 and is ``None`` between looks, where there are no bounds. Losses are
    fractions, negative for a gain; ``loss_low`` is ``None`` also at a look that can show no loss.
    ``sigma`` and ``df`` are what the bounds are made of: the spread of a pair's log ratio.
    ``word`` is ``None`` while there is reason to launch on. ``code`` is "loss_shown",
    "loss_excluded", "noise" (undecided at the last look) or "more".
    """

    design: Design
    pairs: int
    code: str
    word: VerdictWord | None = None
    look: int | None = None
    loss: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None
    sigma: float | None = None
    df: int | None = None

    @property
    def detectable_loss(self) -> float | None:
        """The loss that would fail 9 times in 10 by the last look, at the spread seen; takes some
        milliseconds. ``None`` without a spread; infinite where no look can show a loss."""
        return None if self.sigma is None else detectable_loss(self.design, self.sigma)


@dataclass(frozen=True, slots=True)
class _Estimate:
    mean: float
    sigma: float
    df: int
    pairs: int

    @property
    def error(self) -> float:
        return self.sigma / math.sqrt(self.pairs)


def decide(shifts: Sequence[float], design: Design, prior: Prior | None = None) -> State:
    """Where a comparison stands.

    ``shifts``, one for each pair in the order of launching, are the candidate's badness on the log
    scale: log(reference / candidate) where higher is better, log(candidate / reference) where lower
    is. The first look that decides holds, whatever came after it; between looks nothing is
    decided. Raises :class:`ValueError` for a shift that is not finite.
    """
    if not all(map(math.isfinite, shifts)):
        raise ValueError("a pair of launches without a finite ratio")
    state = _between(shifts, design)
    for number, look in enumerate(design.plan, start=1):
        if look.pairs > len(shifts):
            return _between(shifts, design)
        state = _at(look, number, _estimate(shifts[: look.pairs], prior), design)
        if state.word is not None:
            return state
    return state


def _between(shifts: Sequence[float], design: Design) -> State:
    return State(
        design=design,
        pairs=len(shifts),
        code="more",
        loss=design.loss(statistics.fmean(shifts)) if shifts else None,
        sigma=statistics.stdev(shifts) if len(shifts) > 1 else None,
        df=len(shifts) - 1 if len(shifts) > 1 else None,
    )


def _at(look: Look, number: int, seen: _Estimate, design: Design) -> State:
    low = seen.mean - lower_width(look, seen.df) * seen.error if look.alpha else None
    high = seen.mean + upper_width(look, seen.df) * seen.error
    word, code = _decision(design, look, low, seen.mean, high)
    return State(
        design=design,
        pairs=look.pairs,
        code=code,
        word=word,
        look=number,
        loss=design.loss(seen.mean),
        loss_low=None if low is None else design.loss(low),
        loss_high=design.loss(high),
        sigma=seen.sigma,
        df=seen.df,
    )


def _decision(
    design: Design, look: Look, low: float | None, mean: float, high: float
) -> tuple[VerdictWord | None, str]:
    tolerated = design.shift(design.allow) + _TOUCHING
    above, last = mean > design.half_way + _TOUCHING, look.pairs == design.most_pairs
    if low is not None and low > tolerated and above:
        return "fail", "loss_shown"
    # An estimate above half-way waits: it may fail at a later look, which can show smaller losses.
    if high < design.shift(design.loss_to_catch) - _TOUCHING and (last or not above):
        return "pass", "loss_excluded"
    return ("inconclusive", "noise") if last else (None, "more")


def _estimate(shifts: Sequence[float], prior: Prior | None) -> _Estimate:
    """Mean and spread of the shifts. A prior adds degrees of freedom with a capped weight, and only
    while the spread seen now is not wider than it: it may never narrow a bound by hearsay."""
    mean, sigma, df = statistics.fmean(shifts), statistics.stdev(shifts), len(shifts) - 1
    if prior is not None and _fits(prior, sigma, df):
        weight = prior_weight(df, prior.df)
        sigma = math.sqrt((df * sigma**2 + weight * prior.sigma**2) / (df + weight))
        df += weight
    return _Estimate(mean=mean, sigma=sigma, df=df, pairs=len(shifts))


def _fits(prior: Prior, sigma: float, df: int) -> bool:
    return prior.df > 0 and sigma**2 <= prior.sigma**2 * fits_below(df, prior.df)
