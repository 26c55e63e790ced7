"""The loss that is printed as detectable, beside the one that truly fails nine times in ten."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pytest_llmperf.gates.design import Design
from pytest_llmperf.gates.power import detectable_loss
from pytest_llmperf.gates.sequential import decide
from pytest_llmperf.gates.stats import POWER

from . import twin
from .ab import ALPHAS, QUIET, USUAL
from .cells import Cell, Number
from .noise import Floats, Rng, noise_of_pairs, shifts
from .twin import FAILED

_SEQUENCES = 40_000
_HALVINGS = 20
_MOST = 8.0  # pair standard deviations that a loss is looked for in
_WITHIN = 0.15
_PROFILE_DF = 85


@dataclass(frozen=True, slots=True, kw_only=True)
class Printed:
    """``profile_df``: of the calibration; ``None`` where only the pairs themselves are known."""

    design: Design
    pair_sigma: float
    profile_df: int | None


def play(case: Printed, rng: Rng, repetitions: int) -> Mapping[str, Number]:
    true = _true_loss(case, rng)
    printed = _by_profile(case, rng, repetitions)
    if case.profile_df is None:
        printed = _by_what_was_seen(case, rng, repetitions)
    ratio = printed / true
    low, middle, high = np.quantile(ratio, (0.05, 0.5, 0.95))
    return {
        "true_loss": true,
        "median_ratio": float(middle),
        "low_ratio": float(low),
        "high_ratio": float(high),
        "within": float(np.mean(np.abs(ratio - 1) <= _WITHIN)),
        "exact_ratio": detectable_loss(case.design, case.pair_sigma) / true,
    }


def _true_loss(case: Printed, rng: Rng) -> float:
    """By halving, always on the same launches."""
    noise = shifts(rng, noise_of_pairs(case.pair_sigma), _SEQUENCES, case.design.most_pairs)
    low, high = 0.0, case.design.shift(case.design.loss_to_catch) + _MOST * case.pair_sigma
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if twin.decide_all(noise + middle, case.design).share(FAILED) >= POWER:
            high = middle
        else:
            low = middle
    return case.design.loss(high)


def _by_profile(case: Printed, rng: Rng, repetitions: int) -> Floats:
    df = case.profile_df or 1
    sigmas = case.pair_sigma * np.sqrt(rng.chisquare(df, repetitions) / df)
    return np.array([detectable_loss(case.design, float(sigma)) for sigma in sigmas])


def _by_what_was_seen(case: Printed, rng: Rng, repetitions: int) -> Floats:
    """What the verdicts of unchanged servers print."""
    noise = noise_of_pairs(case.pair_sigma)
    seen = shifts(rng, noise, repetitions, case.design.most_pairs).tolist()
    printed = [decide(row, case.design).detectable_loss for row in seen]
    return np.array([loss for loss in printed if loss is not None])


def cells() -> Iterator[Cell]:
    for wish, sigma in ((0.03, QUIET), (0.03, USUAL), (0.10, USUAL)):
        for alpha in ALPHAS:
            for df in (_PROFILE_DF, None):
                design = Design(loss_to_catch=wish, alpha=alpha)
                yield Cell(
                    name=f"detectable: {wish:.0%} at {sigma:.2%}, alpha {alpha:g}, profile {df}",
                    table="detectable",
                    repetitions=300,
                    play=partial(play, Printed(design=design, pair_sigma=sigma, profile_df=df)),
                    settings={
                        "loss_to_catch": wish,
                        "pair_sigma": sigma,
                        "alpha": alpha,
                        "profile_df": df,
                    },
                )
