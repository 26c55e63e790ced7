"""What ``llm_perf.run()`` returns: all runs of one workload, over all launches, in short."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.gates.stats import LaunchSummary, launch_summary
from pytest_llmperf.metrics import units
from pytest_llmperf.records import Fingerprint, Json, MetricValue, Run, Workload

from .comparison import Comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One workload, measured.

    Every metric is an attribute in its own unit: ``run.output_throughput`` (tok/s),
    ``run.ttft_p95`` (ms), ``run.success_rate`` (a fraction); ``None`` when it was not measured. It
    is the geometric mean over launches of the mean over each launch's runs. ``subject`` is what was
    measured, in facts, where those are remembered. ``reference`` is the same of the server that it
    was compared with, launch by launch; ``comparison`` how. ``fingerprints`` are the answers of its
    launches to the fixed prompts, ``solved`` which questions it answered rightly, where asked.
    """

    id: str
    server_id: str
    workload: Workload
    runs: tuple[Run, ...]
    summary: Mapping[str, LaunchSummary]
    subject: Mapping[str, Json] = field(default_factory=dict)
    reference: Measurement | None = None
    comparison: Comparison | None = None
    fingerprints: Mapping[str, Fingerprint] = field(default_factory=dict)
    solved: tuple[bool, ...] | None = None

    def __getattr__(self, name: str) -> float | None:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            statistic = units.resolve(name)
        except UsageMistake as mistake:
            raise AttributeError(str(mistake)) from None
        found = self.summary.get(statistic.name)
        return found.mean if found else None

    @property
    def valid_runs(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.valid)

    @property
    def invalid_reasons(self) -> tuple[str, ...]:
        reasons = (reason for run in self.runs if not run.valid for reason in run.invalid_reasons)
        return tuple(dict.fromkeys(reasons))

    def beside(self, reference: Measurement | None, comparison: Comparison) -> Measurement:
        """The same, compared with another one."""
        return replace(self, reference=reference, comparison=comparison)

    def by_launch(self, metric: str) -> list[list[MetricValue]]:
        """Values of ``metric`` in the valid runs, one list per launch, in order of launching."""
        return by_launch(self.valid_runs, metric)


def measurement_id(server_id: str, workload: Workload) -> str:
    """The same for every process that measures ``workload`` on such a server."""
    digest = hashlib.sha256(workload.identity.encode()).hexdigest()[:8]
    return f"{server_id}:{workload.name}-{digest}"


def by_launch(runs: Sequence[Run], metric: str) -> list[list[MetricValue]]:
    launches: dict[str, list[MetricValue]] = {}
    for run in runs:
        value = run.metrics.get(metric, MetricValue(value=None))
        launches.setdefault(run.launch_id, []).append(value)
    return list(launches.values())


def summarise(runs: Sequence[Run], *, confidence: float = 0.99) -> dict[str, LaunchSummary]:
    """The summary of every metric that all valid runs have a finite value of."""
    valid = [run for run in runs if run.valid]
    names = dict.fromkeys(name for run in valid for name in run.metrics)
    summary = {}
    for name in names:
        launches = [[v.value for v in launch] for launch in by_launch(valid, name)]
        finite = [[v for v in launch if v is not None] for launch in launches]
        if launches == finite:
            log = not units.row_of(name).counted
            summary[name] = launch_summary(finite, confidence, log=log)
    return summary
