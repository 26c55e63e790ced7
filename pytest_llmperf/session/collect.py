"""Fragments of all tests become one document, one exit status and the lines at the end."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf import clock
from pytest_llmperf.errors import LlmPerfError
from pytest_llmperf.report import document
from pytest_llmperf.report.annotations import commands
from pytest_llmperf.report.assembly import assemble
from pytest_llmperf.report.brief import brief_lines, closing_lines
from pytest_llmperf.report.columns import Look
from pytest_llmperf.report.published import published_lines
from pytest_llmperf.report.session_facts import EXIT_GATE, EXIT_UNMEASURED
from pytest_llmperf.report.story import story_lines
from pytest_llmperf.report.terminal import summary_lines
from pytest_llmperf.report.write import write_report
from pytest_llmperf.settings import Settings
from pytest_llmperf.store import StoreError

from . import environment
from .outlets import on_github, repository_path, write_outlets
from .required import Roll, shortcomings, shortcomings_of_shard
from .rescue import rescue_report
from .subtests import ENDING

if TYPE_CHECKING:
    from .core import PerfSession

#: The attribute of a test's last report under which profiles ride that were made in its teardown.
PROFILES = "llmperf_profiles"
#: As -vv asks.
_VERY_VERBOSE = 2
_VERY_QUIET = -2
#: Columns of a terminal that is taken at its word; below that lines break.
_NARROWEST = 40


class Results:
    """What arrived from tests, in this process or from xdist workers."""

    def __init__(self) -> None:
        self.fragments: list[dict[str, Any]] = []
        self.seen: set[str] = set()
        #: How each test ended, in pytest's own words.
        self.endings: dict[str, str] = {}
        self.missing: list[str] = []
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.profiles: list[dict[str, Any]] = []
        self.document_built: dict[str, Any] | None = None
        self._ours_failed = 0
        self._report_path: Path | None = None
        self._others: list[Path] = []

    @property
    def written(self) -> bool:
        """Whether the report is where it was asked for."""
        return self._report_path is not None

    def add(self, report: pytest.TestReport) -> None:
        """Take a test's report, with what rides on it."""
        if report.when != "setup" or not report.passed:
            self.seen.add(report.nodeid)
            self._note_ending(report)
        self.profiles += getattr(report, PROFILES, ())
        if report.failed and getattr(report, ENDING, "failed") != "failed":
            self._ours_failed += 1
        fragment = getattr(report, "llmperf", None)
        if fragment is None:
            return
        self.fragments.append(fragment)
        fresh = (each for each in fragment.get("problems", ()) if each not in self.problems)
        self.problems += fresh
        self.notes += (each for each in fragment.get("notes", ()) if each not in self.notes)
        if report.failed and _outcome(fragment) != "failed":
            self._ours_failed += 1

    def _note_ending(self, report: pytest.TestReport) -> None:
        if report.when != "teardown" or report.failed:
            self.endings[report.nodeid] = report.outcome

    def require(self, session: PerfSession, roll: Roll) -> None:
        """Note what --llmperf-require demands and this session does not show."""
        settings, known = session.settings, []
        if settings.shard is not None:
            self._require_of_shard(settings, roll)
            return
        if settings.require and session.memory is not None:
            try:
                known = session.memory.known_gates()
            except StoreError as error:
                self.problems.append(str(error))
        for scope in settings.require:
            self.problems += shortcomings(
                scope, roll, known, self.fragments, self.endings, settings.store
            )

    def _require_of_shard(self, settings: Settings, roll: Roll) -> None:
        for scope in settings.require:
            self.problems += shortcomings_of_shard(
                scope, roll, self.fragments, self.endings, settings.store
            )

    def take(self, session: PerfSession) -> None:
        """What a session of this process has to say beside its tests."""
        self.problems += [
            each for each in session.conclusions.problems if each not in self.problems
        ]
        self.notes += [each for each in session.notes if each not in self.notes]

    def note_missing(self, expected: Iterable[str]) -> None:
        """Tests that were collected but never reported: green by accident is red."""
        self.missing = sorted(set(expected) - self.seen)
        if self.missing:
            count = len(self.missing)
            shown = ", ".join(self.missing[:5])
            self.problems.append(
                f"{count} collected test{'s' * (count > 1)} never reported a result: {shown}"
            )

    def build(
        self,
        session: PerfSession,
        config: pytest.Config,
        roll: Roll,
        *,
        complete: bool,
        exit_status: int,
    ) -> dict[str, Any] | None:
        """The report; ``None`` when no perf test ran and none was asked for."""
        late = [document.launch_entry(record) for record in session.drain_launches()]
        if late:
            self.fragments.append({"launches": late})
        self.profiles += [document.profile_entry(each) for each in session.profiling.drain()]
        if not self.fragments and not session.settings.told_in_files:
            return None
        self.document_built = assemble(
            [*self.fragments, {"profiles": self.profiles}],
            environment=self._environment(session, config),
            command=["pytest", *config.invocation_params.args],
            seed=next((f["seed"] for f in self.fragments if f.get("seed") is not None), None),
            created=clock.stamp().isoformat(),
            complete=complete and not self.missing,
            exit_status=exit_status,
            tool_version=metadata.version("pytest-llmperf"),
            problems=self.problems,
            suite=_suite(session.settings, roll),
        )
        return self.document_built

    def write(self, path: Path | None) -> None:
        """Write the report; what goes wrong is told in the summary and makes the session red."""
        if path is None or self.document_built is None:
            return
        try:
            write_report(self.document_built, path, option="--llmperf-report")
            self._report_path = path
        except LlmPerfError as error:
            refused = isinstance(error.__cause__, OSError)
            instead = f" {rescue_report(self.document_built, path)}" if refused else ""
            self.problems.append(f"{error}{instead}")

    def hand_out(self, settings: Settings) -> None:
        """Write all that is asked for beside the report, with the same consequences."""
        if self.document_built is not None:
            self._others, problems = write_outlets(self.document_built, settings, os.environ)
            self.problems += problems

    def exit_status(self, pytests: int, failed: int) -> int:
        """Pytest's own status, made finer: ``failed`` counts all failed reports."""
        # The last word of each test counts: a plugin may have run it again.
        outcomes = set(
            {_test(fragment): _outcome(fragment) for fragment in self.fragments}.values()
        )
        if pytests not in (0, 1, 5) or (pytests == 5 and not self.problems):
            return pytests
        if failed > self._ours_failed:
            return 1
        if self.missing:
            return EXIT_UNMEASURED
        if "slow" in outcomes:
            return EXIT_GATE
        if self.problems or outcomes & {"broken", "could_not_measure"}:
            return EXIT_UNMEASURED
        return pytests

    def annotate(self, reporter: pytest.TerminalReporter, settings: Settings) -> None:
        """Notes for GitHub at the lines of markers, where that was asked for."""
        if self.document_built is not None and on_github(settings, os.environ):
            root = repository_path(reporter.config.rootpath, os.environ)
            for command in commands(self.document_built, below=root):
                reporter.line(command)

    def summarise(self, reporter: pytest.TerminalReporter) -> None:
        """The verdicts, then where the report is, then what went wrong with it."""
        verbosity = reporter.config.get_verbosity()
        told = self.document_built if self.fragments else None
        if told is not None and not reporter.config.option.no_summary:
            if verbosity >= 0:
                reporter.section("llmperf", sep="=")
            for line in _told(told, verbosity, _look(reporter)):
                reporter.line(line)
        if verbosity > _VERY_QUIET:
            for line in self._written():
                reporter.line(line)
        self.tell_problems(reporter)

    def _written(self) -> list[str]:
        report = [f"report: {self._report_path}"] if self._report_path is not None else []
        return [*report, *(f"written: {path}" for path in self._others), *self.notes]

    def tell_problems(self, reporter: pytest.TerminalReporter) -> None:
        for problem in self.problems:
            reporter.line(f"ERROR: {problem}", red=True)

    def _environment(self, session: PerfSession, config: pytest.Config) -> dict[str, Any]:
        """As the process that measured saw it; by our own eyes when nothing was measured."""
        for fragment in self.fragments:
            if fragment.get("environment"):
                return dict(fragment["environment"])
        return environment.describe(config, session.settings, session.accelerator_to_report())


def _suite(settings: Settings, roll: Roll) -> dict[str, Any] | None:
    """Which gates there are and what they may do; ``None`` where nothing is judged."""
    if settings.mode != "on" or settings.calibrate:
        return None
    return roll.entry(alpha=settings.family_alpha, family=settings.family, shard=settings.shard)


def _look(reporter: pytest.TerminalReporter) -> Look:
    """The width and the colours of this terminal, as pytest knows them: NO_COLOR, FORCE_COLOR,
    --color, COLUMNS."""
    writer = reporter.config.get_terminal_writer()

    def paint(text: str, *marks: str) -> str:
        return writer.markup(text, **dict.fromkeys(marks, True))

    return Look(width=max(_NARROWEST, writer.fullwidth), paint=paint)


def _told(document: Mapping[str, Any], verbosity: int, look: Look) -> Iterator[str]:
    """As much as was asked for by -qq, -q, nothing, or -vv."""
    if verbosity < 0:
        if verbosity > _VERY_QUIET:
            yield from brief_lines(document, look)
        yield from closing_lines(document, look)
        return
    yield from summary_lines(document, look)
    if verbosity >= _VERY_VERBOSE:
        yield from ("", *story_lines(document, look), *published_lines(document))


def _test(fragment: dict[str, Any]) -> str:
    return str((fragment.get("tests") or [{}])[0].get("test", ""))


def _outcome(fragment: dict[str, Any]) -> str:
    return str((fragment.get("tests") or [{}])[0].get("outcome", ""))
