"""A named release to compare with night after night: the sequence of pairs that is kept meanwhile.

Small losses that come one by one are each too small to be seen against the night before. Against a
release that stays they add up. A session launches one block of two pairs; the pairs of the
sessions before are read from the store, and all of them are judged together at the looks that
were declared. What is decided ends the sequence, and the next session begins another one.
"""

from __future__ import annotations

import hashlib
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from pytest_llmperf.records import (
    Json,
    Judged,
    MetricValue,
    Observation,
    RegressionGate,
    Verdict,
)

from .attempts import Attempt, Nights, lasting
from .comparison import Comparison

_DIGITS = 16
_DECIDED = ("pass", "fail")
#: What a look at the pairs says that no further pair may change.
_ENDING = ("loss_shown", "loss_excluded", "noise")


def sequence_with(
    release: str, gate: RegressionGate, most_pairs: int, subject: Mapping[str, Json]
) -> str:
    """A digest of the question that is asked every night: the gate and its looks, and the release,
    by its name and by the ``subject`` that runs under it."""
    asked = [release, gate.metric, gate.loss_to_catch, gate.allow, most_pairs, lasting(subject)]
    text = json.dumps(asked, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def attempt_after(sequence: str, observations: Iterable[Observation], most_pairs: int) -> Attempt:
    """What ``observations``, the oldest first, left of ``sequence``, which ``most_pairs`` end."""
    attempt = Attempt(sequence=sequence, nights=Nights(most_pairs=most_pairs))
    for observation in observations:
        for judged in observation.judged:
            if judged.sequence == sequence:
                attempt = _after(attempt, judged, observation.created[:10], most_pairs)
    return attempt


def _after(attempt: Attempt, judged: Judged, day: str, most_pairs: int) -> Attempt:
    none = Nights(most_pairs=most_pairs)
    if judged.ended:
        decided = judged.verdict in _DECIDED
        last, on = (judged.verdict, day) if decided else (attempt.last, attempt.on)
        return replace(attempt, last=last, on=on, nights=none)
    so_far = attempt.nights if attempt.nights and judged.before else none
    nights = Nights(
        most_pairs=most_pairs,
        pairs=(*so_far.pairs, *judged.pairs),
        since=so_far.since or day,
        missing=max(so_far.missing, judged.before - len(so_far.pairs)),
    )
    return replace(attempt, nights=nights)


def judged_after(
    verdict: Verdict, attempt: Attempt, nights: Nights, compared: Comparison | None
) -> Judged:
    """What this session adds to a sequence; a new one begins where the old one has holes."""
    before = 0 if nights.missing else len(nights.pairs)
    fresh = _complete(compared, verdict.metric)
    return Judged(
        kind="regression",
        metric=verdict.metric,
        verdict=verdict.verdict,
        sequence=attempt.sequence,
        pairs=fresh,
        before=before,
        ended=verdict.reason_code in _ENDING or before + len(fresh) >= nights.most_pairs,
    )


def _complete(compared: Comparison | None, metric: str) -> tuple[tuple[float, float], ...]:
    """The launch means of pairs that have both, and every value of both."""
    found = [
        (_mean(ours), _mean(theirs))
        for ours, theirs in (compared.pairs(metric) if compared is not None else ())
    ]
    return tuple((one, other) for one, other in found if one is not None and other is not None)


def _mean(launch: Sequence[MetricValue]) -> float | None:
    values = [each.value for each in launch if each.value is not None]
    usable = values and len(values) == len(launch) and all(0 < v < math.inf for v in values)
    return statistics.fmean(values) if usable else None
