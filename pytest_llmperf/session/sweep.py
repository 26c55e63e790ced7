"""Measures one workload at several loads: what ``llm_perf.sweep()`` does and returns.

Every point is measured on the launch that is up, whatever number of launches the session asks
for: points of one curve share their launch's luck, and a search of a dozen loads must not start
the server anew for each.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from pytest_llmperf.declared import check_metrics
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.load.declare.workloads import OPEN_LOOP_S, SESSIONS_PER_SLOT, remake_workload
from pytest_llmperf.metrics.sweep import Over, Point, Search, next_load
from pytest_llmperf.metrics.sweep_points import percentile, read_points, requests_needed
from pytest_llmperf.metrics.sweep_words import Outcome, at, conclude
from pytest_llmperf.metrics.units import format_number
from pytest_llmperf.records import Slo, Workload
from pytest_llmperf.report import document, terminal

from .measurement import Measurement

#: Sessions for each slot where the user says how many requests, or wants it short: fewer would
#: leave the load whole for no time at all.
_LEAST_PER_SLOT = 2
_SHORT_OPEN_LOOP_S = 2.0

#: Measures a workload on the launch that is up; the text says what it is for.
Measure = Callable[[Workload, str], Measurement]


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Sweep:
    """A workload, measured at several loads. ``measurements`` are by load; ``str()`` is a table."""

    id: str
    outcome: Outcome
    measurements: Mapping[float, Measurement]

    @property
    def over(self) -> Over:
        return self.outcome.over

    @property
    def points(self) -> tuple[Point, ...]:
        """What was measured, by ascending load."""
        return self.outcome.points

    @property
    def highest(self) -> float | None:
        """The highest load within the objectives, below every load outside; ``None`` where no
        load is within, or there are no objectives."""
        return self.outcome.highest

    @property
    def knee(self) -> float | None:
        """The load from which more load buys ever less throughput; ``None`` without one."""
        return self.outcome.knee

    @property
    def best(self) -> Measurement | None:
        """The measurement of the greatest throughput up to ``highest``; without objectives, of
        all."""
        best = self.outcome.best
        return None if best is None else self.measurements[best]

    @property
    def reason(self) -> str:
        """How the search ended, and what to know beside the figures, in words."""
        return self.outcome.reason

    def __repr__(self) -> str:
        # Short: it stands in the message of every assertion about a sweep.
        loads = ", ".join(format_number(point.load) for point in self.points)
        return f"<Sweep over {self.over} {loads}: highest {self.highest}, knee {self.knee}>"

    def __str__(self) -> str:
        ids = {load: measurement.id for load, measurement in self.measurements.items()}
        entry = document.sweep_entry(id=self.id, test="", outcome=self.outcome, measurements=ids)
        return "\n".join(terminal.sweep_lines(entry))


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """How the workload of each point is made of the declared one.

    ``requests`` and ``duration_s`` are what the user says of every point, ``short`` asks for as
    few as keep the load up.
    """

    declared: Workload
    over: Over
    slos: tuple[Slo, ...]
    requests: int | None = None
    duration_s: float | None = None
    short: bool = False

    def workload(self, load: float) -> Workload:
        """The workload of one point. Its seed is its own, so that no prompt was seen before.

        Raises :class:`~pytest_llmperf.errors.UsageMistake` for what does not go together.
        """
        base = replace(self.declared, slo=self.slos, final_rate=None)
        if self.over == "rate":
            base = replace(base, ramp_up_s=0.0)
        else:
            base = replace(base, arrivals="closed", rate=None, burstiness=1.0)
        given: dict[str, object] = {
            self.over: load,
            "seed": self._seed(load),
            "warmup_requests": self._warmup(load),
            **self._length(load),
        }
        return remake_workload(base, given, requests_needed=1, source="sweep")

    def _seed(self, load: float) -> int:
        said = f"{self.declared.seed} {self.over} {load:.9g}"
        return int.from_bytes(hashlib.sha256(said.encode()).digest()[:4], "big")

    def _warmup(self, load: float) -> int:
        if self.short:
            return 1
        return int(load) if self.over == "concurrency" else self.declared.warmup_requests

    def _length(self, load: float) -> dict[str, object]:
        span = self.duration_s if self.requests is None else None
        if span is None and self.requests is None and not self.short:
            span = self.declared.duration_s
        if span is not None:
            return {"duration_s": span}
        if self.declared.source is not None and self.requests is None:
            # A file holds so many and no more.
            return {"requests": max(self.declared.requests or 1, math.ceil(load) * self.short)}
        return {"requests": self._sessions(load) * self.declared.turns}

    def _sessions(self, load: float) -> int:
        turns = self.declared.turns
        least = _LEAST_PER_SLOT * load if self.over == "concurrency" else 1
        if self.requests is not None:
            return max(math.ceil(self.requests / turns), math.ceil(least))
        if self.short:
            return math.ceil(least if self.over == "concurrency" else load * _SHORT_OPEN_LOOP_S)
        usual = load * (SESSIONS_PER_SLOT if self.over == "concurrency" else OPEN_LOOP_S)
        return max(math.ceil(usual), math.ceil(requests_needed(self.slos) / turns))


def run_sweep(search: Search, points: Points, server_id: str, measure: Measure) -> Sweep:
    """Measure as ``search`` goes on. What cannot be asked is told before anything is measured."""
    _check(points)
    needed = requests_needed(points.slos)
    for load in search.ladder:
        check_metrics(points.workload(load), [percentile(slo) for slo in points.slos])
    measured: dict[float, Measurement] = {}
    while True:
        runs = {load: measurement.runs for load, measurement in measured.items()}
        metric, known = read_points(runs, points.slos)
        following = next_load(search, known)
        if following is None:
            break
        place = f"point {len(measured) + 1} of at most {search.most}"
        doing = f"{at(search, following)}, {place}"
        measured[following] = measure(points.workload(following), doing)
    outcome = conclude(
        search,
        known,
        objectives=points.slos,
        throughput_metric=metric,
        fewest_sent=min(_sent(measured), default=needed),
        needed=needed,
    )
    return Sweep(id=_id(server_id, search, points), outcome=outcome, measurements=measured)


def _check(points: Points) -> None:
    if points.requests is not None and points.duration_s is not None:
        raise UsageMistake(
            "sweep(requests=..., duration=...): both say when a point ends; give one of them."
        )
    if points.declared.arrivals == "trace":
        raise UsageMistake(
            f"sweep(over={points.over!r}): {points.declared.name!r} replays a trace, which has "
            "arrival times of its own; declare a workload without them."
        )


def _sent(measured: Mapping[float, Measurement]) -> list[int]:
    return [run.sent for measurement in measured.values() for run in measurement.valid_runs]


def _id(server_id: str, search: Search, points: Points) -> str:
    digest = hashlib.sha256(repr((search, points)).encode()).hexdigest()[:8]
    return f"{server_id}:sweep-{digest}"
