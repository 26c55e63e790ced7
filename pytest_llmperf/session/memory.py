"""The remembered past of a test: what it is compared with, and what this session adds to it."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_llmperf.accelerators import fingerprint
from pytest_llmperf.errors import ClientError
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.gates.comparable import GATE_VERSION, differences, refusal, told
from pytest_llmperf.gates.noise import FEWEST_LAUNCHES, noise_by_metric
from pytest_llmperf.gates.verdict import is_red, worst_first
from pytest_llmperf.records import (
    Accelerator,
    LaunchValues,
    Level,
    NoiseProfile,
    Observation,
    Scalar,
    ServerRequest,
    Verdict,
    Workload,
)
from pytest_llmperf.store import (
    Store,
    acceptable,
    key_of,
    near,
    new_id,
    open_store,
    resting_on,
)

from .measurement import Measurement

#: How long a calibration is believed.
PROFILE_DAYS = 30
UPDATE_REASON = "--llmperf-update-baseline"

Facts = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What pytest's side knows of this place.

    ``directory`` is where pytest was called, ``root`` the suite's. ``facts`` are those of the
    environment that must be equal; ``git`` has ``commit`` and ``dirty``; ``comparable`` asks hooks
    whether two unlike environments may be compared.
    """

    directory: Path
    root: Path
    facts: Callable[[Accelerator], Facts]
    git: Callable[[], Mapping[str, Any]]
    comparable: Callable[[Facts, Facts], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known of one test on one workload in one environment.

    ``sessions`` is how many observations there are, ``accepted`` those that the accepted ``level``
    rests on. ``refused`` says why a level of another environment does not hold here. ``changed``
    is what differs from the newest accepted one, in words.
    """

    key: str
    sessions: int
    level: Level | None
    accepted: tuple[Observation, ...]
    refused: str | None
    changed: tuple[str, ...]

    def launches(self, metric: str) -> list[list[float]]:
        """Launch means of ``metric``, for each accepted session that has it."""
        found = [
            [launch.metrics[metric] for launch in each.launches if metric in launch.metrics]
            for each in self.accepted
        ]
        return [launches for launches in found if launches]

    @property
    def against(self) -> str:
        """The accepted level in words."""
        if self.level is None:
            return "no accepted level"
        newest = self.accepted[-1]
        version = newest.subject.get("version")
        commit = f", {newest.commit[:7]}" if newest.commit else ""
        of = f" of {newest.subject.get('engine')} {version}" if version else ""
        return f"the level accepted on {self.level.created[:10]}{of}{commit}"


class Memory:
    """One store, opened when it is first needed."""

    def __init__(self, where: str, here: Here, *, update: bool) -> None:
        self._where = where
        self._here = here
        self._update = update
        self._store: Store | None = None

    def recall(
        self, measurement: Measurement, expectation: Expectation, accelerator: Accelerator
    ) -> Past:
        """What ``measurement`` may be compared with. Raises
        :class:`~pytest_llmperf.store.StoreError`."""
        store, facts = self._open(), self._here.facts(accelerator)
        key = _key(expectation, measurement, facts)
        observations, level = store.observations(key), _newest(store.levels(key))
        refused = None
        if level is None:
            level, others, refused = self._elsewhere(store, key, facts)
            observations = others or observations
        accepted = resting_on(level, observations)
        changed: tuple[str, ...] = ()
        if accepted:
            changed = told(differences(measurement.subject, accepted[-1].subject))
        return Past(
            key=key,
            sessions=len(observations),
            level=level,
            accepted=accepted,
            refused=refused,
            changed=changed,
        )

    def _elsewhere(
        self, store: Store, key: str, facts: Facts
    ) -> tuple[Level | None, list[Observation], str | None]:
        """The level of another environment that may stand in, or why it may not."""
        refused = None
        for other in near(store, key):
            level = _newest(store.levels(other.key))
            if level is None:
                continue
            if self._here.comparable(facts, other.environment):
                return level, store.observations(other.key), None
            refused = refused or refusal(differences(facts, other.environment), other.key)
        return None, [], refused

    def keep(
        self,
        measurement: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        verdicts: Sequence[Verdict],
    ) -> None:
        """Append what was measured, green or red, and accept it where that was asked for.

        Raises :class:`~pytest_llmperf.store.StoreError`.
        """
        launches = _launches(measurement)
        if not launches:
            return
        store, facts = self._open(), self._here.facts(accelerator)
        git = self._here.git()
        observation = Observation(
            id=new_id(),
            key=_key(expectation, measurement, facts),
            created=datetime.now(UTC).isoformat(),
            test=expectation.nodeid,
            workload=measurement.workload.identity,
            environment=facts,
            subject=dict(measurement.subject),
            block=fingerprint.block(accelerator),
            launches=launches,
            gates=tuple(dict.fromkeys(verdict.metric for verdict in verdicts)),
            verdict=worst_first(verdicts)[0].verdict if verdicts else None,
            commit=git.get("commit"),
            dirty=git.get("dirty"),
            runner=platform.node(),
            tool_version=metadata.version("pytest-llmperf"),
        )
        store.append(observation)
        if self._update and verdicts and not any(is_red(each, strict=False) for each in verdicts):
            self._accept(store, observation)

    def _accept(self, store: Store, newest: Observation) -> None:
        level = _newest(store.levels(newest.key))
        sessions = acceptable(level, store.observations(newest.key))
        store.accept(
            Level(
                id=new_id(),
                key=newest.key,
                created=datetime.now(UTC).isoformat(),
                observations=tuple(each.id for each in sessions),
                reason=UPDATE_REASON,
                author=self._here.git().get("author") or "",
                commit=newest.commit,
            )
        )

    # --- noise ------------------------------------------------------------------------------

    def calibrate(
        self, measurement: Measurement, request: ServerRequest, accelerator: Accelerator
    ) -> NoiseProfile:
        """Remember how much the launches of ``measurement`` differ.

        Raises :class:`~pytest_llmperf.store.StoreError`, and ClientError where too few launches
        gave a valid run.
        """
        names = {name for run in measurement.valid_runs for name in run.metrics}
        found = noise_by_metric({name: _finite(measurement, name) for name in sorted(names)})
        if not found:
            raise ClientError(
                f"nothing to calibrate {measurement.workload.name!r} by: fewer than "
                f"{FEWEST_LAUNCHES} launches had a valid run. "
                + ("; ".join(measurement.invalid_reasons) or "See the server's log.")
            )
        profile = NoiseProfile(
            key=_noise_key(request, measurement.workload, self._here.facts(accelerator)),
            created=datetime.now(UTC).isoformat(),
            launches=len({run.launch_id for run in measurement.valid_runs}),
            run_sigma={n: e.run_sigma for n, e in found.items() if e.run_sigma is not None},
            launch_sigma={name: each.launch_sigma for name, each in found.items()},
            pair_sigma={name: each.pair_sigma for name, each in found.items()},
            pair_df=min(each.pair_df for each in found.values()),
            lag1={name: each.lag1 for name, each in found.items()},
            bimodal=tuple(name for name, each in found.items() if each.bimodal),
            block=_beneath(accelerator),
        )
        self._open().save_profile(profile)
        return profile

    def profile(
        self, request: ServerRequest, workload: Workload, accelerator: Accelerator
    ) -> NoiseProfile | None:
        """What a calibration found of this server and workload here, while it may be believed:
        for :data:`PROFILE_DAYS`, on the same machine with the same driver.

        Raises :class:`~pytest_llmperf.store.StoreError`.
        """
        key = _noise_key(request, workload, self._here.facts(accelerator))
        found = self._open().profile(key)
        if found is None or dict(found.block) != _beneath(accelerator):
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(found.created)
        return found if age < timedelta(days=PROFILE_DAYS) else None

    def close(self) -> None:
        store, self._store = self._store, None
        if store is not None:
            store.close()

    def _open(self) -> Store:
        if self._store is None:
            self._store = open_store(self._where, self._here.directory)
        return self._store


def _key(expectation: Expectation, measurement: Measurement, facts: Facts) -> str:
    return key_of(expectation.nodeid, measurement.workload.identity, facts, GATE_VERSION)


def _noise_key(request: ServerRequest, workload: Workload, facts: Facts) -> str:
    """Noise is the server's, whichever test asks and whatever it is compared with."""
    alone = repr(replace(request, reference=None))
    return key_of(
        f"noise-{request.engine}-{request.model}",
        f"{alone} {workload.identity}",
        facts,
        GATE_VERSION,
    )


def _beneath(accelerator: Accelerator) -> dict[str, Scalar]:
    """What noise hangs on beside the environment: this device, this machine, this driver."""
    return {**fingerprint.block(accelerator), **fingerprint.beneath(accelerator)}


def _finite(measurement: Measurement, metric: str) -> list[list[float]]:
    """The values of a metric in each launch; none of a launch that lacks one."""
    launches = measurement.by_launch(metric)
    found = [[value.value for value in launch if value.value is not None] for launch in launches]
    return found if [len(each) for each in found] == [len(each) for each in launches] else []


def _newest(levels: Sequence[Level]) -> Level | None:
    return levels[-1] if levels else None


def _launches(measurement: Measurement) -> tuple[LaunchValues, ...]:
    """Each launch with a valid run, as the mean of every metric that all its runs have."""
    launches: dict[str, list[Any]] = {}
    for run in measurement.valid_runs:
        launches.setdefault(run.launch_id, []).append(run)
    found = []
    for launch_id, runs in launches.items():
        metrics = {}
        for name in runs[0].metrics:
            values = [run.metrics[name].value for run in runs if name in run.metrics]
            if len(values) == len(runs) and None not in values:
                metrics[name] = statistics.fmean(values)
        started = min(run.started_at for run in runs)
        found.append(
            LaunchValues(launch_id=launch_id, started_at=started, runs=len(runs), metrics=metrics)
        )
    return tuple(found)
