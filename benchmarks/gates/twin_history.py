"""The rule for an accepted level, for many sessions at once; see :mod:`.twin` for why."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pytest_llmperf.gates.design import Design
from pytest_llmperf.gates.history import (
    _GAP,
    _GAP_OF_FEW,
    _SMALLEST_GROUP,
    BETA,
    LEAST_SPREAD,
    TAIL,
)
from pytest_llmperf.gates.stats import t_quantile
from pytest_llmperf.records import RegressionGate

from .noise import Bools, Floats, Ints
from .twin import FAILED, PASSED, UNDECIDED


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEnds:
    """The verdict of each row, whether its sessions are of two kinds, and whether a loss is only
    suspected."""

    words: Ints
    two_kinds: Bools
    suspected: Bools


def judge_all(logs: Floats, gate: RegressionGate, alpha: float) -> HistoryEnds:
    """``logs`` of launch means: rows x sessions x launches, the fresh session last, all with as
    many launches. More is better."""
    means = logs.mean(axis=2)
    stored, here = means[:, :-1], means[:, -1]
    count, newer = stored.shape[1], stored[:, stored.shape[1] // 2 :]
    loss = newer.mean(axis=1) - here
    seen, shown = stored.var(axis=1, ddof=1), logs[:, -1].var(axis=1, ddof=1) / logs.shape[2]
    plain = _error(seen, shown, newer.shape[1])
    error = _error(np.maximum(seen, LEAST_SPREAD**2), shown, newer.shape[1])
    design = Design(loss_to_catch=gate.loss_to_catch, allow=gate.allow, alpha=alpha, beta=BETA)
    df, enough = min(count - 1, TAIL), loss > design.half_way
    failed = enough & (loss - t_quantile(df, 1 - alpha) * error > design.shift(gate.allow))
    usual = enough & (loss - t_quantile(count - 1, 1 - alpha) * plain > design.shift(gate.allow))
    odd = two_kinds(stored) | two_kinds(means)
    words = np.full(len(logs), UNDECIDED, dtype=np.int64)
    high = loss + t_quantile(df, 1 - BETA) * error
    words[(high < design.shift(gate.loss_to_catch)) & ~usual] = PASSED
    words[failed] = FAILED
    words[odd] = UNDECIDED
    return HistoryEnds(words=words, two_kinds=odd, suspected=usual & ~failed & ~odd)


def _error(between: Floats, shown: Floats, sessions: int) -> Floats:
    found: Floats = np.sqrt(np.maximum(between, shown) + between / sessions)
    return found


def two_kinds(means: Floats) -> Bools:
    """Whether the sessions of each row fall into two groups with a wide gap."""
    ordered = np.sort(means, axis=1)
    count = ordered.shape[1]
    found = np.zeros(len(ordered), dtype=np.bool_)
    for cut in range(_SMALLEST_GROUP, count - _SMALLEST_GROUP + 1):
        groups = ordered[:, :cut], ordered[:, cut:]
        squares = sum(group.var(axis=1) * group.shape[1] for group in groups)
        within = np.sqrt(squares / (count - 2))
        found |= ordered[:, cut] - ordered[:, cut - 1] > (_GAP + _GAP_OF_FEW / count) * within
    return found
