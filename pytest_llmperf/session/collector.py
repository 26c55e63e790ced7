"""The plugin object that gathers all results, in the only process or on xdist's controller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from pytest_llmperf.errors import LlmPerfError

from .collect import Results
from .core import PerfSession
from .required import Roll

#: What a worker's collection is called on its way to the controller.
ROLL = "llmperf_roll"
#: Statuses of a session that came to its end: passed, failed, nothing collected.
_JUDGED = (0, 1, 5)


class Collector:
    """Results of all processes become one report and one exit status."""

    def __init__(self, config: pytest.Config, session: PerfSession, roll: Roll) -> None:
        self.config = config
        self.session = session
        self.roll = roll
        self.results = Results()
        self.expected: set[str] = set()

    def begin(self, report: pytest.TestReport, collected: set[str], reported: set[str]) -> None:
        """Take over from the controller's watch, which saw the reports so far."""
        self.expected |= collected
        self.results.seen |= reported
        self.results.add(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.results.add(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self.expected.update(ids)
        self.roll.select(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # A worker that crashed hands over nothing; each of them has collected everything.
        self.roll.unpack(getattr(node, "workeroutput", {}).get(ROLL, ()))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        try:
            self.session.close()
        except LlmPerfError as error:
            self.results.problems.append(str(error))
        if self.config.option.collectonly or self.session.settings.plan_only:
            return
        self.results.take(self.session)
        stopped = bool(session.shouldstop or session.shouldfail)
        if exitstatus in _JUDGED and not stopped:
            self.results.note_missing(self.expected)
        if exitstatus in _JUDGED:
            self.results.require(self.session, self.roll)
        try:
            self._report(session, int(exitstatus), complete=exitstatus in _JUDGED and not stopped)
        except Exception as error:
            # Nothing may get in the way of pytest's own summary: a hook of others, most likely.
            self.results.problems.append(f"the report could not be made: {error!r}")
        session.exitstatus = self.results.exit_status(int(exitstatus), session.testsfailed)

    def _report(self, session: pytest.Session, exitstatus: int, *, complete: bool) -> None:
        document = self.results.build(
            self.session,
            self.config,
            complete=complete,
            exit_status=self.results.exit_status(exitstatus, session.testsfailed),
        )
        if document is not None:
            self.config.hook.pytest_llmperf_report(config=self.config, document=document)
            self.results.write(self.session.settings.report)
            self.results.hand_out(self.session.settings)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self.results.summarise(terminalreporter)
        self.results.annotate(terminalreporter, self.session.settings)
