"""What is kept from session to session: what was observed, and which level was accepted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .common import Json, Scalar, VerdictWord


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchValues:
    """One launch in short: the mean of each metric over its valid runs, in the metric's unit."""

    launch_id: str
    started_at: str
    runs: int
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """What one session measured of one test: appended once, never changed.

    ``key`` names what may be compared with each other: equal test, workload and environment.
    ``environment`` are the facts that must be equal, ``subject`` those of the thing under test,
    ``block`` those of the machine and device at hand. ``verdict`` is the worst of the test's gates,
    ``None`` without any. ``created`` is ISO 8601 in UTC. ``gate_version`` is part of the key.
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """The accepted level of one key: the observations that it rests on, and who moved it why.

    A newer level replaces an older one; both are kept.
    """

    id: str
    key: str
    created: str
    observations: tuple[str, ...]
    reason: str
    author: str = ""
    commit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseProfile:
    """How much launches of one key differ where nothing changed, from a calibration.

    Standard deviations of logarithms, so about fractions: ``run_sigma`` between runs of a launch,
    ``launch_sigma`` between launches, ``pair_sigma`` of the ratio of two launches, with its degrees
    of freedom ``pair_df``, by metric. ``lag1`` is the correlation of a launch with the one before.
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
