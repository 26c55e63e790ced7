"""What a design can see: losses, pairs and chances, before anything is launched.

Found by playing the decision rule itself, on the same seeded launches each time: the looks depend
on each other, and a formula for a single look would promise too much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from .design import FEWEST_PAIRS, Design, Look, fits_below, lower_width, prior_weight, upper_width
from .stats import POWER, normal_quantile

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Bools = npt.NDArray[np.bool_]

_SEED = 20261122
_REPETITIONS = 4000  # each also mirrored: a chance is good to half a percent
_HALVINGS = 24
_TINY = 1e-300
_DOUBLINGS = 60
#: The most pairs that are looked at for an answer to "how many would it take".
MOST_PAIRS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Chances:
    """How a comparison ends: the chances to fail and to pass (the rest is undecided at the last
    look), and the mean number of pairs."""

    fail: float
    passed: float
    pairs: float


def chances(design: Design, sigma: float, loss: float, df: int | None = None) -> Chances:
    """How a comparison ends where the candidate is truly worse by ``loss``.

    ``sigma`` is the true standard deviation of a pair's log ratio; ``df`` those of a prior that
    says the same, ``None`` without one.
    """
    return _play(design, sigma, design.shift(loss), df)


def detectable_loss(design: Design, sigma: float, df: int | None = None) -> float:
    """The loss that fails with a probability of :data:`~.stats.POWER` by the last look.

    ``sigma`` and ``df`` as for :func:`chances`. Infinite where no look can show a loss.
    """
    low = design.shift(design.allow)
    high = max(design.half_way, sigma)
    for _ in range(_DOUBLINGS):
        if _play(design, sigma, high, df).fail >= POWER:
            break
        low, high = high, 2 * high
    else:
        return math.inf
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if _play(design, sigma, middle, df).fail >= POWER:
            high = middle
        else:
            low = middle
    return design.loss(high)


def pairs_expected(design: Design, sigma: float, loss: float = 0.0, df: int | None = None) -> float:
    """The mean number of pairs until it is decided, where the true loss is ``loss``."""
    return chances(design, sigma, loss, df).pairs


def pairs_needed(
    design: Design, sigma: float, power: float = 0.95, most: int = MOST_PAIRS
) -> int | None:
    """The least most number of pairs with which the loss to catch fails with ``power``.

    ``None``: more than ``most``. The looks are those at even numbers of pairs.
    """
    enough = (pairs for pairs in _caps(most) if _catches(design.up_to(pairs), sigma, power))
    return next(enough, None)


def _caps(most: int) -> range:
    return range(FEWEST_PAIRS, most + 1, 2)


def _catches(design: Design, sigma: float, power: float) -> bool:
    needed = normal_quantile(power) * sigma / math.sqrt(design.most_pairs)
    if design.shift(design.loss_to_catch) - design.half_way < needed:
        return False  # not even the estimate would lie above half-way often enough
    return chances(design, sigma, design.loss_to_catch).fail >= power


# --- the rule, for many comparisons at once ---------------------------------------------------


def _play(design: Design, sigma: float, shift: float, df: int | None) -> Chances:
    import numpy as np

    means, spreads = _launched(design.looks)
    undecided = np.ones(means.shape[1], dtype=np.bool_)
    failed = passed = pairs = 0
    for look, mean, spread in zip(design.plan, means, spreads, strict=True):
        shown, excluded = _bounds(design, look, shift + sigma * mean, sigma * spread, sigma, df)
        failed += int(np.count_nonzero(undecided & shown))
        passed += int(np.count_nonzero(undecided & excluded & ~shown))
        here = undecided & (shown | excluded) if look.pairs < design.most_pairs else undecided
        pairs += look.pairs * int(np.count_nonzero(here))
        undecided = undecided & ~here
    count = means.shape[1]
    return Chances(fail=failed / count, passed=passed / count, pairs=pairs / count)


def _bounds(
    design: Design, look: Look, mean: Floats, spread: Floats, sigma: float, prior_df: int | None
) -> tuple[Bools, Bools]:
    """Whether a loss is shown, and whether it is excluded, at one look."""
    import numpy as np

    df = look.pairs - 1
    low = np.full(mean.shape, lower_width(look, df))
    high = np.full(mean.shape, upper_width(look, df))
    if prior_df:
        fits = spread**2 <= sigma**2 * fits_below(df, prior_df)
        weight = prior_weight(df, prior_df)
        pooled = np.sqrt((df * spread**2 + weight * sigma**2) / (df + weight))
        spread = np.where(fits, pooled, spread)
        low[fits] = lower_width(look, df + weight)
        high[fits] = upper_width(look, df + weight)
    error = np.maximum(spread, _TINY) / math.sqrt(look.pairs)  # an infinite width of no spread
    above = mean > design.half_way
    shown = above & (mean - low * error > design.shift(design.allow))
    excluded = mean + high * error < design.shift(design.loss_to_catch)
    return shown, excluded & (~above | (look.pairs == design.most_pairs))


@lru_cache(maxsize=64)
def _launched(looks: tuple[int, ...]) -> tuple[Floats, Floats]:
    """Means and standard deviations at each look of pairs with unit spread around zero."""
    import numpy as np

    noise = np.random.default_rng(_SEED).standard_normal((_REPETITIONS, looks[-1]))
    means = np.stack([noise[:, :pairs].mean(axis=1) for pairs in looks])
    spreads = np.stack([noise[:, :pairs].std(axis=1, ddof=1) for pairs in looks])
    return np.concatenate([means, -means], axis=1), np.concatenate([spreads, spreads], axis=1)
