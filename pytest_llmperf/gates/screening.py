"""Whether there are numbers to compare at all; where not, the gate fails or is not covered."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_llmperf.metrics import units
from pytest_llmperf.records import MetricValue, VerdictWord

#: The values of one launch's valid runs.
Values = Sequence[MetricValue]


@dataclass(frozen=True, slots=True, kw_only=True)
class Broken:
    """Why nothing can be compared, to follow the metric's name, and what that makes of the gate."""

    code: str
    why: str
    word: VerdictWord = "inconclusive"
    covered: bool = False


def none_valid(reasons: Sequence[str]) -> Broken:
    """What it makes of a gate that every run was left out, each for one of ``reasons``."""
    kinds = {reason.partition(":")[0] for reason in reasons}
    why = "; ".join(reasons) or "nothing was measured"
    if kinds == {"client-bound"}:
        # The machine was too busy to measure on: as neutral as any other noise.
        return Broken(code="client_bound", why=why, covered=True)
    return Broken(code="clock_error" if kinds == {"clock-error"} else "no_valid_runs", why=why)


def mean(values: Values) -> float:
    """The mean of what was measured in the runs of a launch."""
    return statistics.fmean(value.value for value in values if value.value is not None)


def advice(values: Iterable[MetricValue]) -> str:
    """What is known of why values are missing, and what to do."""
    known = (value.missing for value in values if value.value is None and value.missing)
    return next(known, "see whether this engine and workload can report it")


def between(
    ours: Sequence[Values], theirs: Sequence[Values], metric: str, of: str = "launches"
) -> Broken | None:
    """What keeps the launches of the candidate from being compared with the reference's; ``of``
    is what they are called."""
    return (
        _unbounded(ours, theirs)
        or _impossible((ours, theirs))
        or _unmeasured({"the candidate": ours, "the reference": theirs}, of)
        or _zero(ours, theirs, higher=_higher(metric))
    )


def alone(launches: Sequence[Values], metric: str) -> Broken | None:
    """What keeps launches from being compared with a stored level, of positive numbers."""
    if (failed := _failed(launches)) is not None:
        return _fails("unbounded", f"is unbounded: requests failed, up to {failed} in a run;")
    if broken := _impossible((launches,)) or _unmeasured({"this session": launches}):
        return broken
    if not _has_zero(launches, higher=_higher(metric)):
        return None
    if _higher(metric):
        return _fails("standstill", "is zero in at least one run, and never at the accepted level;")
    return Broken(code="zero", why="is zero: no loss in percent can be told; gate it by a ceiling;")


def _higher(metric: str) -> bool:
    return units.row_of(metric).direction == "higher"


def _fails(code: str, why: str) -> Broken:
    return Broken(code=code, why=why, word="fail", covered=True)


def _unbounded(ours: Sequence[Values], theirs: Sequence[Values]) -> Broken | None:
    mine, other = _failed(ours), _failed(theirs)
    if mine is None and other is None:
        return None
    if other is None:
        why = f"is unbounded: requests failed, up to {mine} in a run, and none of the reference's;"
        return _fails("unbounded", why)
    if mine is None:
        return Broken(
            code="reference_unbounded",
            why="of the reference is unbounded: its requests failed, so nothing can be compared "
            "with it; mend the reference or name another one;",
        )
    return Broken(
        code="both_unbounded",
        why="is unbounded on both sides: requests of both failed, so nothing can be compared; "
        "lower the load, or find out why in the servers' logs;",
    )


def _failed(side: Sequence[Values]) -> int | None:
    """The most requests that failed in a run that they made unbounded; ``None`` without one."""
    return max((v.failed for values in side for v in values if v.unbounded), default=None)


def _impossible(sides: Iterable[Sequence[Values]]) -> Broken | None:
    if all(_possible(value) for side in sides for launch in side for value in launch):
        return None
    return Broken(code="impossible", why="has an impossible value (not finite, or negative);")


def _possible(value: MetricValue) -> bool:
    return value.value is None or (math.isfinite(value.value) and value.value >= 0)


def _unmeasured(sides: dict[str, Sequence[Values]], of: str = "launches") -> Broken | None:
    counts = {
        name: (sum(all(value.value is None for value in launch) for launch in side), len(side))
        for name, side in sides.items()
    }
    told = " and ".join(
        f"in {count} of {all_} {of} of {name}" for name, (count, all_) in counts.items() if count
    )
    if not told:
        return None
    values = [value for side in sides.values() for launch in side for value in launch]
    return Broken(code="not_measured", why=f"was not measured {told}; {advice(values)};")


def _zero(ours: Sequence[Values], theirs: Sequence[Values], *, higher: bool) -> Broken | None:
    """Nothing at all per second has no logarithm; of the candidate alone it is a standstill."""
    mine, other = _has_zero(ours, higher=higher), _has_zero(theirs, higher=higher)
    if not mine and not other:
        return None
    if higher and not other:
        return _fails("standstill", "is zero in at least one run, and never on the reference;")
    who = "on both sides" if mine and other else f"of the {'candidate' if mine else 'reference'}"
    limit = "floor" if higher else "ceiling"
    return Broken(
        code="zero",
        why=f"is zero {who}: no loss in percent can be told; gate it by a {limit};",
    )


def _has_zero(side: Sequence[Values], *, higher: bool) -> bool:
    if higher:
        return any(value.value == 0 for launch in side for value in launch)
    return any(mean(launch) == 0 for launch in side)
