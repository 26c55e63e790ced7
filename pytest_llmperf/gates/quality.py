"""Whether two servers say the same: fixed prompts, questions, and what the load's texts look like.

The yardstick is how much launches of *one* side differ. Where those are all alike, any difference
between the sides is one; where they differ among themselves, the two sides must lie farther apart
than any two launches of one side.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations, product

from pytest_llmperf.metrics.units import format_number
from pytest_llmperf.records import Fingerprint, OutputQuality, Reply

#: How much farther apart the sides must be than launches of one side, and what summing in another
#: order makes of a log-probability in single precision.
_TIMES_APART, _ROUNDING = 2.0, 1e-3
#: A chance below this is taken for a finding that may fail a test.
RARE = 0.05
#: By how much more of a text may be repetition before it is told of.
_REPETITION = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Apart:
    """How far two sets of replies are from each other.

    ``prompt`` and ``position`` (from 1) say where they first differ, ``None`` where they do not;
    ``unit`` is what a position counts. ``changed`` is the share of the text behind the places
    where replies part, ``logprob`` the mean difference of the log-probabilities before them,
    ``None`` where they are not told.
    """

    prompt: int | None
    position: int | None
    unit: str
    changed: float
    logprob: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outputs:
    """The candidate's replies beside the reference's.

    ``apart`` is the nearest two launches of different sides. ``changed_within`` and
    ``logprob_within`` are the farthest two launches of one side, ``None`` where no side has two.
    ``outside`` says that every launch of one side is farther from those of the other than launches
    of one side are from each other; equal servers come to that with a probability of ``chance`` at
    the most.
    """

    candidates: int
    references: int
    apart: Apart
    changed_within: float | None
    logprob_within: float | None
    outside: bool
    chance: float

    @property
    def sure(self) -> bool:
        """Whether it is outside, and too rarely so by chance to be that."""
        return self.outside and self.chance <= RARE


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """The same questions answered by both sides.

    ``lost`` are those that only the reference answers rightly, ``won`` those that only the
    candidate does. Equal servers lose so many, or more, with a probability of ``p_value``
    (McNemar's exact test, one-sided). The reference's are ``None`` where there is none.
    """

    asked: int
    right: int
    reference_right: int | None = None
    lost: int | None = None
    won: int | None = None
    p_value: float | None = None


# --- fixed prompts ---------------------------------------------------------------------------


def compare_outputs(
    candidates: Sequence[Fingerprint], references: Sequence[Fingerprint]
) -> Outputs | None:
    """Launches of one side beside those of the other; ``None`` where a side has none."""
    if not candidates or not references:
        return None
    told = _told(*candidates, *references)
    across = [apart(one, other, told) for one, other in product(candidates, references)]
    within = [
        apart(one, other, told)
        for side in (candidates, references)
        for one, other in combinations(side, 2)
    ]
    nearest = min(across, key=_distance)
    changed = max((each.changed for each in within), default=None)
    logprob = max((each.logprob for each in within if each.logprob is not None), default=None)
    return Outputs(
        candidates=len(candidates),
        references=len(references),
        apart=nearest,
        changed_within=changed,
        logprob_within=logprob,
        outside=_outside(across, changed, logprob),
        chance=_chance(len(candidates), len(references)),
    )


def _outside(across: Sequence[Apart], changed: float | None, logprob: float | None) -> bool:
    if min(each.changed for each in across) > (changed or 0.0):
        return True
    told = [each.logprob for each in across if each.logprob is not None]
    if len(told) < len(across):
        return False
    return min(told) > _TIMES_APART * (logprob or 0.0) + _ROUNDING


def _chance(ours: int, theirs: int) -> float:
    """Of all ways to deal out equal launches to two sides at most one keeps the sides apart."""
    ways = math.comb(ours + theirs, ours)
    return min(1.0, (2 if ours == theirs else 1) / ways)


def _distance(each: Apart) -> tuple[float, float]:
    return each.changed, each.logprob or 0.0


def _told(*fingerprints: Fingerprint) -> bool:
    """Whether tokens are known of every reply; else texts are compared."""
    return all(reply.tokens or not reply.text for each in fingerprints for reply in each)


def apart(ours: Fingerprint, theirs: Fingerprint, told: bool) -> Apart:
    """How far the replies of one launch are from those of another to the same prompts, by their
    tokens if those are ``told`` of all."""
    pairs = list(zip(ours, theirs, strict=True))
    common = [_common(_pieces(a, told), _pieces(b, told)) for a, b in pairs]
    sizes = [max(len(_pieces(a, told)), len(_pieces(b, told))) for a, b in pairs]
    parted = [at for at, (same, size) in enumerate(zip(common, sizes, strict=True)) if same < size]
    gaps = [
        abs(mine - other)
        for same, (a, b) in zip(common, pairs, strict=True)
        for mine, other in zip(a.logprobs[:same], b.logprobs[:same], strict=told)
    ]
    return Apart(
        prompt=parted[0] + 1 if parted else None,
        position=common[parted[0]] + 1 if parted else None,
        unit="token" if told else "character",
        changed=1 - sum(common) / sum(sizes) if any(sizes) else 0.0,
        logprob=statistics.fmean(gaps) if told and gaps else None,
    )


def _pieces(reply: Reply, told: bool) -> Sequence[str]:
    return reply.tokens if told else reply.text


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """How many pieces are the same before the first that is not."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))


def outputs_line(found: Outputs) -> str | None:
    """What to say of outputs that leave the range of one side, else ``None``."""
    if not found.outside:
        return None
    parts = []
    if found.apart.prompt is not None:
        where = f"{found.apart.unit} {found.apart.position} of prompt {found.apart.prompt}"
        alike = "" if not found.changed_within else ", more than launches of one side do"
        parts.append(f"outputs differ from {where} on{alike}")
    if found.apart.logprob is not None and found.apart.logprob > (found.logprob_within or 0.0):
        by = f"log-probs differ by {_short(found.apart.logprob)}"
        if found.logprob_within is not None:
            by += f", between launches of one side by at most {_short(found.logprob_within)}"
        parts.append(by)
    return "; ".join(parts)


def _short(value: float) -> str:
    return format_number(value, digits=2)


# --- questions -------------------------------------------------------------------------------


def compare_answers(ours: Sequence[bool], theirs: Sequence[bool] | None) -> Answers:
    """The same questions, marked on both sides in the same order."""
    if theirs is None:
        return Answers(asked=len(ours), right=sum(ours))
    pairs = list(zip(ours, theirs, strict=True))
    lost = sum(other and not mine for mine, other in pairs)
    won = sum(mine and not other for mine, other in pairs)
    return Answers(
        asked=len(ours),
        right=sum(ours),
        reference_right=sum(theirs),
        lost=lost,
        won=won,
        p_value=mcnemar(lost, won),
    )


def mcnemar(lost: int, won: int) -> float:
    """The chance that of ``lost + won`` questions which only one side answers rightly, so many or
    more are the other side's, where both are equally good."""
    tried = lost + won
    ways = sum(math.comb(tried, k) for k in range(lost, tried + 1))
    return float(ways / 2**tried)


def answers_line(found: Answers, alpha: float) -> str | None:
    """What to say of answers that are worse than the reference's, else ``None``."""
    if found.p_value is None or found.p_value >= alpha:
        return None
    times = format_number(1 / found.p_value, digits=2)
    return (
        f"gsm8k: {found.right} of {found.asked} questions answered rightly, by the reference "
        f"{found.reference_right}; {found.lost} were lost and {found.won} won (equal servers do so "
        f"1 time in {times})"
    )


# --- the load's own texts --------------------------------------------------------------------


def text_lines(ours: Sequence[OutputQuality], theirs: Sequence[OutputQuality]) -> tuple[str, ...]:
    """What sets the candidate's responses apart from the reference's, run by run, in words."""
    if not ours or not theirs:
        return ()
    lines = (_repetition(ours, theirs), _sameness(ours, theirs), _endings(ours, theirs))
    return tuple(line for line in lines if line)


def _repetition(ours: Sequence[OutputQuality], theirs: Sequence[OutputQuality]) -> str | None:
    mine, other = _repeated(ours), _repeated(theirs)
    if not mine or not other or min(mine) <= max(other) + _REPETITION:
        return None
    return (
        f"responses repeat themselves: {_percent(statistics.median(mine))} of a text is "
        f"repetition, of the reference's {_percent(statistics.median(other))}"
    )


def _repeated(runs: Iterable[OutputQuality]) -> list[float]:
    return [run.repetition for run in runs if run.repetition is not None]


def _sameness(ours: Sequence[OutputQuality], theirs: Sequence[OutputQuality]) -> str | None:
    """Whether every prompt gets the same answer here, and not there."""
    if not all(run.sampled > 1 and run.distinct == 1 for run in ours):
        return None
    if not all(run.distinct > 1 for run in theirs):
        return None
    return "all responses that were looked at are the same text; the reference's are not"


def _endings(ours: Sequence[OutputQuality], theirs: Sequence[OutputQuality]) -> str | None:
    known = {reason for run in theirs for reason in run.finish_reasons}
    always = set.intersection(*(set(run.finish_reasons) for run in ours))
    new = sorted(always - known)
    if not new or not known:
        return None
    return f"responses end by {' and '.join(new)}, the reference's by {' and '.join(sorted(known))}"


def _percent(share: float) -> str:
    return f"{format_number(share * 100, digits=2)} %"
