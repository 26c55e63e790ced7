"""The plugin object that gathers all results, in the only process or on xdist's controller."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import pytest

from pytest_llmperf.errors import LlmPerfError
from pytest_llmperf.report.requests.parts import remove_parts

from .collect import Results
from .core import PerfSession
from .hooked import tell_report
from .journal import Journal
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
        self.journal: Journal | None = None
        if session.settings.report is not None and self._measures:
            self.journal = Journal(config, session.settings, resumed=session.settings.resume)

    @property
    def _measures(self) -> bool:
        settings = self.session.settings
        aside = settings.plan_only or settings.declarations or self.config.option.collectonly
        return settings.mode != "off" and not aside

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Before any worker is there: requests that an earlier session has left are not of this
        one, unless it goes on with that."""
        settings = self.session.settings
        if settings.requests_dir is None or settings.resume or not self._measures:
            return
        try:
            remove_parts(settings.requests_dir)
        except OSError as error:
            raise pytest.UsageError(
                f"--llmperf-export requests: what an earlier session left in "
                f"{settings.requests_dir} cannot be removed: {error.strerror or error}."
            ) from None

    def begin(self, report: pytest.TestReport, collected: set[str], reported: set[str]) -> None:
        """Take over from the controller's watch, which saw the reports so far."""
        self.expected |= collected
        self.roll.select(collected)
        self.results.seen |= reported
        self.results.add(report)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.results.add(report)
        if self.journal is not None:
            self.journal.add(report)

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self.expected.update(ids)
        self.roll.select(ids)

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        # A worker that crashed hands over nothing; each of them has collected everything.
        self.roll.unpack(getattr(node, "workeroutput", {}).get(ROLL, ()))

    # Around all others, so that the report is written even where a second Ctrl-C cuts them short,
    # and within the terminal's own, which prints what comes of it.
    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(
        self, session: pytest.Session, exitstatus: int
    ) -> Generator[None, None, None]:
        try:
            yield
        finally:
            try:
                self._close()
            finally:
                self._finish(session, exitstatus)

    def pytest_unconfigure(self) -> None:
        if self.journal is not None:
            self.journal.close()  # of a session that has not begun

    def _close(self) -> None:
        try:
            self.session.close()
        except LlmPerfError as error:
            self.results.problems.append(str(error))

    def _finish(self, session: pytest.Session, exitstatus: int) -> None:
        if self.config.option.collectonly or self.session.settings.plan_only:
            return
        self.results.take(self.session)
        stopped = bool(session.shouldstop or session.shouldfail)
        if exitstatus in _JUDGED and not stopped:
            self.results.note_missing(self.expected)
        if exitstatus in _JUDGED:
            self.results.require(self.session, self.roll)
        complete = exitstatus in _JUDGED and not stopped
        try:
            self._report(session, int(exitstatus), complete=complete)
        except Exception as error:
            # Nothing may get in the way of pytest's own summary: a hook of others, most likely.
            self.results.problems.append(f"the report could not be made: {error!r}")
        if self.journal is not None:
            done = complete and self.results.written and not self.results.missing
            failed = bool(session.shouldfail)
            self.results.notes += self.journal.settle(done=done, at_first_failure=failed)
        session.exitstatus = self.results.exit_status(int(exitstatus), session.testsfailed)

    def _report(self, session: pytest.Session, exitstatus: int, *, complete: bool) -> None:
        document = self._document(session, exitstatus, complete=complete)
        if document is not None:
            told, wrong = tell_report(self.config, document)
            self.results.document_built = told
            if wrong is not None:
                self.results.problems.append(wrong)
                self._document(session, exitstatus, complete=complete)
            self.results.write(self.session.settings.report)
            self.results.hand_out(self.session.settings)

    def _document(
        self, session: pytest.Session, exitstatus: int, *, complete: bool
    ) -> dict[str, Any] | None:
        return self.results.build(
            self.session,
            self.config,
            self.roll,
            complete=complete,
            exit_status=self.results.exit_status(exitstatus, session.testsfailed),
        )

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self.results.summarise(terminalreporter)
        self.results.annotate(terminalreporter, self.session.settings)
