"""How much launches differ where nothing has changed: what a calibration finds."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from .history import two_kinds

#: With fewer launches there are too few pairs to say anything of their spread.
FEWEST_LAUNCHES = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """The spread of one metric, as standard deviations of logarithms, so about fractions.

    ``run_sigma`` is between runs of a launch (``None`` with one run each), ``launch_sigma`` between
    launches, ``pair_sigma`` of the ratio of two neighbours, by ``pair_df`` pairs whose true ratio
    is one. ``lag1`` is the correlation of a launch with the one before. ``bimodal`` says that
    launches are of two kinds.
    """

    run_sigma: float | None
    launch_sigma: float
    pair_sigma: float
    pair_df: int
    lag1: float
    bimodal: bool


def noise_of(launches: Sequence[Sequence[float]]) -> Noise | None:
    """The noise of ``launches``, each the values of its runs, in the order of launching.

    ``None`` where a value is not positive, or there are fewer launches than
    :data:`FEWEST_LAUNCHES`.
    """
    used = [launch for launch in launches if launch]
    if len(used) < FEWEST_LAUNCHES or any(value <= 0 for launch in used for value in launch):
        return None
    points = [math.log(statistics.fmean(launch)) for launch in used]
    ratios = [points[at + 1] - points[at] for at in range(0, len(points) - 1, 2)]
    return Noise(
        run_sigma=_within([[math.log(value) for value in launch] for launch in used]),
        launch_sigma=statistics.stdev(points),
        pair_sigma=math.sqrt(statistics.fmean(ratio**2 for ratio in ratios)),
        pair_df=len(ratios),
        lag1=_lag1(points),
        bimodal=two_kinds(points),
    )


def noise_by_metric(launches: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, Noise]:
    """The noise of every metric that has one."""
    found = {name: noise_of(values) for name, values in launches.items()}
    return {name: noise for name, noise in found.items() if noise is not None}


def _within(launches: Sequence[Sequence[float]]) -> float | None:
    repeated = [launch for launch in launches if len(launch) > 1]
    df = sum(len(launch) - 1 for launch in repeated)
    if not df:
        return None
    squares = sum((len(launch) - 1) * statistics.variance(launch) for launch in repeated)
    return math.sqrt(squares / df)


def _lag1(points: Sequence[float]) -> float:
    centre = statistics.fmean(points)
    whole = sum((point - centre) ** 2 for point in points)
    if not whole:
        return 0.0
    return sum((a - centre) * (b - centre) for a, b in pairwise(points)) / whole
