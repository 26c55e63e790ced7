"""Regression against a reference: is the candidate worse, by pairs of launches?"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from pytest_llmperf.metrics import units
from pytest_llmperf.records import Direction, RegressionGate, Verdict, VerdictWord

from . import screening, sentences
from .design import Design, Prior
from .power import MOST_PAIRS, pairs_needed
from .screening import Values, mean, none_valid
from .sentences import percent
from .sequential import State, decide
from .verdict import verdict_for

#: Those of the candidate's launch and of the reference's.
Pair = tuple[Values, Values]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A gate with all that its sentence tells."""

    gate: RegressionGate
    design: Design
    device: str
    against: str
    alpha: float
    family: int
    changed: Sequence[str]
    pairs: Sequence[Pair]
    invalid_reasons: Sequence[str]
    since: str
    of: str

    @property
    def name(self) -> str:
        return units.spoken(self.gate.metric)

    @property
    def where(self) -> str:
        """What was compared with what, on what, and what was wanted."""
        count = len(self.pairs)
        pairs = f"{count} interleaved pair{'' if count == 1 else 's'} of {self.of}"
        if self.since:
            pairs += f" since {self.since}"
        return (
            f"against {self.against}, {pairs} on {self.device}; "
            f"{sentences.wanted(self.gate)}{sentences.also(self.changed)}"
        )

    def first(self, pairs: int) -> _Case:
        """The same with the pairs that decided."""
        return replace(self, pairs=self.pairs[:pairs])


def judge_ab(
    gate: RegressionGate,
    pairs: Sequence[Pair],
    design: Design,
    *,
    device: str,
    against: str,
    alpha: float,
    family: int,
    prior: Prior | None = None,
    changed: Sequence[str] = (),
    invalid_reasons: Sequence[str] = (),
    since: str = "",
    of: Literal["launches", "visits"] = "launches",
) -> Verdict:
    """Judge ``gate`` by ``pairs`` of launches, in the order they were launched.

    ``design`` was declared before and carries this gate's share of ``alpha``, the false-alarm rate
    of its ``family`` of gates. Pairs that lack a valid run on either side are left out. The first
    look that decides holds, but a number that is missing, impossible or infinite counts wherever
    it turns up. ``against`` names the reference in words, ``device`` the accelerator, ``changed``
    what differs between the two sides and ``invalid_reasons`` why runs were left out. ``since`` is
    the day of the first pair where sessions add pairs one after another. Pairs are ``of`` visits
    where both servers run already.
    """
    case = _Case(
        gate=gate,
        design=design,
        device=device,
        against=against,
        alpha=alpha,
        family=family,
        changed=changed,
        pairs=_complete(pairs),
        invalid_reasons=tuple(dict.fromkeys(invalid_reasons)),
        since=since,
        of=of,
    )
    if not case.pairs:
        return _nothing(case)
    if (broken := screening.between(*_sides(case.pairs), gate.metric, of)) is not None:
        reason = f"{case.name} {broken.why} {case.where}"
        return _verdict(case, broken.word, broken.code, reason, covered=broken.covered)
    return _decided(case, decide(_shifts(case.pairs, design.direction), design, prior))


def loss_of(pairs: Sequence[Pair], direction: Direction) -> float | None:
    """How much worse the first of each pair is, as a fraction; ``None`` where a number is missing
    or has no logarithm."""
    complete = _complete(pairs)
    values = [value.value for pair in complete for side in pair for value in side]
    if not values or not all(value and math.isfinite(value) and value > 0 for value in values):
        return None
    shift = statistics.fmean(_shifts(complete, direction))
    return -math.expm1(-shift) if direction == "higher" else math.expm1(shift)


def state_of(
    gate: RegressionGate, pairs: Sequence[Pair], design: Design, prior: Prior | None = None
) -> State:
    """Where the comparison stands, for whoever launches: on while ``word`` is ``None``.

    What no further launch can mend (a number missing, impossible or infinite) ends it, with the
    verdict's own code.
    """
    complete = _complete(pairs)
    if (broken := screening.between(*_sides(complete), gate.metric)) is not None:
        return State(design=design, pairs=len(complete), code=broken.code, word=broken.word)
    return decide(_shifts(complete, design.direction), design, prior)


def _complete(pairs: Sequence[Pair]) -> list[Pair]:
    return [pair for pair in pairs if pair[0] and pair[1]]


def _shifts(pairs: Sequence[Pair], direction: Direction) -> list[float]:
    sign = 1 if direction == "higher" else -1
    return [sign * (math.log(mean(theirs)) - math.log(mean(ours))) for ours, theirs in pairs]


def _sides(pairs: Sequence[Pair]) -> tuple[list[Values], list[Values]]:
    return [ours for ours, _ in pairs], [theirs for _, theirs in pairs]


# --- words ---------------------------------------------------------------------------------------


def _nothing(case: _Case) -> Verdict:
    broken = none_valid(case.invalid_reasons)
    reason = f"no valid pair of {case.of} for {case.name}: {broken.why}; {case.where}"
    return _verdict(case, broken.word, broken.code, reason, covered=broken.covered)


def _decided(case: _Case, state: State) -> Verdict:
    used = case.first(state.pairs)
    detectable = state.detectable_loss
    word, code = state.word, state.code
    if word is None:
        word, code = "inconclusive", "accumulating" if case.since else "budget"
    observed, reference = (_level([pair[side] for pair in used.pairs]) for side in (0, 1))
    return _verdict(
        used,
        word,
        code,
        _reason(used, state, detectable),
        observed=observed,
        reference=reference,
        difference=observed / reference - 1,
        sigma=state.sigma,
        df=state.df,
        detectable_loss=detectable if detectable and math.isfinite(detectable) else None,
        loss=state.loss,
        loss_low=state.loss_low,
        loss_high=state.loss_high,
        sure_low=None if state.loss_low is None else 1 - used.design.alpha,
        sure_high=None if state.loss_high is None else 1 - used.design.beta,
        look=state.look,
    )


def _level(launches: Sequence[Values]) -> float:
    """The geometric mean of the launches, as the logarithms that were compared."""
    return math.exp(statistics.fmean(math.log(mean(launch)) for launch in launches))


def _verdict(case: _Case, word: VerdictWord, code: str, reason: str, **more: Any) -> Verdict:
    return verdict_for(
        case.gate,
        word,
        code,
        reason,
        mode="ab",
        n_launches=len(case.pairs),
        n_runs=sum(len(ours) for ours, _ in case.pairs),
        alpha=case.alpha,
        family=case.family,
        against=case.against,
        n_pairs=len(case.pairs),
        looks=len(case.design.looks),
        changed=tuple(case.changed),
        **more,
    )


def _reason(case: _Case, state: State, detectable: float | None) -> str:
    loss = 0.0 if state.loss is None else state.loss
    told = sentences.changed_by(case.gate.metric, loss)
    if state.word == "fail":
        return f"{told}: {case.name} ({_surely_lost(case, state)}) {case.where}"
    if state.word == "pass":
        caught = percent(case.gate.loss_to_catch)
        return f"no loss of {caught}: {case.name} {told} ({_at_worst(case, state)}) {case.where}"
    if state.word is None:
        return f"{_stopped(case, state)}: {case.name} {told} {case.where}"
    return _noisy(case, state, told, detectable)


def _stopped(case: _Case, state: State) -> str:
    left_out = f"; runs left out: {'; '.join(case.invalid_reasons)}" if case.invalid_reasons else ""
    if case.since:
        return (
            f"{state.pairs} of at most {case.design.most_pairs} pairs, undecided yet; each session "
            f"adds two{left_out}"
        )
    return (
        f"stopped after {state.pairs} of at most {case.design.most_pairs} pairs, undecided; allow "
        f"more time (--llmperf-budget){left_out}"
    )


def _noisy(case: _Case, state: State, told: str, detectable: float | None) -> str:
    bounds = [_at_worst(case, state)]
    if state.loss_low is not None:
        bounds.insert(0, _surely_lost(case, state))
    return (
        f"{_could_show(case, state, detectable)}: {case.name} {told} ({', '.join(bounds)}) "
        f"{case.where}"
    )


def _could_show(case: _Case, state: State, detectable: float | None) -> str:
    """What these pairs are worth, and what would be enough."""
    wished = f"the gate wants {percent(case.gate.loss_to_catch)}"
    fewest = case.design.fewest_to_fail
    if fewest is None or detectable is None or not math.isfinite(detectable):
        return (
            f"{state.pairs} pairs are too few to show any loss where {case.family} gates share the "
            f"false alarms, and {wished}; allow more (--llmperf-pairs)"
        )
    if detectable <= case.gate.loss_to_catch:
        return (
            f"{state.pairs} pairs did not decide, though they show a loss of {percent(detectable)} "
            f"9 times in 10, and {wished}; run it again, or allow more pairs (--llmperf-pairs)"
        )
    return (
        f"{state.pairs} pairs could show a loss of {percent(detectable)}, {wished}; "
        f"{_remedy(case, state)}"
    )


def _remedy(case: _Case, state: State) -> str:
    needed = None if state.sigma is None else pairs_needed(case.design, state.sigma)
    pairs = f"more than {MOST_PAIRS}" if needed is None else f"about {needed}"
    return (
        f"{pairs} pairs (--llmperf-pairs) would decide at this noise, or a gate on a larger loss, "
        "or a quieter machine"
    )


def _surely_lost(case: _Case, state: State) -> str:
    low = 0.0 if state.loss_low is None else state.loss_low
    return f"{sentences.sure(case.design.alpha)}: {sentences.at_least(case.gate.metric, low)}"


def _at_worst(case: _Case, state: State) -> str:
    high = math.inf if state.loss_high is None else state.loss_high
    return f"{sentences.sure(case.design.beta)}: {sentences.at_worst(case.gate.metric, high)}"
