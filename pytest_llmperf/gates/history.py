"""Regression against the accepted level: is this session worse than the stored ones?

A session's launches share its luck (clocks, placement, neighbours), so a session is one draw,
however often it launched. The spread of the stored sessions therefore carries everything: what
differs between sessions and between launches. A new session is compared with the newer half of
them by the t statistic of a prediction, with the variance of one more draw and of their mean.

Sessions are not normal, and a few of them are alike by luck. So no spread below
:data:`LEAST_SPREAD` is believed, and no tail lighter than that of :data:`TAIL` degrees of freedom.
What only the plain bound shows is suspected, which fails nothing.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.metrics import units
from pytest_llmperf.records import RegressionGate, Verdict, VerdictWord

from . import screening, sentences
from .design import Design
from .screening import Values, mean, none_valid
from .sentences import percent
from .stats import POWER, noncentrality, t_quantile
from .verdict import verdict_for

#: Stored sessions below which nothing is decided.
LEARNING = 8
#: The chance to pass a loss that a gate wants caught.
BETA = 0.05
#: Sessions are taken to differ by this at least, a standard deviation of logarithms: as much as
#: launches are where nothing is known of them. How alike a few sessions are says little.
LEAST_SPREAD = 0.03
#: The most degrees of freedom of a bound that decides. More sessions make the spread better known,
#: and the tail of one session's luck no lighter.
TAIL = 5
# Two groups of sessions, of two at least, are two kinds of sessions where the gap between them is
# so many of their own standard deviations wide: one in a hundred histories of one kind has that.
_SMALLEST_GROUP = 2
_GAP = 1.0
_GAP_OF_FEW = 32.0
# Rounding must not show a loss, or exclude one, that lies exactly on its bound.
_TOUCHING = 1e-12

_Decision = tuple[VerdictWord, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A gate with all that its sentence tells; ``launches`` are this session's, ``sessions`` says
    how many are stored."""

    gate: RegressionGate
    design: Design
    device: str
    against: str
    alpha: float
    family: int
    changed: Sequence[str]
    launches: Sequence[Values]
    sessions: int

    @property
    def name(self) -> str:
        return units.spoken(self.gate.metric)

    @property
    def where(self) -> str:
        return (
            f"against {self.against}, {_count(len(self.launches), 'launch', 'es')} and "
            f"{_count(self.sessions, 'stored session')} on {self.device}; "
            f"{sentences.wanted(self.gate)}{sentences.also(self.changed)}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shift:
    """How much worse this session is, on the log scale, and how well that is known.

    ``error`` is of the spread that sessions are taken to have, ``seen_error`` of the one seen;
    ``sigma`` and ``df`` are of the one seen.
    """

    mean: float
    error: float
    seen_error: float
    sigma: float
    df: int
    observed: float
    reference: float


def judge_history(
    gate: RegressionGate,
    fresh: Sequence[Values],
    accepted: Sequence[Sequence[float]],
    *,
    alpha: float,
    family: int,
    device: str,
    against: str,
    changed: Sequence[str] = (),
    invalid_reasons: Sequence[str] = (),
) -> Verdict:
    """Judge ``gate`` by this session's launches against the accepted level.

    ``fresh`` holds the values of the valid runs of each launch, ``accepted`` the launch means of
    each session that the level rests on, in the metric's unit. ``against`` names the level in
    words, ``device`` the accelerator; ``alpha`` is the false-alarm rate of the ``family`` of gates.
    """
    stored = [session for session in accepted if session]
    case = _Case(
        gate=gate,
        design=_design(gate, alpha / family),
        device=device,
        against=against,
        alpha=alpha,
        family=family,
        changed=changed,
        launches=[launch for launch in fresh if launch],
        sessions=len(stored),
    )
    if (hole := _hole(case, stored, invalid_reasons)) is not None:
        return hole
    seen = [math.log(mean(launch)) for launch in case.launches]
    logs = [[math.log(value) for value in session] for session in stored]
    if len(logs) < LEARNING:
        return _learning(case, seen, logs)
    shift = _shift(case, seen, logs)
    kept = [statistics.fmean(session) for session in logs]
    # With this session among them: one that is like a single odd one on record is no news.
    if two_kinds(kept) or two_kinds([*kept, statistics.fmean(seen)]):
        return _judged(case, shift, _bimodal(case, shift))
    return _judged(case, shift, _decide(case, shift))


def _design(gate: RegressionGate, level: float) -> Design:
    return Design(
        loss_to_catch=gate.loss_to_catch,
        allow=gate.allow,
        alpha=level,
        beta=BETA,
        direction=units.row_of(gate.metric).direction,
    )


# --- nothing to compare ----------------------------------------------------------------------


def _hole(
    case: _Case, stored: Sequence[Sequence[float]], invalid_reasons: Sequence[str]
) -> Verdict | None:
    if not stored:
        reason = (
            f"no accepted level for {case.name} on {case.device}: accept one with "
            "--llmperf-update-baseline, or with `pytest-llmperf baseline accept`; "
            f"{sentences.wanted(case.gate)}"
        )
        return _verdict(case, "inconclusive", "no_level", reason, covered=False)
    if not case.launches:
        return _nothing(case, invalid_reasons)
    if (broken := screening.alone(case.launches, case.gate.metric)) is not None:
        reason = f"{case.name} {broken.why} {case.where}"
        return _verdict(case, broken.word, broken.code, reason, covered=broken.covered)
    if any(not (math.isfinite(value) and value > 0) for session in stored for value in session):
        reason = (
            f"the accepted level of {case.name} holds a value that is not a positive number; "
            f"accept another level; {case.where}"
        )
        return _verdict(case, "inconclusive", "impossible_level", reason, covered=False)
    return None


def _nothing(case: _Case, invalid_reasons: Sequence[str]) -> Verdict:
    broken = none_valid(invalid_reasons)
    reason = f"no valid run for {case.name}: {broken.why}; {case.where}"
    return _verdict(case, broken.word, broken.code, reason, covered=broken.covered)


# --- the statistic ---------------------------------------------------------------------------


def _shift(case: _Case, fresh: Sequence[float], stored: Sequence[Sequence[float]]) -> _Shift:
    means = [statistics.fmean(session) for session in stored]
    newer = means[len(means) // 2 :]  # machines drift, and these are nearer
    seen = statistics.variance(means) if len(means) > 1 else 0.0
    taken = max(seen, LEAST_SPREAD**2)
    here, there = statistics.fmean(fresh), statistics.fmean(newer)
    sign = 1 if case.design.direction == "higher" else -1
    own = _variance_of_one_more(seen, fresh, stored)
    return _Shift(
        mean=sign * (there - here),
        error=math.sqrt(_variance_of_one_more(taken, fresh, stored) + taken / len(newer)),
        seen_error=math.sqrt(own + seen / len(newer)),
        sigma=math.sqrt(own),
        df=len(means) - 1,
        observed=math.exp(here),
        reference=math.exp(there),
    )


def _variance_of_one_more(
    between: float, fresh: Sequence[float], stored: Sequence[Sequence[float]]
) -> float:
    """The variance of this session's mean, by the variance ``between`` sessions.

    With fewer launches than they had, it has more of the launches' noise; and it is never believed
    to be steadier than its own launches show.
    """
    usual = statistics.fmean(1 / len(session) for session in stored)
    fewer = max(0.0, 1 / len(fresh) - usual) * _variance_within([*stored, fresh])
    shown = statistics.variance(fresh) / len(fresh) if len(fresh) > 1 else 0.0
    return max(between + fewer, shown)


def _variance_within(sessions: Sequence[Sequence[float]]) -> float:
    repeated = [session for session in sessions if len(session) > 1]
    df = sum(len(session) - 1 for session in repeated)
    squares = sum((len(session) - 1) * statistics.variance(session) for session in repeated)
    return squares / df if df else 0.0


def two_kinds(means: Sequence[float]) -> bool:
    """Whether sessions fall into two groups with a wide gap."""
    ordered = sorted(means)
    widest = _GAP + _GAP_OF_FEW / len(ordered)
    cuts = range(_SMALLEST_GROUP, len(ordered) - _SMALLEST_GROUP + 1)
    return any(
        ordered[cut] - ordered[cut - 1]
        > widest * math.sqrt(_variance_within([ordered[:cut], ordered[cut:]])) + _TOUCHING
        for cut in cuts
    )


def _bounds(case: _Case, shift: _Shift) -> tuple[float, float]:
    df = min(shift.df, TAIL)
    low = shift.mean - t_quantile(df, 1 - case.design.alpha) * shift.error
    return low, shift.mean + t_quantile(df, 1 - case.design.beta) * shift.error


def _plain_low(case: _Case, shift: _Shift) -> float:
    """The lower bound if sessions were normal and differed as much as they are seen to."""
    return shift.mean - t_quantile(shift.df, 1 - case.design.alpha) * shift.seen_error


def _detectable(case: _Case, shift: _Shift) -> float:
    """The loss that fails with probability POWER: by the bound, and by lying above half-way."""
    critical = t_quantile(min(shift.df, TAIL), 1 - case.design.alpha)
    by_bound = case.design.shift(case.gate.allow) + noncentrality(shift.df, critical) * shift.error
    by_estimate = case.design.half_way + t_quantile(shift.df, POWER) * shift.error
    return case.design.loss(max(by_bound, by_estimate))


# --- decisions and words ---------------------------------------------------------------------


def _decide(case: _Case, shift: _Shift) -> _Decision:
    design = case.design
    low, high = _bounds(case, shift)
    told = sentences.changed_by(case.gate.metric, design.loss(shift.mean))
    lost = sentences.at_least(case.gate.metric, design.loss(low))
    lost = f"{sentences.sure(design.alpha)}: {lost}"
    worst = sentences.at_worst(case.gate.metric, design.loss(high))
    worst = f"{sentences.sure(design.beta)}: {worst}"
    if _shows(design, low, shift.mean):
        return "fail", "loss_shown", f"{told}: {case.name} ({lost}) {case.where}"
    if _shows(design, _plain_low(case, shift), shift.mean):
        return "inconclusive", "loss_suspected", _suspected(case, shift, f"{told} ({lost})")
    wished = percent(design.loss_to_catch)
    if high < design.shift(design.loss_to_catch) - _TOUCHING:
        return (
            "pass",
            "loss_excluded",
            f"no loss of {wished}: {case.name} {told} ({worst}) {case.where}",
        )
    return "inconclusive", "noise", _noisy(case, shift, f"{told} ({lost}, {worst})")


def _shows(design: Design, low: float, estimate: float) -> bool:
    allowed = design.shift(design.allow)
    return low > allowed + _TOUCHING and estimate > design.half_way + _TOUCHING


def _suspected(case: _Case, shift: _Shift, told: str) -> str:
    plain = sentences.at_least(case.gate.metric, case.design.loss(_plain_low(case, shift)))
    return (
        f"loss suspected, not shown: {case.name} {told}; confirm it with a reference "
        f"(--llmperf-reference-python); by the spread of these sessions alone it is {plain}, but "
        f"they are taken to differ by {percent(LEAST_SPREAD)} or more, and not to be normal; "
        f"{case.where}"
    )


def _noisy(case: _Case, shift: _Shift, told: str) -> str:
    return (
        f"this history shows a loss of {percent(_detectable(case, shift))} 9 times in 10, the gate "
        f"wants {percent(case.gate.loss_to_catch)}; a comparison with a reference "
        "(--llmperf-reference-python) sees less, and more stored sessions help a little: "
        f"{case.name} {told} {case.where}"
    )


def _bimodal(case: _Case, shift: _Shift) -> _Decision:
    told = sentences.changed_by(case.gate.metric, case.design.loss(shift.mean))
    return (
        "inconclusive",
        "bimodal_history",
        f"sessions are of two kinds, so none is judged: {case.name} {told} against their mean; "
        "find what makes the difference (clocks, placement, neighbours) and accept a level of one "
        f"kind, or compare with a reference (--llmperf-reference-python); {case.where}",
    )


def _learning(case: _Case, fresh: Sequence[float], stored: Sequence[Sequence[float]]) -> Verdict:
    shift = _shift(case, fresh, stored)
    told = sentences.changed_by(case.gate.metric, case.design.loss(shift.mean))
    reason = (
        f"LEARNING {len(stored)}/{LEARNING} sessions: {case.name} {told}, not judged yet; accept a "
        f"level of {LEARNING} sessions or more (`pytest-llmperf baseline accept`); {case.where}"
    )
    bounded = shift.df > 0
    return _verdict(
        case,
        "inconclusive",
        "learning",
        reason,
        **_figures(shift, case.design),
        detectable_loss=_finite(_detectable(case, shift)) if bounded else None,
    )


def _judged(case: _Case, shift: _Shift, decision: _Decision) -> Verdict:
    low, high = _bounds(case, shift)
    word, code, reason = decision
    return _verdict(
        case,
        word,
        code,
        reason,
        **_figures(shift, case.design),
        loss_low=case.design.loss(low),
        loss_high=case.design.loss(high),
        sure_low=1 - case.design.alpha,
        sure_high=1 - case.design.beta,
        look=1,
        detectable_loss=_finite(_detectable(case, shift)),
    )


def _figures(shift: _Shift, design: Design) -> dict[str, Any]:
    return {
        "observed": shift.observed,
        "reference": shift.reference,
        "difference": shift.observed / shift.reference - 1,
        "loss": design.loss(shift.mean),
        "sigma": shift.sigma if shift.df else None,
        "df": shift.df or None,
    }


def _finite(loss: float) -> float | None:
    return loss if math.isfinite(loss) else None


def _verdict(case: _Case, word: VerdictWord, code: str, reason: str, **more: Any) -> Verdict:
    return verdict_for(
        case.gate,
        word,
        code,
        reason,
        mode="history",
        n_launches=len(case.launches),
        n_runs=sum(map(len, case.launches)),
        alpha=case.alpha,
        family=case.family,
        against=case.against,
        looks=1,
        changed=tuple(case.changed),
        **more,
    )


def _count(number: int, what: str, plural: str = "s") -> str:
    return f"{number} {what}{'' if number == 1 else plural}"
