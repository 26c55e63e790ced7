"""Floors and ceilings: is a metric on the good side of a fixed number?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.units import format_number
from pytest_llmperf.records import Limit, MetricValue, Verdict, VerdictWord

from .screening import advice, none_valid
from .stats import POWER, LaunchSummary, detectable_shift, launch_summary, normal_quantile
from .verdict import verdict_for

#: With this many launches their own spread decides; with fewer an assumed one does.
ENOUGH_LAUNCHES = 3
#: The least width of the guard band, in launch standard deviations.
GUARD_SIGMAS = 3.0
# Rounding of a mean must not move a value that was measured exactly on its limit.
_TOUCHING = 1e-9
_LARGEST_LOG = 700.0  # of a number that a float holds

#: The verdict, its reason code, and what the reason says in brackets.
_Decision = tuple[VerdictWord, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gate:
    """A limit with everything needed to judge it; ``level`` is its own share of ``alpha``."""

    limit: Limit
    row: units.Metric
    device: str
    alpha: float
    family: int
    launch_cv: float

    @property
    def level(self) -> float:
        return self.alpha / self.family

    @property
    def guard(self) -> float:
        """How far one launch may lie beyond the limit without failing, as a fraction of it."""
        return self.width(self.launch_cv)

    @property
    def guarded(self) -> float:
        """The value beyond which one launch fails."""
        return self.widened(self.launch_cv)

    def width(self, sigma: float) -> float:
        """Three standard deviations, or more where many gates share the false-alarm rate."""
        needed = math.expm1(min(normal_quantile(1 - self.level / 2) * sigma, _LARGEST_LOG))
        return max(GUARD_SIGMAS * sigma, needed)

    def widened(self, sigma: float) -> float:
        """The limit with a guard band for the wider of the assumed spread and ``sigma``."""
        width = self.width(max(sigma, self.launch_cv))
        return self.limit.limit * (1 - self.sign * width)

    @property
    def sign(self) -> int:
        """+1 where higher is better."""
        return 1 if self.limit.kind == "floor" else -1

    def beyond(self, value: float, limit: float | None = None) -> bool:
        """Whether ``value`` is on the bad side of the limit, or of another one."""
        bound = self.limit.limit if limit is None else limit
        return self.sign * (bound - value) > _TOUCHING * abs(bound)

    def loss(self, shift: float) -> float:
        """A shift of the logarithm to the bad side, as a fraction of the limit."""
        return -math.expm1(-shift) if self.sign > 0 else math.expm1(min(shift, _LARGEST_LOG))


def judge_limit(
    limit: Limit,
    launches: Sequence[Sequence[MetricValue]],
    *,
    alpha: float = 0.01,
    family: int = 1,
    launch_cv: float = 0.03,
    device: str,
    requests: int | None = None,
    invalid_reasons: Sequence[str] = (),
) -> Verdict:
    """Judge one limit by its metric's values in the valid runs, one sequence per launch.

    One or two launches: fail beyond a guard band around the limit that carries ``launch_cv``, the
    spread between launches that is assumed. Three or more: fail when the ``1 - alpha / family`` t
    interval of the launch means, on the log scale, lies wholly beyond the limit, or when the guard
    band alone says so, lest a few launches know less than one: of every launch, or of their mean
    with a band for the wider of the assumed and the observed spread. Pass when the mean does not
    lie beyond the limit. What is between is noise.
    Counts are compared as they are. ``device`` names the accelerator, ``requests`` are those of
    one run and ``invalid_reasons`` those of runs left out: all for the reason's words.
    """
    gate = _Gate(
        limit=limit,
        row=units.row_of(limit.metric),
        device=device,
        alpha=alpha,
        family=family,
        launch_cv=launch_cv,
    )
    used = [launch for launch in launches if launch]
    if (broken := _broken(gate, used, requests, invalid_reasons)) is not None:
        return broken
    values = [[v.value for v in launch if v.value is not None] for launch in used]
    if _stopped(gate, values):
        return _direct(gate, values)
    if gate.row.counted or limit.limit == 0:
        return _direct(gate, values)
    if len(values) < ENOUGH_LAUNCHES or any(statistics.fmean(launch) <= 0 for launch in values):
        return _guarded(gate, values)
    return _interval(gate, values)


# --- nothing to judge ------------------------------------------------------------------------


def _broken(
    gate: _Gate,
    launches: Sequence[Sequence[MetricValue]],
    requests: int | None,
    invalid_reasons: Sequence[str],
) -> Verdict | None:
    """The verdict where there is no number to compare, else ``None``."""
    name = units.spoken(gate.limit.metric)
    where = f"on {gate.device} ({gate.limit.source})"
    if not launches:
        broken = none_valid(invalid_reasons)
        reason = f"no valid run for {name} {where}: {broken.why}"
        return _verdict(gate, broken.word, broken.code, reason, covered=broken.covered)
    everything = [value for launch in launches for value in launch]
    if any(value.unbounded for value in everything):
        return _unbounded(gate, max(value.failed for value in everything), requests)
    without = sum(all(value.value is None for value in launch) for launch in launches)
    if without:
        told = f"{name} was not measured in {without} of {_launches(len(launches))} {where}"
        return _hole(gate, "not_measured", f"{told}; {advice(everything)}")
    if any(not _possible(value) for value in everything):
        return _hole(
            gate, "impossible", f"{name} has an impossible value (not finite, or negative) {where}"
        )
    return None


def _possible(value: MetricValue) -> bool:
    return value.value is None or (math.isfinite(value.value) and value.value >= 0)


def _hole(gate: _Gate, code: str, reason: str) -> Verdict:
    return _verdict(gate, "inconclusive", code, reason, covered=False)


def _unbounded(gate: _Gate, failed: int, requests: int | None) -> Verdict:
    of = f" of {requests}" if requests else ""
    what = "request" if failed == 1 and not of else "requests"
    said = (
        f"{units.spoken(gate.limit.metric)} is unbounded: {failed}{of} {what} failed, limit "
        f"{units.format_value(gate.limit.limit, gate.row.unit)} on {gate.device} "
        f"({gate.limit.source})"
    )
    return _verdict(gate, "fail", "unbounded", said)


def _stopped(gate: _Gate, launches: Sequence[Sequence[float]]) -> bool:
    """Whether a run came to a standstill that a floor forbids: nothing per second."""
    return gate.sign > 0 and gate.limit.limit > 0 and any(0 in launch for launch in launches)


# --- the rules -------------------------------------------------------------------------------


def _direct(gate: _Gate, launches: Sequence[Sequence[float]]) -> Verdict:
    """Counts, limits of zero and standstills: no noise to allow for."""
    summary = launch_summary(launches, 1 - gate.level, log=False)
    observed, details = _observed(summary), _which(summary)
    if _stopped(gate, launches) and observed > 0:
        details += f", at a standstill in at least one run, {_mean_text(gate, summary)}"
        observed = 0.0
    decision: _Decision = ("pass", "within", details)
    if gate.beyond(observed):
        decision = ("fail", "beyond", details)
    return _judged(gate, decision, observed, summary)


def _guarded(gate: _Gate, launches: Sequence[Sequence[float]]) -> Verdict:
    """One or two launches: an assumed spread stands in for the one that was not seen."""
    summary = launch_summary(launches, 1 - gate.level)
    observed, which = _observed(summary), _which(summary)
    band = f"the {_percent(gate.guard)} guard for an assumed launch CV of "
    band += _percent(gate.launch_cv)
    decision: _Decision = ("pass", "within", f"{which}; fails only beyond {band}")
    if gate.beyond(observed, gate.guarded):
        decision = ("fail", "beyond", f"{which}, beyond {band}")
    elif gate.beyond(observed):
        advice = f"--llmperf-launches {ENOUGH_LAUNCHES} or more tell it from noise"
        decision = ("inconclusive", "guard_band", f"{which}, within {band}: {advice}")
    return _judged(gate, decision, observed, summary, detectable_loss=gate.guard)


def _interval(gate: _Gate, launches: Sequence[Sequence[float]]) -> Verdict:
    """Three or more launches: their own spread decides, and they know no less than one."""
    summary = launch_summary(launches, 1 - gate.level)
    observed = _observed(summary)
    detectable = _detectable(gate, summary)
    shown = f"{_which(summary)}, {_interval_text(gate, summary)}"
    decision: _Decision = ("pass", "within", shown)
    if gate.beyond(_good_end(gate, summary)):
        decision = ("fail", "beyond", shown)
    elif all(gate.beyond(statistics.fmean(launch), gate.guarded) for launch in launches):
        alone = f"each launch alone is beyond the {_percent(gate.guard)} guard"
        decision = ("fail", "beyond_guard", f"{shown}; {alone}")
    elif gate.beyond(observed, gate.widened(summary.sigma or 0.0)):
        mean = "the mean is beyond the guard for the wider of assumed and seen spread"
        decision = ("fail", "beyond_guard", f"{shown}; {mean}")
    elif gate.beyond(observed):
        hidden = f"noise hides losses below {_percent(detectable)}"
        decision = ("inconclusive", "noise", f"{shown} reaches the {gate.limit.kind}: {hidden}")
    return _judged(
        gate,
        decision,
        observed,
        summary,
        ci_low=summary.ci_low,
        ci_high=summary.ci_high,
        sigma=summary.sigma,
        df=summary.df,
        detectable_loss=detectable,
    )


def _detectable(gate: _Gate, summary: LaunchSummary) -> float:
    """A loss beyond the limit that is seen with probability POWER or more.

    By the interval: :func:`~.stats.detectable_shift`. By every launch alone: the guard plus the
    distance at which n launches all lie beyond it that often, for the wider of the assumed and the
    observed spread. The smaller of the two.
    """
    sigma = summary.sigma or 0.0
    by_interval = detectable_shift(sigma, summary.n_launches, gate.level)
    together = normal_quantile(POWER ** (1 / summary.n_launches))
    edge = abs(math.log1p(-gate.sign * gate.guard)) if gate.guard < 1 else math.inf
    by_guard = edge + together * max(sigma, gate.launch_cv)
    return gate.loss(min(by_interval, by_guard))


def _good_end(gate: _Gate, summary: LaunchSummary) -> float:
    end = summary.ci_high if gate.sign > 0 else summary.ci_low
    return _observed(summary) if end is None else end


def _observed(summary: LaunchSummary) -> float:
    if summary.mean is None:
        raise ValueError("a gate was judged without a value")
    return summary.mean


# --- words -----------------------------------------------------------------------------------


def _verdict(gate: _Gate, word: VerdictWord, code: str, reason: str, **more: Any) -> Verdict:
    return verdict_for(gate.limit, word, code, reason, alpha=gate.alpha, family=gate.family, **more)


def _judged(
    gate: _Gate, decision: _Decision, observed: float, summary: LaunchSummary, **more: Any
) -> Verdict:
    word, code, details = decision
    return _verdict(
        gate,
        word,
        code,
        _sentence(gate, observed, details),
        observed=observed,
        difference=_difference(gate, observed),
        n_launches=summary.n_launches,
        n_runs=summary.n_runs,
        **more,
    )


def _difference(gate: _Gate, observed: float) -> float | None:
    return observed / gate.limit.limit - 1 if gate.limit.limit else None


def _sentence(gate: _Gate, observed: float, details: str) -> str:
    """ "−10.4 % under floor: 1,612 < 1,800 tok/s output throughput on RTX 4090 (...)"."""
    left, right = _apart(gate, observed)
    return (
        f"{_margin(gate, observed)} {gate.limit.kind}: {left} {_relation(gate, observed)} {right} "
        f"{units.spoken(gate.limit.metric)} on {gate.device} ({details}; {gate.limit.source})"
    )


def _margin(gate: _Gate, observed: float) -> str:
    difference = _difference(gate, observed)
    if math.isclose(observed, gate.limit.limit, rel_tol=_TOUCHING):
        return "exactly at"
    side = "over" if observed > gate.limit.limit else "under"
    if difference is None:
        return side
    sign = "+" if difference > 0 else "−"
    return f"{sign}{_percent(abs(difference))} {side}"


def _relation(gate: _Gate, observed: float) -> str:
    if gate.beyond(observed):
        return "<" if gate.sign > 0 else ">"
    return "≥" if gate.sign > 0 else "≤"


def _apart(gate: _Gate, observed: float) -> tuple[str, str]:
    """Both numbers with as many digits as it takes to tell them apart; the unit on the second."""
    scale = 100 if gate.row.unit == "1" else 1
    digits = 4
    while digits < 9 and _same(observed * scale, gate.limit.limit * scale, digits):
        digits += 1
    left = format_number(observed * scale, digits=digits)
    return left, units.format_value(gate.limit.limit, gate.row.unit, digits=digits)


def _same(one: float, other: float, digits: int) -> bool:
    return one != other and format_number(one, digits=digits) == format_number(other, digits=digits)


def _interval_text(gate: _Gate, summary: LaunchSummary) -> str:
    confidence = format_number((1 - gate.level) * 100, digits=5)
    ends = "-".join(
        format_number(end) for end in (summary.ci_low, summary.ci_high) if end is not None
    )
    return f"{confidence} % CI {ends}"


def _percent(fraction: float) -> str:
    return f"{format_number(fraction * 100, digits=3)} %"


def _mean_text(gate: _Gate, summary: LaunchSummary) -> str:
    return f"{units.format_value(summary.mean, gate.row.unit)} in the mean"


def _which(summary: LaunchSummary) -> str:
    count = summary.n_launches
    if count < ENOUGH_LAUNCHES:
        return "this launch" if count == 1 else f"these {count} launches"
    return _launches(count)


def _launches(count: int) -> str:
    return f"{count} launch{'' if count == 1 else 'es'}"
