"""What failed requests do to the gates of a measurement."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from pytest_llmperf.metrics import units
from pytest_llmperf.records import Limit, RegressionGate, Run, Verdict

from .verdict import verdict_for

#: Up to this many failures may be bad luck: the run is repeated once.
FEW = 2
_NEVER = 1e-12  # a chance that is not worth a figure


def should_repeat(run: Run) -> bool:
    """Whether a run failed so few requests that it is repeated once before they count."""
    return 0 < _failures(run) <= FEW


def failures_recur(runs: Sequence[Run]) -> str | None:
    """Why the gates of these runs must fail for failed requests, or ``None``.

    ``runs`` holds every run of a measurement in order, the repeated ones too: two in a row have
    the same launch and index. More than :data:`FEW` failures in one run count at once.
    """
    for _, group in groupby(runs, key=lambda run: (run.launch_id, run.index)):
        attempts = list(group)
        for run in attempts:
            if _failures(run) > FEW:
                return f"requests failed: {_told(run)}"
        if len(attempts) > 1 and all(_failures(run) for run in attempts[-2:]):
            return f"requests failed in two runs in a row: {_told(attempts[-1])}"
    return None


def failures_exceed(candidate: Sequence[Run], reference: Sequence[Run], alpha: float) -> str | None:
    """Why the candidate fails more requests than the reference, or ``None``.

    By Fisher's exact test, one-sided at ``alpha``: requests of all the runs, the repeated ones too,
    that were sent and that failed. None sent on a side is no evidence.
    """
    ours, theirs = _counted(candidate), _counted(reference)
    if not all((ours.sent, theirs.sent, ours.failed)):
        return None
    chance = _at_least(ours.failed, ours.sent, ours.failed + theirs.failed, ours.sent + theirs.sent)
    if chance >= alpha:
        return None
    named = _causes(cause for run in candidate for cause in run.failed.items())
    return (
        f"more requests failed than on the reference: {ours.failed} of {ours.sent}{named} against "
        f"{theirs.failed} of {theirs.sent} (equal servers do so {_how_often(chance)})"
    )


@dataclass(frozen=True, slots=True)
class _Count:
    sent: int
    failed: int


def _counted(runs: Sequence[Run]) -> _Count:
    return _Count(sum(run.sent for run in runs), sum(_failures(run) for run in runs))


def _at_least(failed: int, sent: int, all_failed: int, all_sent: int) -> float:
    """The chance that ``failed`` or more of ``all_failed`` failures fall on a side that sent
    ``sent`` of ``all_sent`` requests."""

    def log_choose(n: int, k: int) -> float:
        return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)

    total = log_choose(all_sent, all_failed)
    others = all_sent - sent
    most = min(all_failed, sent)
    chances = (
        math.exp(log_choose(sent, mine) + log_choose(others, all_failed - mine) - total)
        for mine in range(max(failed, all_failed - others), most + 1)
    )
    return min(1.0, math.fsum(chances))


def _how_often(chance: float) -> str:
    if chance < _NEVER:
        return "next to never"
    return f"1 time in {units.format_number(1 / chance, digits=2)}"


def fail_for_requests(
    gate: Limit | RegressionGate,
    why: str,
    device: str,
    *,
    mode: Literal["ab", "history"] = "ab",
) -> Verdict:
    """The verdict of a gate whose measurement failed requests, for the reason ``why``.

    ``mode`` is that of a regression gate.
    """
    name = gate.kind if isinstance(gate, Limit) else "regression gate"
    reason = (
        f"{why}; the {name} of {units.spoken(gate.metric)} on {device} fails with them "
        f"({gate.source})"
    )
    return verdict_for(gate, "fail", "requests_failed", reason, mode=mode)


def _failures(run: Run) -> int:
    return run.sent - run.succeeded


def _told(run: Run) -> str:
    return f"{_failures(run)} of {run.sent}{_causes(run.failed.items())}"


def _causes(counted: Iterable[tuple[str, int]]) -> str:
    """ " (2 timeout, 1 cut)", or the cause alone where there is only one; empty without any."""
    causes: Counter[str] = Counter()
    for cause, count in counted:
        causes[cause] += count
    named = ", ".join(
        cause if len(causes) == 1 else f"{count} {cause}" for cause, count in causes.most_common()
    )
    return f" ({named})" if named else ""
