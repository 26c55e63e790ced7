"""What a session leaves of a test: the observation of its launches, one by one and as a whole."""

from __future__ import annotations

import platform
import statistics
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from pytest_llmperf import clock
from pytest_llmperf.accelerators import fingerprint
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.gates.comparable import GATE_VERSION
from pytest_llmperf.gates.verdict import worst_first
from pytest_llmperf.records import (
    Accelerator,
    Judged,
    LaunchValues,
    Observation,
    Scalar,
    Verdict,
)
from pytest_llmperf.store import key_of

from .measurement import Measurement
from .quality import kept_outputs


def key_for(expectation: Expectation, measurement: Measurement, facts: Mapping[str, Scalar]) -> str:
    """What sessions of this test on this workload in this environment are kept under."""
    return key_of(expectation.nodeid, measurement.workload.identity, facts, GATE_VERSION)


def observation_of(
    id_: str,
    measurement: Measurement,
    expectation: Expectation,
    accelerator: Accelerator,
    launches: Sequence[LaunchValues],
    *,
    facts: Mapping[str, Scalar],
    git: Mapping[str, Any],
    verdicts: Sequence[Verdict] = (),
    judged: Sequence[Judged] = (),
    part_of: str | None = None,
) -> Observation:
    """``launches`` of ``measurement`` as they are kept."""
    return Observation(
        id=id_,
        key=key_for(expectation, measurement, facts),
        created=clock.stamp().isoformat(),
        test=expectation.nodeid,
        workload=measurement.workload.identity,
        environment=facts,
        subject=dict(measurement.subject),
        block=fingerprint.block(accelerator),
        launches=tuple(launches),
        gates=tuple(dict.fromkeys(verdict.metric for verdict in verdicts)),
        verdict=worst_first(verdicts)[0].verdict if verdicts else None,
        commit=git.get("commit"),
        dirty=git.get("dirty"),
        runner=platform.node(),
        tool_version=metadata.version("pytest-llmperf"),
        judged=tuple(judged),
        part_of=part_of,
    )


def launches_of(measurement: Measurement) -> tuple[LaunchValues, ...]:
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
            LaunchValues(
                launch_id=launch_id,
                started_at=started,
                runs=len(runs),
                metrics=metrics,
                outputs=kept_outputs(measurement.fingerprints.get(launch_id)),
            )
        )
    return tuple(found)
