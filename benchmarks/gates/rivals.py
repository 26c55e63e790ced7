"""What others decide of the same launches, re-implemented as their sources say.

Each rule sees values of a metric of which more is better. Those that compare times get the same
ratio the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .noise import Bools, Floats

_LEVEL = 0.05
_THRESHOLD = 0.05
_TRIES = 3
_REPEATS = 5
_FEWEST, _MOST = 3, 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """What was stored and what is fresh: rows x launches x runs; requests of the first run of the
    first launch: rows x requests."""

    stored: Floats
    fresh: Floats
    stored_requests: Floats
    fresh_requests: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """``alarms`` says which rows it would fail; ``launches`` how many fresh ones it looks at."""

    name: str
    source: str
    launches: str
    alarms: Callable[[Session], Bools]


def compare_fail(session: Session) -> Bools:
    """The mean of one stored session's rounds, and 5 % of it."""
    stored, fresh = session.stored[:, 0].mean(axis=1), session.fresh[:, 0].mean(axis=1)
    return np.asarray(stored / fresh * 100 - 100 > _THRESHOLD * 100)


def ratio(threshold: float) -> Callable[[Session], Bools]:
    """The previous value by the current one, where more is better."""

    def alarms(session: Session) -> Bools:
        return np.asarray(session.stored[:, 0, 0] / session.fresh[:, 0, 0] > threshold)

    return alarms


def welch(session: Session) -> Bools:
    """Five repeats in one session, five stored: Welch's t test, and the mean is worse."""
    stored, fresh = session.stored[:, 0, :_REPEATS], session.fresh[:, 0, :_REPEATS]
    chance = welch_p(stored, fresh)
    return np.asarray((chance < _LEVEL) & (fresh.mean(axis=1) < stored.mean(axis=1)))


def welch_p(one: Floats, other: Floats) -> Floats:
    """Two-sided, with the degrees of freedom of Welch and Satterthwaite."""
    from scipy.special import stdtr

    count = one.shape[1]
    first, second = one.var(axis=1, ddof=1) / count, other.var(axis=1, ddof=1) / count
    df = (first + second) ** 2 / ((first**2 + second**2) / (count - 1))
    t = (one.mean(axis=1) - other.mean(axis=1)) / np.sqrt(first + second)
    return np.asarray(2 * stdtr(df, -np.abs(t)), dtype=np.float64)


def retry(session: Session) -> Bools:
    """Up to three tries, each a launch with one run; one that is not 5 % below is green."""
    stored = session.stored[:, 0, 0]
    tries = session.fresh[:, :_TRIES, 0] < (1 - _THRESHOLD) * stored[:, None]
    return np.asarray(tries.all(axis=1))


def peeking(session: Session) -> Bools:
    """A paired t test after each pair from the third on, until one says p < .05."""
    from scipy.special import stdtr

    shifts = np.log(session.stored.mean(axis=2)) - np.log(session.fresh.mean(axis=2))
    found = np.zeros(len(shifts), dtype=np.bool_)
    for pairs in range(_FEWEST, _MOST + 1):
        seen = shifts[:, :pairs]
        t = seen.mean(axis=1) / (seen.std(axis=1, ddof=1) / math.sqrt(pairs))
        found |= (2 * stdtr(pairs - 1, -np.abs(t)) < _LEVEL) & (t > 0)
    return found


def mann_whitney(session: Session) -> Bools:
    """Every request of one run of each side as if it were a sample of its own."""
    fresh, stored = session.fresh_requests, session.stored_requests
    chance, fewer = mann_whitney_p(fresh, stored)
    return (chance < _LEVEL) & fewer


def mann_whitney_p(one: Floats, other: Floats) -> tuple[Floats, Bools]:
    """Two-sided by the normal approximation, and whether ``one`` tends to be the smaller."""
    from scipy.special import ndtr

    n, m = one.shape[1], other.shape[1]
    ranks = np.concatenate([one, other], axis=1).argsort(axis=1).argsort(axis=1) + 1.0
    above = ranks[:, :n].sum(axis=1) - n * (n + 1) / 2
    z = (above - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12)
    return np.asarray(2 * ndtr(-np.abs(z)), dtype=np.float64), z < 0


RIVALS = (
    Rival(
        name="one stored run, `mean:5%`",
        source="pytest-benchmark, `--benchmark-compare-fail`, PercentageRegressionCheck",
        launches="1",
        alarms=compare_fail,
    ),
    Rival(
        name="ratio to the last value, 150 %",
        source="github-action-benchmark, `alert-threshold`: findAlerts in write.ts (default 200 %)",
        launches="1",
        alarms=ratio(1.5),
    ),
    Rival(
        name="ratio to the last value, 105 %",
        source="github-action-benchmark with a lower `alert-threshold`",
        launches="1",
        alarms=ratio(1.05),
    ),
    Rival(
        name="Welch's t test, 5 repeats against 5 stored, p < .05",
        source="a common home-made gate; scipy.stats.ttest_ind(equal_var=False)",
        launches="1",
        alarms=welch,
    ),
    Rival(
        name="5 % under one stored run, retried until green, 3 tries",
        source="a common CI habit; pytest-rerunfailures' `--reruns 2` does it",
        launches="1 to 3",
        alarms=retry,
    ),
    Rival(
        name="paired t test after each of 3 to 12 pairs, p < .05",
        source="a common mistake: looking until it shows",
        launches="3 to 12 on each side",
        alarms=peeking,
    ),
    Rival(
        name="Mann-Whitney on the requests of one run each, p < .05",
        source="a common home-made gate; scipy.stats.mannwhitneyu",
        launches="1",
        alarms=mann_whitney,
    ),
)
