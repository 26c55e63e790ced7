"""What foreign files tell, as a report that says whose it is."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.metrics import units
from pytest_llmperf.report.assembly import assemble
from pytest_llmperf.report.environments import fingerprint_key

from .found import Found

Entry = dict[str, Any]

#: Fields of a workload that no foreign file tells, or not as we mean them.
_NOT_TOLD = (
    *("warmup_requests", "runs", "seed", "temperature", "api", "request_timeout_s", "stream"),
    *("final_rate", "trace_speed", "ramp_up_s", "duration_s", "source", "shared_prefix_tokens"),
    *("prefixes", "turns", "turn_input_tokens", "think_time_s", "flush"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a user says of foreign files: which test they stand for, what ran where.

    ``launch_per_file`` says that the server was started anew for each file; all are of one launch
    otherwise, for launches make intervals.
    """

    test: str
    engine: str | None = None
    model: str | None = None
    accelerator: str | None = None
    launch_per_file: bool = False


def foreign_report(
    results: Sequence[tuple[Path, Sequence[Found]]],
    told: Told,
    *,
    command: Sequence[str],
    created: str,
    tool_version: str,
) -> Entry:
    """A report of ``results``, which are all of one tool, by the files they are from."""
    every = [found for _, results_of_one in results for found in results_of_one]
    match = {"measured_by": every[0].tool, "accelerator": told.accelerator}
    document = assemble(
        [_fragment(results, told)],
        environment=_environment(match),
        command=command,
        seed=None,
        created=created,
        complete=True,
        exit_status=None,
        tool_version=tool_version,
    )
    notes = dict.fromkeys(note for found in every for note in found.notes)
    versions = {found.version for found in every}
    return {
        **document,
        "foreign": {
            "tool": every[0].tool,
            "version": versions.pop() if len(versions) == 1 else None,
            "files": [str(path) for path, _ in results],
            "notes": list(notes),
        },
    }


def _environment(match: Mapping[str, str | None]) -> Entry:
    return {
        "accelerators": [],
        "fingerprint": {"key": fingerprint_key(match), "match": dict(match), "context": {}},
        "host": {},
        "python": None,
        "packages": {},
        "git": {"commit": None, "branch": None, "dirty": None, "dirty_digest": None},
    }


def _fragment(results: Sequence[tuple[Path, Sequence[Found]]], told: Told) -> Entry:
    launches: dict[str, Entry] = {}
    loads: dict[tuple[object, ...], list[tuple[str, Found]]] = {}
    for number, (_, found_here) in enumerate(results, start=1):
        launch = f"launch-{number if told.launch_per_file else 1}"
        launches.setdefault(launch, _launch(launch, found_here[0], told))
        for found in found_here:
            loads.setdefault(found.load, []).append((launch, found))
    measured = [
        _measurement(f"{told.test}-{number}", runs, told)
        for number, runs in enumerate(loads.values(), start=1)
    ]
    return {"launches": list(launches.values()), "measurements": measured}


def _launch(id_: str, found: Found, told: Told) -> Entry:
    return {
        "server": "server",
        "engine": told.engine or found.engine or "unknown",
        "version": found.engine_version,
        "model": told.model or found.model,
        "id": id_,
        "url": "",
        "launched": False,
        "argv": [],
        "env": {},
        "args": {},
        "notes": [f"as {found.tool} found it"],
        "cores": None,
        "started_at": None,
        "startup_time_s": None,
        "log": None,
        "failure": None,
        "subject": None,
        "devices": None,
        "side": "candidate",
    }


def _measurement(id_: str, runs: Sequence[tuple[str, Found]], told: Told) -> Entry:
    entries = [_run(launch, at, found) for at, (launch, found) in enumerate(runs)]
    return {
        "id": id_,
        "test": told.test,
        "server": "server",
        "reference": None,
        "workload": {"asked": _asked(runs[0][1]), "sent": _sent([found for _, found in runs])},
        "runs": entries,
        "summary": _summary(entries),
    }


def _asked(found: Found) -> Entry:
    return {
        **dict.fromkeys(_NOT_TOLD),
        "name": found.name,
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "length_spread": found.length_spread,
        "concurrency": found.concurrency,
        "requests": found.requests,
        "rate": found.rate,
        "arrivals": found.arrivals,
        "burstiness": found.burstiness,
        "slo": [],
    }


def _sent(runs: Sequence[Found]) -> Entry:
    sent = [_total(found) for found in runs]
    known = [number for number in sent if number is not None]
    return {
        "requests": sum(known) if len(known) == len(sent) else None,
        "input_tokens_mean": _mean([found.input_mean for found in runs]),
        "output_tokens_mean": _mean([found.output_mean for found in runs]),
        "reasoning_tokens_mean": None,
        "cached_tokens_total": None,
    }


def _total(found: Found) -> int | None:
    return None if found.failed is None else found.succeeded + found.failed


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known and len(known) == len(values) else None


def _run(launch: str, at: int, found: Found) -> Entry:
    return {
        "launch_id": launch,
        "index": at,
        "seed": None,
        "started_at": found.started_at,
        "duration_s": found.duration_s,
        "valid": True,
        "invalid_reasons": [],
        "metrics": dict(found.metrics),
        "requests": {
            "sent": _total(found),
            "succeeded": found.succeeded,
            "failed": {"not told why": found.failed} if found.failed else {},
        },
        "tokens": {
            "input_mean": found.input_mean,
            "output_mean": found.output_mean,
            "reasoning_mean": None,
            "cached_total": None,
            "source": None,
        },
        "client": None,
        "side": "candidate",
        "pair": None,
        "quality": None,
    }


def _summary(runs: Sequence[Entry]) -> Entry:
    """Means over launches of means over runs; no interval, which ``compare`` makes of launches."""
    launches: dict[str, list[Entry]] = {}
    for run in runs:
        launches.setdefault(run["launch_id"], []).append(run["metrics"])
    names = dict.fromkeys(name for run in runs for name in run["metrics"])
    return {name: _over(name, list(launches.values())) for name in names}


def _over(name: str, launches: Sequence[Sequence[Mapping[str, float]]]) -> Entry:
    values = [[run[name] for run in runs if name in run] for runs in launches]
    known = [statistics.fmean(each) for each in values if each]
    row = units.row_of(name)
    return {
        "value": statistics.fmean(known),
        "unit": row.unit,
        "direction": row.direction,
        "ci_low": None,
        "ci_high": None,
        "n_launches": len(known),
        "n_runs": sum(map(len, values)),
    }
