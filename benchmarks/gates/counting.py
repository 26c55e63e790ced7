"""Standard errors, and what many cells say of their nominal rates together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

#: The chance that any of all the cells is called above, or below, its nominal rate by mistake.
LEVEL = 0.05

Standing = Literal["above", "below", "near"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """So many alarms in so many repetitions, where ``nominal`` is the rate that is allowed."""

    alarms: int
    repetitions: int
    nominal: float


def standard_error(rate: float, repetitions: int) -> float:
    return math.sqrt(rate * (1 - rate) / repetitions)


def chance_of_so_many(one: Counted) -> float:
    """The chance of so many alarms or more at the nominal rate."""
    from scipy.special import bdtrc

    if not one.alarms:
        return 1.0
    return float(bdtrc(one.alarms - 1, one.repetitions, one.nominal))


def chance_of_so_few(one: Counted) -> float:
    """The chance of so many alarms or fewer at the nominal rate."""
    from scipy.special import bdtr

    return float(bdtr(one.alarms, one.repetitions, one.nominal))


def upper_bound(one: Counted, cells: int) -> float:
    """The rate that is not exceeded, with confidence 1 - LEVEL for all the cells at once."""
    from scipy.special import betaincinv

    if one.alarms >= one.repetitions:
        return 1.0
    missing = one.repetitions - one.alarms
    return float(betaincinv(one.alarms + 1, missing, 1 - LEVEL / cells))


def holm(chances: Sequence[float], level: float = LEVEL) -> list[bool]:
    """Which null hypotheses fall by Holm's procedure, in the order given."""
    fallen = [False] * len(chances)
    for rank, at in enumerate(sorted(range(len(chances)), key=chances.__getitem__)):
        if chances[at] > level / (len(chances) - rank):
            break
        fallen[at] = True
    return fallen


def standings(cells: Mapping[str, Counted]) -> dict[str, Standing]:
    """Whether each cell is shown to alarm more often than it may, less often, or neither."""
    above = holm([chance_of_so_many(one) for one in cells.values()])
    below = holm([chance_of_so_few(one) for one in cells.values()])
    found: dict[str, Standing] = {}
    for name, is_above, is_below in zip(cells, above, below, strict=True):
        found[name] = "above" if is_above else "below" if is_below else "near"
    return found
