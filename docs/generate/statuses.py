"""Exit statuses: of pytest with the plugin, and of the companion commands."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pytest_llmperf.cli.words import EXIT_TROUBLE, EXIT_WORSE
from pytest_llmperf.report.session_facts import EXIT_GATE, EXIT_UNMEASURED

from .page import Page, described

#: Of a session with perf tests: by the status, what it means.
OF_PYTEST: dict[int, str] = {
    **{
        int(code): f"pytest's own: {code.name.lower().replace('_', ' ')}."
        for code in pytest.ExitCode
    },
    pytest.ExitCode.OK: "Everything passed. A gate may be inconclusive because of noise, which the "
    "table at the end shows; `--llmperf-strict` makes that red.",
    pytest.ExitCode.TESTS_FAILED: "A test failed for a reason of its own.",
    pytest.ExitCode.INTERRUPTED: "pytest's own: interrupted.",
    pytest.ExitCode.INTERNAL_ERROR: "pytest's own: an internal error.",
    pytest.ExitCode.USAGE_ERROR: "pytest's own: a wrong command line, marker or ini value; the "
    "message names it and the remedy.",
    pytest.ExitCode.NO_TESTS_COLLECTED: "pytest's own: no tests were collected.",
    EXIT_GATE: "Only gates failed: limits were missed, or something regressed.",
    EXIT_UNMEASURED: "Something broke, could not be measured, or could not be written: a broken "
    "server, no limit for this accelerator, a gate never measured.",
}

#: Of ``pytest-llmperf``; what a command says beside it is in its own help.
OF_COMMANDS: dict[int, str] = {
    0: "All is well.",
    EXIT_TROUBLE: "It could not be done, or not all is well; a sentence on standard error says "
    "what, why and what to do.",
    2: "A wrong command line.",
    EXIT_WORSE: "`compare` and `trend`: something that decides is worse.",
}


def page() -> Page:
    return Page(
        name="reference/statuses",
        title="Exit statuses",
        about="how pytest and pytest-llmperf end",
        body="\n".join(_parts()),
    )


def _parts() -> Iterator[str]:
    yield "## Of pytest\n\nThe worst that happened decides.\n"
    for status, meaning in OF_PYTEST.items():
        yield described("status", f"{status:d}", meaning)
    yield "## Of `pytest-llmperf`\n\n[The commands](commands.md) tell what else there is.\n"
    for status, meaning in OF_COMMANDS.items():
        yield described("command-status", f"{status:d}", meaning)
