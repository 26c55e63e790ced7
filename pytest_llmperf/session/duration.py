"""How long launches take: as it was, and as a plan expects it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from pytest_llmperf.gates.design import FEWEST_PAIRS
from pytest_llmperf.records import NoiseProfile, Run


def mean_startup_s(runs: Sequence[Run]) -> float | None:
    """From the start of a server to its being ready; ``None`` where nobody saw it start."""
    known = {
        run.launch_id: value.value
        for run in runs
        if (value := run.metrics.get("startup_time")) is not None and value.value is not None
    }
    return statistics.fmean(known.values()) if known else None


def mean_span_s(runs: Sequence[Run]) -> float | None:
    """Of each launch, from the start of its first run to the end of its last."""
    begun: dict[str, float] = {}
    ended: dict[str, float] = {}
    for run in runs:
        begin = datetime.fromisoformat(run.started_at).timestamp()
        id_ = run.launch_id
        begun[id_] = min(begin, begun.get(id_, begin))
        ended[id_] = max(begin + run.duration_s, ended.get(id_, begin))
    spans = [ended[id_] - begun[id_] for id_ in begun]
    return statistics.fmean(spans) if spans else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """Seconds of one launch with all that is measured on it, and on how many devices."""

    launch_s: float
    devices: int = 1

    def affordable(self, budget_s: float) -> int:
        """The even number of pairs that fit."""
        return int(budget_s / (2 * self.launch_s)) // 2 * 2

    def told(self, fewest: int, most: int) -> str:
        """The time of so many launches, in words."""
        low, high = (count * self.launch_s / 60 for count in (fewest, most))
        said = f"about {_range(low, high)} min"
        if self.devices > 1:
            said += f", {_range(low * self.devices, high * self.devices)} device-minutes"
        return said


def pace_of(profiles: Sequence[NoiseProfile | None], devices: int) -> Pace | None:
    """By calibrations of everything that is measured on a launch; ``None`` where one is missing."""
    startups = [one.startup_s for one in profiles if one is not None and one.startup_s is not None]
    spans = [one.measure_s for one in profiles if one is not None and one.measure_s is not None]
    if not profiles or len(spans) < len(profiles) or len(startups) < len(profiles):
        return None
    return Pace(launch_s=statistics.fmean(startups) + sum(spans), devices=devices)


def no_time(pace: Pace, budget_s: float) -> str:
    """Why nothing would be compared."""
    return (
        f"NO TIME: a pair of launches takes about {2 * pace.launch_s / 60:.1f} min, and "
        f"{FEWEST_PAIRS} do not fit into --llmperf-budget {budget_s / 60:.3g}m"
    )


def _range(low: float, high: float) -> str:
    one, other = (f"{value:.0f}" if value >= 10 else f"{value:.1f}" for value in (low, high))
    return one if one == other else f"{one} to {other}"
