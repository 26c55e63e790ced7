"""What is kept from session to session: what was observed, and which level was accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from .common import Json, Scalar, VerdictWord


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchValues:
    """One launch in short: the mean of each metric over its valid runs, in the metric's unit.

    ``outputs`` are its answers to the fixed prompts, one JSON text each; empty where not asked."""

    launch_id: str
    started_at: str
    runs: int
    metrics: Mapping[str, float]
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """One gate of a session and what came of it.

    Equal ``sequence`` are the same question asked again: the same commit and subject compared with
    the same. It is empty where nobody asks that, as for floors and ceilings.

    Where a sequence goes on over sessions, ``pairs`` are those that this session added: the means
    of the candidate's and of the reference's launch, in the metric's unit. ``before`` is how many
    there were already, and ``ended`` says whether the sequence was decided or used up by them.
    """

    kind: Literal["floor", "ceiling", "regression"]
    metric: str
    verdict: VerdictWord
    sequence: str = ""
    pairs: tuple[tuple[float, float], ...] = ()
    before: int = 0
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one session measured of one test: appended once, never changed.

    ``key`` names what may be compared with each other: equal test, workload and environment.
    ``environment`` are the facts that must be equal, ``subject`` those of the thing under test,
    ``block`` those of the machine and device at hand. ``verdict`` is the worst of the test's gates,
    ``None`` without any; ``judged`` are all of them. ``created`` is ISO 8601 in UTC.
    ``gate_version`` is part of the key.

    ``part_of`` is the id of the observation that will hold this launch among others: parts are kept
    as soon as they are measured, and stand for the whole where that never came.
    """

    id: str
    key: str
    created: str
    test: str
    workload: str
    environment: Mapping[str, Scalar]
    subject: Mapping[str, Json]
    block: Mapping[str, Scalar]
    launches: tuple[LaunchValues, ...]
    gates: tuple[str, ...] = ()
    verdict: VerdictWord | None = None
    commit: str | None = None
    dirty: bool | None = None
    runner: str = ""
    tool_version: str = ""
    gate_version: int = 1
    judged: tuple[Judged, ...] = ()
    part_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The accepted level of one key: the observations that it rests on, and who moved it why.

    A newer level replaces an older one; both are kept. ``retired`` are metrics whose gates were
    taken away on purpose at that time, so that nobody misses them.
    """

    id: str
    key: str
    created: str
    observations: tuple[str, ...]
    reason: str
    author: str = ""
    commit: str | None = None
    retired: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryPoint:
    """One session in the history of a metric.

    ``value`` is its mean over launches, from ``low`` to ``high``, in the metric's unit; ``created``
    is ISO 8601 in UTC. ``accepted`` says that the level rests on it, ``fresh`` that it is the
    session that tells this.
    """

    created: str
    value: float
    low: float
    high: float
    launches: int
    version: str | None = None
    commit: str | None = None
    dirty: bool | None = None
    accepted: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryStep:
    """A new level begins ``at`` this index of a history's points; ``before`` and ``after`` are the
    means of the stretches that meet there, in the metric's unit."""

    at: int
    before: float
    after: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateHistory:
    """What the sessions of one key measured of a gate's metric, the oldest first.

    ``older`` sessions are not shown. ``steps`` are found among the points, and ``method`` says by
    whom. ``level`` is the mean of the sessions that the accepted level rests on, in the metric's
    unit, some of which may be older; ``against`` names it in words, and is empty without one.
    """

    points: tuple[HistoryPoint, ...]
    older: int
    steps: tuple[HistoryStep, ...]
    method: str
    level: float | None = None
    against: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseProfile:
    """How much launches of one key differ where nothing changed, from a calibration.

    Standard deviations of logarithms, so about fractions: ``run_sigma`` between runs of a launch,
    ``launch_sigma`` between launches, ``pair_sigma`` of the ratio of two launches, with its degrees
    of freedom ``pair_df``, by metric. ``lag1`` is the correlation of a launch with the one before.
    ``startup_s`` is how long a launch took until it was ready and ``measure_s`` how long this
    workload then took, in the mean; ``None`` where that is not known.
    """

    key: str
    created: str
    launches: int
    run_sigma: Mapping[str, float]
    launch_sigma: Mapping[str, float]
    pair_sigma: Mapping[str, float]
    pair_df: int
    lag1: Mapping[str, float] = field(default_factory=dict)
    bimodal: tuple[str, ...] = ()
    block: Mapping[str, Scalar] = field(default_factory=dict)
    startup_s: float | None = None
    measure_s: float | None = None
