"""The gaps within single requests: one figure for each request, where the others have one a run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .requests import Arrivals, Flags, Floats, Integers


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """Of each request in ms, NaN where it has none: the median and the longest gap between its
    tokens (NaN, too, where the server does not tell how many tokens a chunk carried), and the
    longest between chunks that carried some."""

    itl_p50: Floats
    itl_max: Floats
    icl_max: Floats


def pauses(arrivals: Arrivals, size: int) -> Pauses:
    """Those of ``size`` requests. A gap between tokens is that between chunks divided by the
    tokens that the later one carried, and counts once for each of them, as in ``itl``."""
    same = arrivals.request[1:] == arrivals.request[:-1]
    owner = arrivals.request[1:][same]
    tokens = arrivals.tokens[1:][same].astype(np.int64)
    apart = np.diff(arrivals.at_ns)[same] / 1e6
    has_gaps = np.bincount(owner, minlength=size) > 0
    counted = has_gaps & (np.bincount(owner[tokens == 0], minlength=size) == 0)
    known = counted[owner]
    each, ms, weight = owner[known], apart[known] / tokens[known], tokens[known]
    order = np.lexsort((ms, each))
    each, ms, weight = each[order], ms[order], weight[order]
    return Pauses(
        itl_p50=_spread(ms[_middle(each, weight)], counted),
        itl_max=_spread(ms[_last(each)], counted),
        icl_max=_longest(owner, apart, has_gaps),
    )


def _middle(owner: Integers, weight: Integers) -> Integers:
    """Where the median of each owner's sorted values lies: the order statistic at half of n - 1,
    rounded up."""
    passed = np.cumsum(weight)
    ends = passed[_last(owner)]
    starts = np.concatenate(([0], ends[:-1]))[: len(ends)]
    return np.searchsorted(passed, starts + (ends - starts) // 2, side="right")


def _last(owner: Integers) -> Integers:
    """The place of each owner's last value; ``owner`` ascends."""
    if not len(owner):
        return np.zeros(0, np.int64)
    return np.concatenate((np.flatnonzero(np.diff(owner)), [len(owner) - 1]))


def _longest(owner: Integers, apart: Floats, has_gaps: Flags) -> Floats:
    found = np.full(len(has_gaps), -np.inf)
    np.maximum.at(found, owner, apart)
    return np.where(has_gaps, found, np.nan)


def _spread(values: Floats, chosen: Flags) -> Floats:
    """``values`` of the requests that ``chosen`` marks, among all."""
    found = np.full(len(chosen), np.nan)
    found[chosen] = values
    return found
