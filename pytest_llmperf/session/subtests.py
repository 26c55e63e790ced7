"""Parts of a test that report on their own while it runs, as pytest's subtests do.

A part that fails makes its test red, though the test's own report says passed: pytest turns that
over only as it prints it (``pytest_report_teststatus`` in pytest 9.2's ``subtests.py``), and the
plugin pytest-subtests not at all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from .fragment import outcome_of

#: The attribute of a failed part's report that says which kind of ending it was, in the words of
#: our own report.
ENDING = "llmperf_subtest"


@dataclass(slots=True)
class Parts:
    """What the parts of a test have failed by, and whether there may be more of them."""

    running: bool = True
    errors: list[BaseException] = field(default_factory=list)


_PARTS = pytest.StashKey[Parts]()


@contextmanager
def reporting(item: pytest.Item) -> Iterator[None]:
    """While this lasts, reports of ``item`` are those of its parts."""
    parts = item.stash[_PARTS] = Parts()
    try:
        yield
    finally:
        parts.running = False


def takes(item: pytest.Item, call: pytest.CallInfo[None], report: pytest.TestReport) -> bool:
    """Whether ``report`` is that of a part, and then taken note of."""
    parts = item.stash.get(_PARTS, None)
    if parts is None or not parts.running:
        return False
    if report.failed and call.excinfo is not None:
        parts.errors.append(call.excinfo.value)
        setattr(report, ENDING, outcome_of(report, call.excinfo.value))
    return True


def failures(item: pytest.Item, report: pytest.TestReport) -> Sequence[BaseException]:
    """What parts have failed by of a test whose own ``report`` does not say so."""
    parts = item.stash.get(_PARTS, None)
    return parts.errors if parts and report.when == "call" and report.passed else ()
