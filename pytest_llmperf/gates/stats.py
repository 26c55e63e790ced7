"""Means, intervals and detectable losses over server launches.

A launch is the unit: the runs of one launch share its luck with memory layout, clocks and
compiled kernels, so they make one number. Launches are compared on the log scale, where a loss of
so many percent has the same size at any speed.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

#: How often a loss of the printed detectable size is seen.
POWER = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchSummary:
    """One metric over all launches.

    ``mean`` and the interval are in the metric's unit; ``sigma`` is the standard deviation between
    launches: of logarithms, so about a fraction of the mean, or in the metric's unit for a summary
    that is not on the log scale. ``None``: too few launches, or no logarithm, to say.
    """

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    sigma: float | None
    df: int | None
    n_launches: int
    n_runs: int


def launch_summary(
    values: Sequence[Sequence[float]], confidence: float, *, log: bool = True
) -> LaunchSummary:
    """Summarise ``values``, one sequence of finite run values per launch; empty ones are skipped.

    Runs are averaged within their launch, launch means geometrically with a t interval of
    ``confidence`` (0.99). ``log=False`` averages launches arithmetically, for counts. Where a
    launch mean is not positive there is no logarithm: the mean is arithmetic, without interval.
    """
    launches = [launch for launch in values if launch]
    means = [statistics.fmean(launch) for launch in launches]
    if log and all(mean > 0 for mean in means):
        return _summarise(means, launches, confidence, log=True)
    return _summarise(means, launches, None if log else confidence, log=False)


def _summarise(
    means: Sequence[float],
    launches: Sequence[Sequence[float]],
    confidence: float | None,
    *,
    log: bool,
) -> LaunchSummary:
    points = [math.log(mean) for mean in means] if log else means
    back = _exp if log else float
    centre = statistics.fmean(points) if points else None
    sigma, df, half = None, None, None
    if confidence is not None and len(points) > 1:
        sigma, df = statistics.stdev(points), len(points) - 1
        half = t_quantile(df, (1 + confidence) / 2) * sigma / math.sqrt(len(points))
    return LaunchSummary(
        mean=_mean(means, centre, log=log),
        ci_low=None if centre is None or half is None else back(centre - half),
        ci_high=None if centre is None or half is None else back(centre + half),
        sigma=sigma,
        df=df,
        n_launches=len(means),
        n_runs=sum(len(launch) for launch in launches),
    )


def _mean(means: Sequence[float], centre: float | None, *, log: bool) -> float | None:
    if centre is None:
        return None
    if min(means) == max(means):  # what was measured, without a rounding through the logarithm
        return means[0]
    return _exp(centre) if log else centre


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def detectable_shift(sigma: float, n_launches: int, level: float) -> float:
    """The shift of the mean of ``n_launches``, in units of ``sigma``'s scale, that a two-sided
    t test at ``level`` sees with probability :data:`POWER`.

    With t the test's critical value and df = n - 1, it is nc·σ/√n, where nc is the noncentrality
    for which a noncentral t variable exceeds t with that probability. (t + t₀.₉)·σ/√n, as often
    written, is a fifth too small with three launches.
    """
    df = n_launches - 1
    return noncentrality(df, t_quantile(df, 1 - level / 2)) * sigma / math.sqrt(n_launches)


@lru_cache(maxsize=256)
def t_quantile(df: int, probability: float) -> float:
    """The quantile of Student's t distribution."""
    from scipy.special import stdtrit  # slow to import, and most pytest runs never need it

    return float(stdtrit(df, probability))


@lru_cache(maxsize=256)
def normal_quantile(probability: float) -> float:
    """The quantile of the standard normal distribution."""
    return statistics.NormalDist().inv_cdf(probability)


@lru_cache(maxsize=256)
def noncentrality(df: int, critical: float) -> float:
    """The shift, in standard errors, that exceeds ``critical`` with probability :data:`POWER`."""
    from scipy.special import nctdtrinc

    return float(nctdtrinc(df, 1 - POWER, critical))
