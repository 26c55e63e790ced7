"""What is demanded, and what was decided."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .common import VerdictWord


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A declared floor or ceiling. ``limit`` is in the metric's own unit (see metrics.units);
    ``on`` selects accelerators by alias or regular expression, ``None`` matches all; ``source``
    names where it was written, for people. ``remote`` says that it may judge an attached endpoint,
    whose hardware nobody here controls."""

    kind: Literal["floor", "ceiling"]
    metric: str
    limit: float
    on: str | None
    source: str
    remote: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class RegressionGate:
    """A declared ``llm_no_regression``; losses are fractions (0.03 for "3%"). ``subject`` names
    facts of the subject that are held fixed: where they differ, nothing is judged."""

    metric: str
    loss_to_catch: float
    allow: float
    source: str
    subject: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One gate, decided.

    ``observed`` and the interval are in the metric's unit; ``difference`` is observed / limit - 1.
    ``covered`` is false when the gate could not be judged because something was missing, which is
    always red; noise is not. ``detectable_loss`` is the smallest loss, as a fraction, that these
    data could have shown. ``n_launches`` counts the candidate's.

    Of a regression gate: ``against`` says in words what it was compared with, ``reference`` is that
    one's value in the unit. ``loss`` is how much worse the candidate is, as a fraction, whichever
    direction is good; ``loss_low`` and ``loss_high`` are the bounds that decide (a loss is shown
    when the lower one is above ``allow``, excluded when the upper one is below
    ``loss_to_catch``), ``sure_low`` and ``sure_high`` how likely each of them holds at least, in
    (0, 1). ``look`` of the ``looks`` declared beforehand is the one at which it was
    decided, ``n_pairs`` how many pairs of launches there were. ``changed`` are the differences
    between the two subjects, in words. ``attempt`` counts the sessions that decided the same
    question, this one included, from 1; ``None`` where nothing is remembered. ``prior_sigma`` and
    ``prior_df`` are the spread of pairs that a calibration had found, where a comparison could lean
    on one. ``loss_with_invalid`` is what ``loss`` would be with the runs that did not count; it
    decides nothing, and is ``None`` where every run counted.
    """

    kind: Literal["floor", "ceiling", "regression"]
    mode: Literal["limits", "ab", "history"]
    metric: str
    unit: str
    verdict: VerdictWord
    reason_code: str
    reason: str
    source: str
    covered: bool = True
    observed: float | None = None
    limit: float | None = None
    difference: float | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    n_launches: int = 0
    n_runs: int = 0
    alpha: float | None = None
    family: int = 1
    sigma: float | None = None
    df: int | None = None
    detectable_loss: float | None = None
    loss_to_catch: float | None = None
    allow: float | None = None
    against: str = ""
    reference: float | None = None
    loss: float | None = None
    loss_low: float | None = None
    loss_high: float | None = None
    sure_low: float | None = None
    sure_high: float | None = None
    n_pairs: int = 0
    look: int | None = None
    looks: int | None = None
    changed: tuple[str, ...] = ()
    attempt: int | None = None
    prior_sigma: float | None = None
    prior_df: int | None = None
    loss_with_invalid: float | None = None
