"""Going on where a session was cut off: tests that had ended report again what they did then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.records import Scalar
from pytest_llmperf.settings import Settings

from .journal import OPTION, RESUMED, digest, facts_of, journal_path, read_journal, refuse, unlike
from .required import without_group


def identity(expectation: Expectation, family: int) -> str:
    """A digest of all that decides about a test here: with another one, it is another test."""
    return digest((expectation, family))


class Resumption:
    """The plugin object of ``--llmperf-resume``, in every process that runs tests.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` where the interrupted session is not this
    one's beginning, naming what differs.
    """

    def __init__(self, config: pytest.Config, settings: Settings) -> None:
        if settings.report is None:
            raise UsageMistake(
                f"{OPTION} goes on with a session that was to write a report; name that report "
                "with --llmperf-report."
            )
        self.path = journal_path(settings.report)
        self._config = config
        left = read_journal(self.path, facts_of(config, settings))
        self._ended, self._beside = left.ended, left.beside
        self._identities: dict[str, str] = {}

    @cached_property
    def seed(self) -> int | None:
        """What the interrupted session drew from: one report has one seed."""
        seeds = (each.fragment.get("seed") for each in self._ended.values())
        return next((seed for seed in seeds if seed is not None), None)

    def expect(
        self,
        expectations: Sequence[Expectation],
        *,
        family: int,
        match: Callable[[Expectation], Mapping[str, Scalar]],
    ) -> None:
        """Take note of what is collected; ``match`` gives the facts of a test's accelerator that
        must be what they were. Raises UsageMistake as the class does."""
        self._identities = {each.nodeid: identity(each, family) for each in expectations}
        by_name = {each.nodeid: each for each in expectations}
        covered = next((each for each in expectations if self.covers(each.nodeid)), None)
        for test, said in self._beside:
            expectation = by_name.get(test, covered)
            if covered is not None and expectation is not None and "environment" in said:
                then = said["environment"]["fingerprint"]["match"]
                refuse(unlike(then, match(expectation)))

    def covers(self, nodeid: str) -> bool:
        """Whether a test reports again instead of running."""
        test = without_group(nodeid)
        ended = self._ended.get(test)
        return ended is not None and ended.identity == self._identities.get(test)

    @property
    def fragments(self) -> list[dict[str, Any]]:
        """What tests contributed to the report that is not one test's alone."""
        return [said for _, said in self._beside]

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> bool | None:
        if not self.covers(item.nodeid):
            return None
        hook, config = item.ihook, self._config
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for data in self._ended[without_group(item.nodeid)].reports:
            # Under another way of spreading tests it may have another name.
            named = {**data, "nodeid": item.nodeid}
            report = config.hook.pytest_report_from_serializable(config=config, data=named)
            setattr(report, RESUMED, True)
            hook.pytest_runtest_logreport(report=report)
        _leave(item, nextitem)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True


def _leave(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """End what the tests before have set up and the next one does not need, as a test that runs
    does at its end; pytest has no public way to it. A fixture that fails then is told as this
    test's error."""
    state = item.session._setupstate
    call = pytest.CallInfo.from_call(lambda: state.teardown_exact(nextitem), when="teardown")
    if call.excinfo is not None:
        # Not by the hook: plugins that implement it take notes where a test runs, and none has.
        report = pytest.TestReport.from_item_and_call(item, call)
        item.ihook.pytest_runtest_logreport(report=report)
