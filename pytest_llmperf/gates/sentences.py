"""Words that the verdicts of regression gates have in common."""

from __future__ import annotations

import math
from collections.abc import Sequence

from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.units import format_number
from pytest_llmperf.records import RegressionGate

_TIMES = ("ms", "s")


def percent(fraction: float) -> str:
    """ "6.1 %", "0.061 %", "12.3 %"; without a sign."""
    number = abs(fraction) * 100
    if not math.isfinite(number):
        return "any number of %"
    return f"{format_number(number, digits=2 if number < 10 else 3)} %"


def changed_by(metric: str, loss: float) -> str:
    """A loss, negative for a gain, in words: "6.1 % slower", "2 % better"."""
    if round(abs(loss), 12) == 0:
        return "no different"
    row = units.row_of(metric)
    fast = row.unit in _TIMES or "throughput" in row.name
    worse, better = ("slower", "faster") if fast else ("worse", "better")
    return f"{percent(loss)} {worse if loss > 0 else better}"


def at_least(metric: str, loss: float) -> str:
    """A lower bound of the loss: "at least 4.7 %", as seen from the bad side."""
    return f"at least {percent(loss)}" if loss >= 0 else f"no more than {changed_by(metric, loss)}"


def at_worst(metric: str, loss: float) -> str:
    """An upper bound of the loss: "at worst 1.4 % slower", "at least 2 % faster"."""
    how = "at worst" if loss >= 0 else "at least"
    return f"{how} {changed_by(metric, loss)}"


def sure(error: float) -> str:
    """A bound's confidence from its chance of error: "99 % sure", "99.95 % sure"."""
    return f"{units.confidence_text(error)} sure"


def wanted(gate: RegressionGate) -> str:
    """ "gate: catch a loss of 3 % (gate set in tests/test_r1.py:9)"."""
    allowing = f", allow {percent(gate.allow)}" if gate.allow else ""
    return f"gate: catch a loss of {percent(gate.loss_to_catch)}{allowing} ({gate.source})"


def also(changed: Sequence[str]) -> str:
    """What else differs, to be appended; empty where nothing is known to."""
    return f"; differs: {', '.join(changed)}" if changed else ""
