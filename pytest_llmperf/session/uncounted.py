"""Runs that are measured and not judged."""

from __future__ import annotations

from dataclasses import replace

from pytest_llmperf.gates.failures import should_repeat
from pytest_llmperf.records import Run


def invalid(run: Run, *reasons: str) -> Run:
    """``run`` with ``reasons`` not to judge it; as it is without any."""
    valid = run.valid and not reasons
    return replace(run, valid=valid, invalid_reasons=(*run.invalid_reasons, *reasons))


def superseded(run: Run) -> Run:
    """``run``, of which another one can stand in for what few failures spoilt: not valid then."""
    if not should_repeat(run):
        return run
    causes = ", ".join(f"{n} × {cause}" for cause, n in run.failed.items())
    reason = f"repeated because {run.sent - run.succeeded} of {run.sent} requests failed ({causes})"
    return invalid(run, reason)
