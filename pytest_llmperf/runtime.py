"""The plugin object that does the work; registered when the first perf test or option is seen.

:class:`Runtime` runs tests, in the only process or on every xdist worker. What gathers their
results is in :mod:`pytest_llmperf.session.collector`.
"""

from __future__ import annotations

import traceback
from collections.abc import Generator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from .errors import LlmPerfError, UsageMistake
from .expectations import (
    Expectation,
    asks,
    check_urls,
    gives,
    read_expectation,
    request_from_mark,
)
from .records import Accelerator, Scalar
from .report import document
from .session import subtests
from .session.collect import PROFILES
from .session.collector import ROLL, Collector
from .session.core import PerfSession
from .session.environment import describe, here, match_facts
from .session.fragment import fragment_for
from .session.handle import LlmPerf
from .session.hooked import tell_verdicts
from .session.judge import error_for
from .session.limits_from import declared_at, taken_over, write_declared
from .session.present import shown_as_message
from .session.progress import Progress
from .session.required import GROUP, Roll
from .session.resume import Resumption
from .session.termination import Termination
from .settings import Settings
from .terminal_fd import TERMINAL

_RUNTIME = pytest.StashKey["Runtime"]()
EXPECTATION = pytest.StashKey[Expectation]()
_MISTAKE = pytest.StashKey[str]()
PERF = pytest.StashKey[LlmPerf]()


def activate(config: pytest.Config) -> Runtime:
    """The runtime of this process, made and registered on first use."""
    if _RUNTIME not in config.stash:
        try:
            settings = Settings.from_config(config)
            _check_plan(config, settings)
            resumption = Resumption(config, settings) if settings.resume else None
            runtime = Runtime(config, settings, resumption)
            if not _is_worker(config):
                runtime.collector = Collector(config, runtime.session, runtime.roll)
        except UsageMistake as mistake:
            raise pytest.UsageError(str(mistake)) from None
        config.stash[_RUNTIME] = runtime
        config.pluginmanager.register(runtime, "llmperf-runtime")
        if resumption is not None:
            config.pluginmanager.register(resumption, "llmperf-resumption")
        if runtime.collector is not None:
            runtime.collector.results.fragments += resumption.fragments if resumption else []
            config.pluginmanager.register(runtime.collector, "llmperf-collector")
            config.pluginmanager.register(Termination(), "llmperf-termination")
    return config.stash[_RUNTIME]


def _check_plan(config: pytest.Config, settings: Settings) -> None:
    if settings.plan_only and config.getoption("dist", "no") != "no":
        raise UsageMistake(
            "--llmperf-plan goes without -n: under pytest-xdist this process sees no tests."
        )


def _is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


class Runtime:
    """Collects declarations, serves fixtures, judges after each test."""

    def __init__(
        self, config: pytest.Config, settings: Settings, resumption: Resumption | None = None
    ) -> None:
        self.config = config
        self.settings = settings
        self.resumption = resumption
        self.collector: Collector | None = None
        self.roll = Roll()
        self._described = False
        #: Tests with a gate that has failed: nothing that runs them again may change that.
        self._failed: dict[str, LlmPerf] = {}
        place = here(config, settings)
        if resumption is not None and resumption.seed is not None:
            place = replace(place, seed=resumption.seed)
        self.session = PerfSession(
            settings, self._progress(), engines=self._offered_engines, here=place
        )

    # --- collection -------------------------------------------------------------------------

    def parametrize(self, metafunc: pytest.Metafunc) -> None:
        """Make ``llm_server`` one session fixture per distinct request, by pytest's own means."""
        if gives(metafunc, "llm_server"):
            return
        mark = metafunc.definition.get_closest_marker("llm_server")
        try:
            request = request_from_mark(mark, self.settings)
        except UsageMistake:
            request = None  # told with the test's place when the item is read
        metafunc.parametrize(
            "llm_server", [request], indirect=True, scope="session", ids=[pytest.HIDDEN_PARAM]
        )

    def read(self, items: Sequence[pytest.Item]) -> None:
        """Read every declaration before anything runs; all mistakes are told together."""
        if self.settings.mode == "off":
            for item in filter(asks, items):
                item.add_marker(pytest.mark.skip(reason="perf tests are off (--llmperf=off)"))
            return
        mistakes = [message for item in items if (message := self._read_one(item))]
        if not mistakes:
            mistakes = self._told(items)
        if mistakes and not _is_worker(self.config):
            raise pytest.UsageError("\n".join(mistakes))
        if not mistakes:
            self._take_over(items)
        if self.settings.shard is None:
            self._count(items)
        self.roll.declare(_expectations(items))
        if _is_worker(self.config):
            roll = self.roll.packed()
            self.config.workeroutput[ROLL] = roll  # type: ignore[attr-defined]  # xdist adds it

    def _count(self, items: Sequence[pytest.Item]) -> None:
        self.session.count_gates(_expectations(items))
        self._go_on(items)

    def _go_on(self, items: Sequence[pytest.Item]) -> None:
        """Tell an interrupted session's finished tests from those that are still to run."""
        if self.resumption is None:
            return
        try:
            self.resumption.expect(
                _expectations(items), family=self.session.family, match=self._match_facts
            )
        except UsageMistake as mistake:
            if not _is_worker(self.config):
                raise pytest.UsageError(str(mistake)) from None
            for item in items:
                item.stash[_MISTAKE] = str(mistake)

    def _match_facts(self, expectation: Expectation) -> Mapping[str, Scalar]:
        accelerator = self.session.accelerator_to_report(expectation.server)
        return match_facts(self.config, self.settings, accelerator)

    def _take_over(self, items: Sequence[pytest.Item]) -> None:
        """Judge by what another commit declares, where that was asked for."""
        expectations = _expectations(items)
        if self.settings.declarations is not None:
            write_declared(self.settings.declarations, expectations)
        if self.settings.limits_from is None:
            return
        cache = self.settings.checkouts_dir
        try:
            elsewhere = declared_at(self.config, self.settings.limits_from, cache)
        except UsageMistake as mistake:
            raise pytest.UsageError(str(mistake)) from None
        self.session.note_limits(elsewhere, expectations)
        for item in items:
            if EXPECTATION in item.stash:
                item.stash[EXPECTATION] = taken_over(item.stash[EXPECTATION], elsewhere)

    def _read_one(self, item: pytest.Item) -> str | None:
        try:
            expectation = read_expectation(item, self.settings)
        except UsageMistake as mistake:
            # A usage error at collection is lost under xdist: the item tells it in its set-up.
            item.stash[_MISTAKE] = str(mistake)
            return str(mistake)
        if not asks(item):
            return None  # a plain test beneath a module's markers
        item.stash[EXPECTATION] = expectation
        if expectation.server is not None and self.config.pluginmanager.hasplugin("xdist"):
            item.add_marker(pytest.mark.xdist_group(GROUP))
        return None

    def _told(self, items: Sequence[pytest.Item]) -> list[str]:
        try:
            check_urls(items, self.settings)
            if self.settings.accelerator is not None:
                self.session.accelerator()
        except UsageMistake as mistake:
            for item in items:
                item.stash[_MISTAKE] = str(mistake)
            return [str(mistake)]
        return []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.roll.select(item.nodeid for item in session.items)
        if self.settings.shard is not None:
            # What this shard deselects, by whatever plugin, is another one's to judge.
            self._count([item for item in session.items if EXPECTATION in item.stash])
        self.session.plan(
            each
            for each in _expectations(session.items)
            if self.resumption is None or not self.resumption.covers(each.nodeid)
        )
        if self.settings.plan_only:
            reporter = self.config.pluginmanager.get_plugin("terminalreporter")
            try:
                for line in chain([""], self.session.plan_lines()):
                    if reporter is not None:
                        reporter.write_line(line)
            except UsageMistake as mistake:
                raise pytest.UsageError(str(mistake)) from None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self) -> bool | None:
        """With ``--llmperf-plan`` nothing runs."""
        return True if self.settings.plan_only else None

    # --- running ----------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        if mistake := item.stash.get(_MISTAKE, None):
            pytest.fail(mistake, pytrace=False)
        expectation = item.stash.get(EXPECTATION, None)
        if expectation is not None:
            self.session.progress.test = item.name
            self.session.check(expectation)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        with subtests.reporting(item):
            return (yield from self._call(item))

    def _call(self, item: pytest.Item) -> Generator[None, object, object]:
        perf = item.stash.get(PERF, None)
        if perf is None:
            return (yield)
        if (failed := self._failed.get(item.nodeid)) is not None:
            item.stash[PERF] = failed
            raise self._still(failed)
        try:
            result = yield
        except (Exception, pytest.fail.Exception, pytest.skip.Exception) as error:
            # The body's own failure is what happened; the verdict is told beside it. But a test
            # that measured and then skips does not leave its limits unjudged.
            missed = self._judge(item, perf, error)
            if missed and perf.declared and isinstance(error, pytest.skip.Exception):
                raise missed from error
            if missed:
                error.add_note(str(missed))
            raise
        if missed := self._judge(item, perf, None):
            raise missed
        return result

    def _judge(
        self, item: pytest.Item, perf: LlmPerf, error: BaseException | None
    ) -> LlmPerfError | None:
        perf.verdicts = self.session.conclude(perf, error)
        if any(verdict.verdict == "fail" for verdict in perf.verdicts):
            self._failed[item.nodeid] = perf
        tell_verdicts(self.config, item, perf.verdicts, self.session.conclusions.problems)
        return error_for(perf.verdicts, self.session.bench)

    def _still(self, failed: LlmPerf) -> LlmPerfError:
        error = error_for(failed.verdicts, self.session.bench)
        if error is None:
            raise RuntimeError("a gate that fails is red")
        decided = "decided when this test ran before; running it again changes nothing"
        return type(error)(f"{error}\n{decided}", verdicts=error.verdicts)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        # The end of any test, also of a plain one, may be that of a server's last.
        if made := self.session.profiling.drain() if call.when == "teardown" else ():
            setattr(report, PROFILES, [document.profile_entry(each) for each in made])
        if EXPECTATION not in item.stash:
            return report
        try:
            self._complete(item, call, report)
        except Exception:
            # An exception that left this hook would lose the test under xdist, silently.
            report.outcome = "failed"
            report.longrepr = (
                f"pytest-llmperf could not report this test:\n{traceback.format_exc()}"
            )
        return report

    def _complete(
        self, item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport
    ) -> None:
        shown_as_message(report, call)
        if subtests.takes(item, call, report):
            return
        if report.when != "call" and not (report.when == "setup" and not report.passed):
            return
        fragment = fragment_for(
            item.stash[EXPECTATION],
            report,
            call.excinfo.value if call.excinfo else None,
            subtests.failures(item, report),
            item.stash.get(PERF, None),
            self.session,
            self._environment,
        )
        if report.failed and (perf := item.stash.get(PERF, None)) is not None:
            self.session.want_profile(perf)
        # A plugin may run a test again: the last run's properties hold.
        others = [pair for pair in item.user_properties if not pair[0].startswith("llmperf.")]
        item.user_properties[:] = [*others, *fragment.properties]
        report.llmperf = fragment.facts  # type: ignore[attr-defined]  # reports carry anything

    def _environment(self, accelerator: Accelerator) -> dict[str, Any] | None:
        """Told once per process, with the first result."""
        if self._described:
            return None
        facts = describe(self.config, self.settings, accelerator)
        self._described = True
        return facts

    # --- what the fixtures need -------------------------------------------------------------

    def _progress(self) -> Progress:
        fd = self.config.stash.get(TERMINAL, None) if self.settings.progress else None
        return Progress(fd, terminal=False if _is_worker(self.config) else None)

    def _offered_engines(self) -> Mapping[str, Any]:
        offered: dict[str, Any] = {}
        # Pluggy answers the last registered first; the closest offer wins.
        for engines in reversed(self.config.hook.pytest_llmperf_engines(config=self.config)):
            offered |= engines
        return offered

    def pytest_keyboard_interrupt(self) -> None:
        self.session.profiling.forget()

    # After the runner's own teardown, in which users' fixtures may still need the server.
    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        if self.collector is None:
            self.session.close()


def _expectations(items: Sequence[pytest.Item]) -> list[Expectation]:
    return [item.stash[EXPECTATION] for item in items if EXPECTATION in item.stash]
