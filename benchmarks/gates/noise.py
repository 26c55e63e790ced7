"""Simulated launches: how their luck is distributed, and who was launched when.

Everything is on the scale of logarithms. Luck is drawn in the order of launching, with mean zero;
the draws know nothing of the rules that are tried on them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Rng = np.random.Generator

_NEIGHBOURS = 0.5  # correlation of a launch with the one before
_DRIFT = 0.2  # standard deviations from one launch to the next


def _normal(rng: Rng, rows: int, count: int) -> Floats:
    return rng.standard_normal((rows, count))


def _heavy(rng: Rng, rows: int, count: int) -> Floats:
    drawn: Floats = rng.standard_t(3, (rows, count)) / math.sqrt(3)
    return drawn


def _skewed(rng: Rng, rows: int, count: int) -> Floats:
    """Most launches are a little better than the mean, and few are much worse."""
    return 1 - rng.standard_exponential((rows, count))


def _two_kinds(share: float, apart: float) -> Callable[[Rng, int, int], Floats]:
    """``share`` of the launches is slower by ``apart`` standard deviations of the others."""
    spread = math.sqrt(1 + share * (1 - share) * apart**2)

    def draw(rng: Rng, rows: int, count: int) -> Floats:
        slow = rng.random((rows, count)) < share
        drawn = rng.standard_normal((rows, count)) - apart * (slow - share)
        return np.asarray(drawn / spread, dtype=np.float64)

    return draw


def _neighbours(rng: Rng, rows: int, count: int) -> Floats:
    return correlated(rng.standard_normal((rows, count)), _NEIGHBOURS)


def _drifting(rng: Rng, rows: int, count: int) -> Floats:
    drift = _DRIFT * (np.arange(count) - (count - 1) / 2)
    return rng.standard_normal((rows, count)) - drift


#: Luck of ``count`` launches in each of so many rows; standard deviation one, drift left aside.
SHAPES: Mapping[str, Callable[[Rng, int, int], Floats]] = {
    "normal": _normal,
    "heavy tails (t3)": _heavy,
    "skewed": _skewed,
    "two kinds, 20 % slow": _two_kinds(0.2, 3.0),
    "two kinds, 30 % slow": _two_kinds(0.3, 3.0),
    "two kinds far apart, 20 % slow": _two_kinds(0.2, 30.0),
    "neighbours alike (0.5)": _neighbours,
    "linear drift": _drifting,
}


def _to_the_good_side(draw: Callable[[Rng, int, int], Floats]) -> Callable[[Rng, int, int], Floats]:
    def mirrored(rng: Rng, rows: int, count: int) -> Floats:
        return -draw(rng, rows, count)

    return mirrored


#: For histories alone: a kind that many sessions may never have shown, and luck the other way,
#: which hides a loss rather than fakes one.
MORE_SHAPES: Mapping[str, Callable[[Rng, int, int], Floats]] = {
    "two kinds far apart, 5 % slow": _two_kinds(0.05, 30.0),
    "skewed to the good side": _to_the_good_side(_skewed),
    "two kinds far apart, 20 % fast": _to_the_good_side(_two_kinds(0.2, 30.0)),
    "linear drift to the good side": _to_the_good_side(_drifting),
}


def correlated(fresh: Floats, phi: float) -> Floats:
    """A stationary AR(1) sequence along the last axis, made from independent draws."""
    if not phi:
        return fresh
    found = np.empty_like(fresh)
    found[..., 0] = fresh[..., 0]
    for at in range(1, fresh.shape[-1]):
        found[..., at] = phi * found[..., at - 1] + math.sqrt(1 - phi**2) * fresh[..., at]
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """How launches and their runs differ.

    ``launch_sigma`` is the standard deviation between launches, ``run_sigma`` that between runs of
    a launch, where ``phi`` is the correlation of a run with the one before.
    """

    launch_sigma: float
    run_sigma: float
    shape: str = "normal"
    runs: int = 3
    phi: float = 0.0

    def values(self, rng: Rng, rows: int, launches: int) -> Floats:
        """What runs measure at a true value of one: rows x launches x runs."""
        luck = self.launch_sigma * SHAPES[self.shape](rng, rows, launches)
        own = correlated(rng.standard_normal((rows, launches, self.runs)), self.phi)
        found: Floats = np.exp(luck[:, :, None] + self.run_sigma * own)
        return found

    def logs(self, rng: Rng, rows: int, launches: int) -> Floats:
        """Logarithms of the means of launches: rows x launches."""
        found: Floats = np.log(self.values(rng, rows, launches).mean(axis=2))
        return found


def noise_of_pairs(pair_sigma: float, shape: str = "normal", phi: float = 0.0) -> Noise:
    """Launches of which pairs differ by ``pair_sigma``; runs differ as much as launch means do.

    With ``phi`` more of that is the runs', as their mean then averages less away.
    """
    runs = 3
    mean_sigma = pair_sigma / math.sqrt(2)
    lags = sum((1 - lag / runs) * phi**lag for lag in range(1, runs))
    of_runs = (1 + 2 * lags) / runs
    return Noise(
        launch_sigma=mean_sigma * math.sqrt(1 - of_runs),
        run_sigma=mean_sigma,
        shape=shape,
        runs=runs,
        phi=phi,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Launches of both sides in order: rows x pairs (x anything)."""

    candidate: Floats
    reference: Floats


def abba(rng: Rng, launches: Floats) -> Sides:
    """Deal launches, in order of time along axis 1, to two sides as a duel does.

    In blocks of four: one, other, other, one; who begins is drawn for each block.
    """
    rows, count = launches.shape[:2]
    pairs = count // 2
    begins = np.repeat(rng.random((rows, pairs // 2)) < 0.5, 2, axis=1)
    first = begins ^ (np.arange(pairs) % 2 == 1)  # whether the candidate is first in the pair
    first = first.reshape(first.shape + (1,) * (launches.ndim - 2))
    early, late = launches[:, 0::2], launches[:, 1::2]
    return Sides(candidate=np.where(first, early, late), reference=np.where(first, late, early))


def shifts(rng: Rng, noise: Noise, rows: int, pairs: int) -> Floats:
    """What pairs of equal servers differ by, to the candidate's bad side: rows x pairs."""
    sides = abba(rng, noise.logs(rng, rows, 2 * pairs))
    return sides.reference - sides.candidate
