"""What a comparison declares before its first launch, and the bounds that follow from it.

The chance of a false alarm is shared out over the looks, and so is that of missing a loss: at each
look both bounds are plain t bounds at that look's share. That the shares add up is all the proof
needed, whatever the looks have to do with each other.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics import units
from pytest_llmperf.records import Direction, RegressionGate

from .stats import t_quantile

#: The first look. With fewer pairs a t bound is so wide that there is nothing to decide.
FEWEST_PAIRS = 4
#: Weight of a prior, in degrees of freedom, over those observed now.
PRIOR_WEIGHT = 2
# A prior counts only while the spread seen now is below the median of what it lets expect. Where
# the true spread is wider than the prior (tried: up to 3 times) false alarms stay within twice the
# nominal; at the customary 5 % of an F test they come to five times, in a family of twenty.
_FIT = 0.5
# Launches that are fast or slow by chance differ by the same amount and sign in a pair with a
# probability of 1/4 at most. All pairs alike have no spread at all, and a t bound believes them.
_ALIKE = 0.25
_LARGEST_LOG = 700.0  # of a number that a float holds


@dataclass(frozen=True, slots=True, kw_only=True)
class Prior:
    """The standard deviation of one pair's log ratio as a calibration found it, with its degrees
    of freedom. It never narrows a bound below the spread that is seen now."""

    sigma: float
    df: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A number of pairs at which a decision may be taken. ``alpha`` is its share of the chance of a
    false alarm (0: no loss can be shown here), ``beta`` of the chance of missing the loss."""

    pairs: int
    alpha: float
    beta: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """What a regression gate declares before its first launch.

    Losses are fractions (0.03 for 3 %) in the bad ``direction`` of the metric. ``alpha`` is this
    gate's share of the family's false-alarm rate, ``beta`` the chance to pass ``loss_to_catch``.
    ``looks`` are numbers of pairs, growing. Raises :class:`ValueError` where that cannot be.
    """

    loss_to_catch: float
    allow: float = 0.0
    alpha: float = 0.01
    beta: float = 0.05
    looks: tuple[int, ...] = (4, 6, 8, 10, 12)
    direction: Direction = "higher"

    def __post_init__(self) -> None:
        if not 0 <= self.allow < self.loss_to_catch < 1:
            raise ValueError(f"losses must grow: allow {self.allow}, catch {self.loss_to_catch}")
        if not (0 < self.alpha < 1 and 0 < self.beta < 1):
            raise ValueError(f"not probabilities: alpha {self.alpha}, beta {self.beta}")
        looks = self.looks
        if not looks or looks[0] < 2 or any(b <= a for a, b in pairwise(looks)):
            raise ValueError(f"looks must grow from two pairs on: {looks}")

    @property
    def most_pairs(self) -> int:
        return self.looks[-1]

    @property
    def fewest_to_fail(self) -> int | None:
        """Pairs after which a loss can be shown at the earliest; ``None``: never."""
        return next((look.pairs for look in self.plan if look.alpha), None)

    @property
    def plan(self) -> tuple[Look, ...]:
        """The looks with their shares of alpha and beta."""
        return _plan(self.looks, self.alpha, self.beta)

    def up_to(self, pairs: int) -> Design:
        """The same with another most number of pairs."""
        return Design(
            loss_to_catch=self.loss_to_catch,
            allow=self.allow,
            alpha=self.alpha,
            beta=self.beta,
            looks=_even(pairs),
            direction=self.direction,
        )

    def shift(self, loss: float) -> float:
        """A loss as a shift of the logarithm to the bad side."""
        if self.direction == "lower":
            return math.log1p(loss)
        return -math.log1p(-loss) if loss < 1 else math.inf

    def loss(self, shift: float) -> float:
        """A shift of the logarithm to the bad side as a loss; negative: a gain."""
        if self.direction == "lower":
            return math.expm1(min(shift, _LARGEST_LOG))
        return -math.expm1(min(-shift, _LARGEST_LOG))

    @property
    def half_way(self) -> float:
        """The shift above which an estimate must lie for a loss to be shown."""
        return (self.shift(self.allow) + self.shift(self.loss_to_catch)) / 2


def design_for(gate: RegressionGate, *, alpha: float, max_pairs: int = 12) -> Design:
    """The design of ``gate``: looks at every even number of pairs up to ``max_pairs``.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` where there would be no look at all.
    """
    if max_pairs < FEWEST_PAIRS:
        raise UsageMistake(
            f"{max_pairs} pairs of launches decide nothing: a comparison needs at least "
            f"{FEWEST_PAIRS} ({gate.source})."
        )
    return Design(
        loss_to_catch=gate.loss_to_catch,
        allow=gate.allow,
        alpha=alpha,
        looks=_even(max_pairs),
        direction=units.row_of(gate.metric).direction,
    )


def _even(most: int) -> tuple[int, ...]:
    return tuple(range(FEWEST_PAIRS, most + 1, 2))


@lru_cache(maxsize=256)
def _plan(looks: tuple[int, ...], alpha: float, beta: float) -> tuple[Look, ...]:
    """Equal shares; of alpha only for looks at which launches of two kinds cannot fake a loss."""
    begin = 0
    while begin < len(looks) and _ALIKE ** looks[begin] > alpha / (len(looks) - begin):
        begin += 1
    return tuple(
        Look(
            pairs=pairs,
            alpha=alpha / (len(looks) - begin) if index >= begin else 0.0,
            beta=beta / len(looks),
        )
        for index, pairs in enumerate(looks)
    )


def lower_width(look: Look, df: int) -> float:
    """How many standard errors below the estimate the bound lies that shows a loss."""
    return t_quantile(df, 1 - look.alpha) if look.alpha else math.inf


def upper_width(look: Look, df: int) -> float:
    """How many standard errors above the estimate the bound lies that excludes a loss."""
    return t_quantile(df, 1 - look.beta)


def prior_weight(df: int, prior_df: int) -> int:
    """The degrees of freedom that a prior may add to ``df`` of the spread seen now."""
    return min(prior_df, PRIOR_WEIGHT * df)


@lru_cache(maxsize=256)
def fits_below(df: int, prior_df: int) -> float:
    """The ratio of the variance seen now to the prior's below which the prior counts."""
    from scipy.special import fdtri  # slow to import, and most pytest runs never need it

    return float(fdtri(df, prior_df, _FIT))
