"""Records into the report's document: plain dicts of plain Python scalars, nothing computed.

Each test hands over a *fragment*, ``{"launches": [...], "measurements": [...], "gates": [...],
"tests": [...]}``, made of the entries below. Fragments travel between processes;
:func:`pytest_llmperf.report.assembly.assemble` makes one document of them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Protocol

from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.sweep import Point
from pytest_llmperf.metrics.sweep_words import Outcome as Swept
from pytest_llmperf.records import (
    Accelerator,
    GateHistory,
    LaunchRecord,
    MetricValue,
    NoiseProfile,
    Profile,
    Run,
    Scalar,
    Verdict,
    Workload,
)
from pytest_llmperf.redact import redact_argv, redact_env, redact_mapping, redact_text

#: Engines that stand in for a real one.
SIMULATORS = frozenset({"sim"})

Outcome = Literal["passed", "slow", "broken", "could_not_measure", "failed", "skipped", "xfailed"]
OUTCOMES: tuple[Outcome, ...] = (
    "passed",
    "slow",
    "broken",
    "could_not_measure",
    "failed",
    "skipped",
    "xfailed",
)
Entry = dict[str, Any]


class Summarised(Protocol):
    """One metric over all launches: the mean and its interval, in the metric's unit."""

    @property
    def mean(self) -> float | None: ...
    @property
    def ci_low(self) -> float | None: ...
    @property
    def ci_high(self) -> float | None: ...
    @property
    def n_launches(self) -> int: ...
    @property
    def n_runs(self) -> int: ...


class Compared(Protocol):
    """What is known of the outputs of two servers: a dataclass, told field by field."""

    @property
    def against(self) -> str: ...
    @property
    def outputs(self) -> Any: ...
    @property
    def missing(self) -> str: ...
    @property
    def answers(self) -> Any: ...
    @property
    def texts(self) -> Sequence[str]: ...
    @property
    def lines(self) -> Sequence[str]: ...
    @property
    def serious(self) -> Sequence[str]: ...


# --- entries ---------------------------------------------------------------------------------


def launch_entry(record: LaunchRecord) -> Entry:
    """One launch, with the facts of its server, which :func:`assemble` moves to the server."""
    entry = _fields(record)
    entry["server"] = entry.pop("server_id")
    entry["url"] = redact_text(record.url)
    entry["argv"] = list(redact_argv(record.argv))
    entry["env"] = dict(redact_env(record.env))
    entry["args"] = plain(redact_mapping(record.args))
    entry["failure"] = record.failure and redact_text(record.failure)
    entry["subject"] = record.subject and plain(redact_mapping(record.subject, repeated=False))
    return entry


def measurement_entry(
    id: str,  # noqa: A002 - the document's word
    test: str,
    server_id: str,
    workload: Workload,
    runs: Sequence[Run],
    summary: Mapping[str, Summarised],
    *,
    reference: str | None = None,
) -> Entry:
    """One workload measured on one server, with every run, valid or not; ``reference`` is the id
    of the measurement that it was compared with."""
    return {
        "id": id,
        "test": test,
        "server": server_id,
        "reference": reference,
        "workload": {"asked": _fields(workload), "sent": _sent(runs)},
        "runs": [_run_entry(run) for run in runs],
        "summary": {name: _summary_entry(name, value) for name, value in summary.items()},
    }


def noise_entry(test: str, profile: NoiseProfile, detectable: Mapping[str, float | None]) -> Entry:
    """What a calibration found; ``detectable`` is the loss in reach, by metric."""
    return {
        "test": test,
        "launches": profile.launches,
        "metrics": {
            name: {
                "run_sigma": plain(profile.run_sigma.get(name)),
                "launch_sigma": plain(profile.launch_sigma[name]),
                "pair_sigma": plain(sigma),
                "pair_df": profile.pair_df,
                "lag1": plain(profile.lag1.get(name)),
                "bimodal": name in profile.bimodal,
                "detectable_loss": plain(detectable.get(name)),
            }
            for name, sigma in profile.pair_sigma.items()
        },
    }


def quality_entry(test: str, found: Compared) -> Entry:
    """What is known of the outputs of the servers that ``test`` compared."""
    return {"test": test, **_fields(found)}


def profile_entry(profile: Profile) -> Entry:
    """One pass under a profiler, or why there was none."""
    entry = _fields(profile)
    entry["server"] = entry.pop("server_id")
    return {**entry, "reason": redact_text(profile.reason)}


def gate_entry(
    test: str, measurement_id: str | None, verdict: Verdict, history: GateHistory | None = None
) -> Entry:
    """One gate of ``test``; ``measurement_id`` is ``None`` when it was judged on nothing, and
    ``history`` is what sessions measured of its metric, where they are remembered."""
    entry = {"test": test, "measurement": measurement_id, **_fields(verdict)}
    return {**entry, "history": plain(history)}


def sweep_entry(
    *,
    id: str,  # noqa: A002 - the document's word
    test: str,
    outcome: Swept,
    measurements: Mapping[float, str],
) -> Entry:
    """One sweep over loads; ``measurements`` are the ids of what each load was measured by."""
    points = [_point_entry(point, measurements[point.load]) for point in outcome.points]
    return {"id": id, "test": test, **_fields(outcome), "points": points}


def _point_entry(point: Point, measurement: str) -> Entry:
    worst = {name: _metric_entry(value) for name, value in point.worst.items()}
    return {"measurement": measurement, **_fields(point), "worst": worst}


def test_entry(test: str, outcome: Outcome, message: str, seconds: float) -> Entry:
    """What became of one perf test, and how long it took in all."""
    return {
        "test": test,
        "outcome": outcome,
        "message": redact_text(message),
        "seconds": plain(seconds),
    }


test_entry.__test__ = False  # type: ignore[attr-defined]  # pytest would collect it by its name


def environment_entry(
    *,
    accelerators: Iterable[Accelerator],
    key: str,
    match: Mapping[str, Scalar],
    context: Mapping[str, Scalar],
    host: Mapping[str, Scalar],
    python: str,
    packages: Mapping[str, str],
    commit: str | None = None,
    branch: str | None = None,
    dirty: bool | None = None,
    dirty_digest: str | None = None,
) -> Entry:
    """Where it was measured; the ``git`` facts are ``None`` outside of a checkout."""
    return {
        "accelerators": [_accelerator_entry(accelerator) for accelerator in accelerators],
        "fingerprint": {"key": key, "match": plain(match), "context": plain(context)},
        "host": plain(host),
        "python": python,
        "packages": plain(packages),
        "git": {
            "commit": commit,
            "branch": branch,
            "dirty": dirty,
            "dirty_digest": dirty_digest,
        },
    }


def _accelerator_entry(accelerator: Accelerator) -> Entry:
    return {
        "vendor": accelerator.vendor,
        "product": accelerator.product,
        "count": accelerator.count,
        **{name: told for name, told in _fields(accelerator).items() if name != "covered"},
        "devices": [_fields(device) for device in accelerator.devices],
    }


def _run_entry(run: Run) -> Entry:
    return {
        "launch_id": run.launch_id,
        "index": run.index,
        "seed": run.seed,
        "started_at": run.started_at,
        "duration_s": plain(run.duration_s),
        "valid": run.valid,
        "invalid_reasons": list(run.invalid_reasons),
        "metrics": {name: _metric_entry(value) for name, value in run.metrics.items()},
        "requests": {"sent": run.sent, "succeeded": run.succeeded, "failed": plain(run.failed)},
        "tokens": {
            "input_mean": plain(run.input_tokens_mean),
            "output_mean": plain(run.output_tokens_mean),
            "reasoning_mean": plain(run.reasoning_tokens_mean),
            "cached_total": plain(run.cached_tokens_total),
            "source": run.token_source,
        },
        "client": _fields(run.client),
        "side": run.side,
        "pair": plain(run.pair),
        "quality": plain(run.quality),
        "telemetry": plain(run.telemetry),
        "curves": plain(run.curves),
    }


def _metric_entry(value: MetricValue) -> float | Entry | None:
    if value.unbounded:
        return {"value": None, "unbounded": True, "failed": plain(value.failed)}
    number: float | None = plain(value.value)
    return number


def _summary_entry(name: str, summary: Summarised) -> Entry:
    row = units.row_of(name)
    return {
        "value": plain(summary.mean),
        "unit": row.unit,
        "direction": row.direction,
        "ci_low": plain(summary.ci_low),
        "ci_high": plain(summary.ci_high),
        "n_launches": plain(summary.n_launches),
        "n_runs": plain(summary.n_runs),
    }


def _sent(runs: Sequence[Run]) -> Entry:
    cached = [run.cached_tokens_total for run in runs]
    known = [tokens for tokens in cached if tokens is not None]
    return {
        "requests": sum(run.sent for run in runs),
        "input_tokens_mean": _mean(runs, [run.input_tokens_mean for run in runs]),
        "output_tokens_mean": _mean(runs, [run.output_tokens_mean for run in runs]),
        "reasoning_tokens_mean": _mean(runs, [run.reasoning_tokens_mean for run in runs]),
        "cached_tokens_total": sum(known) if known and known == cached else None,
    }


def _mean(runs: Sequence[Run], means: Sequence[float | None]) -> float | None:
    """Run means weighted by the requests that they are means of."""
    pairs = zip(runs, means, strict=True)
    known = [(run.succeeded, mean) for run, mean in pairs if mean is not None]
    weight = sum(count for count, _ in known)
    return plain(sum(count * mean for count, mean in known) / weight) if weight else None


# --- plain values ----------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """``value`` as JSON has it: plain dicts, lists and scalars; a number that is not finite
    becomes ``None``, and what JSON does not know becomes its text."""
    if value is None or isinstance(value, bool | str):
        return value if type(value) in (bool, str) or value is None else str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if dataclasses.is_dataclass(value):
        return _fields(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if hasattr(value, "item"):  # a numpy scalar, without importing numpy to know
        return plain(value.item())
    return str(value)


def _fields(record: Any) -> Entry:
    """The fields of a record by name."""
    return {field.name: plain(getattr(record, field.name)) for field in dataclasses.fields(record)}
