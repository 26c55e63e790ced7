"""The workload that a marker or a call declares, and what it can and cannot measure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.load.declare.workloads import (
    DEFAULT_CONCURRENCY,
    default_slo,
    make_workload,
    remake_workload,
)
from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.slo import read_slos
from pytest_llmperf.records import Workload
from pytest_llmperf.settings import Settings


def workload_from(
    what: object,
    overrides: Mapping[str, object],
    settings: Settings,
    *,
    needed: int,
    directories: Sequence[Path] = (),
) -> Workload:
    """A workload from a preset's or a file's name, or a ready
    :class:`~pytest_llmperf.records.Workload`; files are looked for in ``directories``."""
    given = dict(overrides)
    if isinstance(what, str) and given.get("slo") is None:
        given["slo"] = default_slo(what)
    if given.get("slo") is not None:
        given["slo"] = read_slos(given["slo"], "llm_workload")
    if isinstance(what, Workload):
        return remake_workload(what, given, requests_needed=needed, source="llm_workload")
    if not isinstance(what, str):
        raise UsageMistake(
            f"llm_workload({what!r}): expected the name of a preset or a file, or a Workload."
        )
    return make_workload(
        what,
        given,
        runs=settings.runs,
        requests_needed=needed,
        source="llm_workload",
        directories=directories,
    )


def check_metrics(workload: Workload, metrics: Sequence[str]) -> None:
    """Raise UsageMistake for a metric that this workload can never give."""
    for name in metrics:
        base = units.row_of(name).name
        if base in ("goodput", "goodput_share") and not workload.slo:
            raise UsageMistake(
                f"{name} counts the requests that meet their objectives, and the workload has none;"
                ' add slo={"ttft": "2 s", "tpot": "80 ms"} or the name of a preset to llm_workload.'
            )
        if base.endswith("_from_schedule") and not _is_scheduled(workload):
            raise UsageMistake(
                f"{name} needs requests that are due at some time, but a closed loop sends one "
                "when another ends; add rate= to llm_workload, or gate "
                f"{name.replace('_from_schedule', '')}."
            )
    of_chunks = [*metrics, *(f"{slo.metric}_mean" for slo in workload.slo)]
    timed = next((name for name in of_chunks if _is_of_chunks(units.row_of(name))), None)
    if timed and not workload.stream:
        raise UsageMistake(
            f"{timed} is measured on a stream, but the workload has stream=False; "
            "leave that out, or gate e2e and throughput."
        )


def _is_scheduled(workload: Workload) -> bool:
    return workload.arrivals != "closed" or workload.think_time_s > 0


def _is_of_chunks(row: units.Metric) -> bool:
    return row.per_request and not row.name.startswith("e2e")


def one_short_run(workload: Workload) -> Workload:
    """One short run: a session for each slot, or as many as there are."""
    few = (workload.concurrency or DEFAULT_CONCURRENCY) * workload.turns
    return replace(
        workload,
        requests=few if workload.requests is None else min(few, workload.requests),
        duration_s=None,
        ramp_up_s=0.0,
        warmup_requests=1,
        runs=1,
    )
