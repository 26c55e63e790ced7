"""What one test contributes to the report: plain dicts that ride on its pytest report."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.errors import ClientError, Inconclusive, LimitMissed, Regressed, ServerError
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.metrics import published
from pytest_llmperf.records import Accelerator
from pytest_llmperf.report import document, junit

from .handle import LlmPerf
from .measurement import Measurement
from .resume import identity

if TYPE_CHECKING:
    from .core import PerfSession


@dataclass(frozen=True, slots=True, kw_only=True)
class Fragment:
    """``facts`` is JSON-plain, so that xdist can carry it; ``properties`` are for JUnit."""

    facts: dict[str, Any]
    properties: list[tuple[str, object]]


def fragment_for(
    expectation: Expectation,
    report: pytest.TestReport,
    error: BaseException | None,
    parts: Sequence[BaseException],
    perf: LlmPerf | None,
    session: PerfSession,
    environment: Callable[[Accelerator], dict[str, Any] | None],
) -> Fragment:
    """Everything known about a test when its call, or its failed set-up, has ended; ``parts`` are
    what subtests have failed by of a test that is red by nothing else."""
    measurements = perf.measurements if perf else []
    declared = perf.declared if perf else None
    facts = {
        "identity": identity(expectation, session.family),
        "environment": environment(_accelerator(expectation, session)),
        "seed": session.seed if expectation.regressions else None,
        "problems": session.conclusions.problems,
        "notes": session.notes,
        "launches": [document.launch_entry(record) for record in session.drain_launches()],
        "measurements": [
            _measurement_entry(each, expectation, session)
            for measurement in measurements
            for each in (measurement, measurement.reference)
            if each is not None
        ],
        "sweeps": [
            document.sweep_entry(
                id=f"{sweep.id}-{_digest(expectation)}",
                test=expectation.nodeid,
                outcome=sweep.outcome,
                measurements={
                    load: _entry_id(measurement, expectation)
                    for load, measurement in sweep.measurements.items()
                },
            )
            for sweep in (perf.sweeps if perf else [])
        ],
        "gates": [
            document.gate_entry(
                expectation.nodeid,
                _entry_id(declared, expectation) if declared else None,
                verdict,
                session.conclusions.histories.get(expectation.nodeid, {}).get(verdict.metric),
            )
            for verdict in (perf.verdicts if perf else [])
        ],
        "noise": _noise(expectation, session),
        "quality": _quality(expectation, session),
        "tests": [
            document.test_entry(
                test=expectation.nodeid,
                outcome=_worst(parts) if parts else outcome_of(report, error),
                message=_message_of(parts) if parts else _message(report, error),
                seconds=report.duration,
            )
        ],
    }
    return Fragment(facts=facts, properties=list(junit.properties(facts)))


def _noise(expectation: Expectation, session: PerfSession) -> list[dict[str, Any]]:
    profile = session.conclusions.profiles.get(expectation.nodeid)
    if profile is None:
        return []
    return [document.noise_entry(expectation.nodeid, profile, session.in_reach(profile))]


def _quality(expectation: Expectation, session: PerfSession) -> list[dict[str, Any]]:
    found = session.conclusions.qualities.get(expectation.nodeid)
    return [] if found is None else [document.quality_entry(expectation.nodeid, found)]


def _measurement_entry(
    measurement: Measurement, expectation: Expectation, session: PerfSession
) -> dict[str, Any]:
    reference = measurement.reference
    entry = document.measurement_entry(
        id=_entry_id(measurement, expectation),
        test=expectation.nodeid,
        server_id=measurement.server_id,
        workload=measurement.workload,
        runs=measurement.runs,
        summary=measurement.summary,
        reference=_entry_id(reference, expectation) if reference else None,
    )
    beside = _published(measurement, entry["workload"]["sent"], expectation, session)
    return {**entry, "published": beside or None}


def _published(
    measurement: Measurement,
    sent: Mapping[str, float | None],
    expectation: Expectation,
    session: PerfSession,
) -> list[dict[str, Any]]:
    """What others published of the same."""
    request = expectation.server
    if request is None:
        return []
    asked = published.Asked(
        model=request.model,
        engine=request.engine,
        accelerator=_accelerator(expectation, session),
        workload=measurement.workload,
        input_tokens_mean=sent["input_tokens_mean"],
        output_tokens_mean=sent["output_tokens_mean"],
    )
    return published.beside({n: each.mean for n, each in measurement.summary.items()}, asked)


def _accelerator(expectation: Expectation, session: PerfSession) -> Accelerator:
    return session.accelerator_to_report(expectation.server)


def _entry_id(measurement: Measurement, expectation: Expectation) -> str:
    """Two tests may share a measurement, and two workers may each take one: keep them apart."""
    return f"{measurement.id}-{_digest(expectation)}"


def _digest(expectation: Expectation) -> str:
    return hashlib.sha256(expectation.nodeid.encode()).hexdigest()[:8]


def outcome_of(report: pytest.TestReport, error: BaseException | None) -> document.Outcome:
    """Which kind of ending this was; see the schema for the words."""
    kind = _kind(error)
    if hasattr(report, "wasxfail") and not report.passed:
        # An expected failure excuses a slow server; one that was not measured is not excused.
        return kind if kind in ("broken", "could_not_measure") else "xfailed"
    if report.passed:
        return "passed"
    return "skipped" if report.skipped else kind


def _kind(error: BaseException | None) -> document.Outcome:
    if isinstance(error, (LimitMissed, Regressed)):
        return "slow"
    if isinstance(error, (ServerError, ClientError)):
        return "broken"
    return "could_not_measure" if isinstance(error, Inconclusive) else "failed"


def _worst(parts: Sequence[BaseException]) -> document.Outcome:
    """What fails by an assertion of the test's own is no matter of performance."""
    kinds = [_kind(each) for each in parts]
    return "failed" if "failed" in kinds else kinds[0]


def _message_of(parts: Sequence[BaseException]) -> str:
    many = f"{len(parts)} subtests failed, the first by" if len(parts) > 1 else "a subtest failed:"
    return f"{many} {str(parts[0]) or type(parts[0]).__name__}"


def _message(report: pytest.TestReport, error: BaseException | None) -> str:
    if error is None or report.skipped:
        return ""
    return str(error) or type(error).__name__
