"""Going on where a session was cut off: tests that had ended report again what they did then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.records import Scalar
from pytest_llmperf.settings import Settings

from .journal import OPTION, RESUMED, digest, facts_of, journal_path, read_journal, refuse, unlike


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
        self._ended = read_journal(self.path, facts_of(config, settings))
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
        for nodeid, ended in self._ended.items():
            place = ended.fragment.get("environment")
            if place is not None and self.covers(nodeid):
                refuse(unlike(place["fingerprint"]["match"], match(by_name[nodeid])))

    def covers(self, nodeid: str) -> bool:
        """Whether a test reports again instead of running."""
        ended = self._ended.get(nodeid)
        return ended is not None and ended.identity == self._identities.get(nodeid)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> bool | None:
        if not self.covers(item.nodeid):
            return None
        hook, config = item.ihook, self._config
        hook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for data in self._ended[item.nodeid].reports:
            report = config.hook.pytest_report_from_serializable(config=config, data=dict(data))
            setattr(report, RESUMED, True)
            hook.pytest_runtest_logreport(report=report)
        hook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True
