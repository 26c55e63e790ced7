"""The shipped rule of decision for many comparisons at once, held against the shipped one.

A million sequences through the shipped function take minutes; this takes a second. Every cell
sends a sample of its sequences through both, and stops where they differ.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from pytest_llmperf.gates.design import (
    Design,
    Look,
    Prior,
    fits_below,
    lower_width,
    prior_weight,
    upper_width,
)
from pytest_llmperf.gates.sequential import decide

from .noise import Bools, Floats, Ints

UNDECIDED, PASSED, FAILED = 0, 1, 2
WORDS = {"inconclusive": UNDECIDED, "pass": PASSED, "fail": FAILED}
_SAMPLE = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Priors:
    """What a calibration found for each row, with the same degrees of freedom for all."""

    sigma: Floats
    df: int

    def of(self, row: int) -> Prior:
        return Prior(sigma=float(self.sigma[row]), df=self.df)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """How each row ended, and after how many pairs."""

    words: Ints
    pairs: Ints

    def share(self, word: int) -> float:
        return float(np.mean(self.words == word))


def decide_all(shifts: Floats, design: Design, priors: Priors | None = None) -> Ends:
    """What ``decide`` says of each row of pairs, and when."""
    words = np.full(len(shifts), UNDECIDED, dtype=np.int64)
    pairs = np.full(len(shifts), design.most_pairs, dtype=np.int64)
    waiting = np.ones(len(shifts), dtype=np.bool_)
    for look in design.plan:
        shown, excluded = _at(shifts[:, : look.pairs], look, design, priors)
        words[waiting & shown] = FAILED
        words[waiting & excluded & ~shown] = PASSED
        decided = waiting & (shown | excluded)
        pairs[decided] = look.pairs
        waiting &= ~decided
    return Ends(words=words, pairs=pairs)


def _at(seen: Floats, look: Look, design: Design, priors: Priors | None) -> tuple[Bools, Bools]:
    """Whether a loss is shown at this look, and whether it is excluded."""
    mean, spread, df = seen.mean(axis=1), seen.std(axis=1, ddof=1), look.pairs - 1
    low = np.full(mean.shape, lower_width(look, df))
    high = np.full(mean.shape, upper_width(look, df))
    if priors is not None:
        weight = prior_weight(df, priors.df)
        fits = spread**2 <= priors.sigma**2 * fits_below(df, priors.df)
        pooled = np.sqrt((df * spread**2 + weight * priors.sigma**2) / (df + weight))
        spread = np.where(fits, pooled, spread)
        low[fits], high[fits] = lower_width(look, df + weight), upper_width(look, df + weight)
    error = spread / math.sqrt(look.pairs)
    above = mean > design.half_way
    shown = above & (mean - low * error > design.shift(design.allow))
    excluded = mean + high * error < design.shift(design.loss_to_catch)
    return shown, excluded & (~above | (look.pairs == design.most_pairs))


def check(shifts: Floats, design: Design, ends: Ends, priors: Priors | None = None) -> int:
    """Send the first rows through the shipped function; how many they were.

    Raises :class:`AssertionError` where it decides anything else, or at another time.
    """
    count = min(_SAMPLE, len(shifts))
    for row in range(count):
        prior = None if priors is None else priors.of(row)
        state = decide(shifts[row].tolist(), design, prior)
        twin = int(ends.words[row]), int(ends.pairs[row])
        if state.word is None or (WORDS[state.word], state.pairs) != twin:
            raise AssertionError(f"decide says {state}, its twin {twin}")
    return count
