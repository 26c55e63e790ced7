"""Hooks that a conftest or another plugin may implement.

Mark an implementation ``@pytest.hookimpl(optionalhook=True)`` where pytest-llmperf may be absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pytest_llmperf.engines.base import Engine
    from pytest_llmperf.records import Accelerator, Verdict


@pytest.hookspec
def pytest_llmperf_engines(  # type: ignore[empty-body]  # it specifies, and is never called
    config: pytest.Config,
) -> dict[str, Engine]:
    """Offer engines by name, for ``llm_server("name", ...)``; a name given here hides a built-in.

    Called once per process, before the first server is planned.
    """


@pytest.hookspec
def pytest_llmperf_fingerprint(
    config: pytest.Config, accelerator: Accelerator, facts: dict[str, Any]
) -> None:
    """Add to ``facts``, the environment that later runs are compared with: scalars by name.

    Called once in every process that runs perf tests, with its first result.
    """


@pytest.hookspec(firstresult=True)
def pytest_llmperf_comparable(
    config: pytest.Config, current: dict[str, Any], baseline: dict[str, Any]
) -> bool | None:
    """Whether a level that was accepted in the environment ``baseline`` holds in ``current``.

    Asked only where the two differ in a fact. The first implementation that answers decides;
    without one such a level is refused.
    """


@pytest.hookspec
def pytest_llmperf_verdict(config: pytest.Config, item: pytest.Item, verdict: Verdict) -> None:
    """A gate of ``item`` was decided; called in the process that ran the test, once per gate.

    The verdict stands, whatever is done here: an implementation that raises makes the session red
    (exit status 11) and changes nothing else.
    """


@pytest.hookspec
def pytest_llmperf_report(config: pytest.Config, document: dict[str, Any]) -> None:
    """The finished report, before it is validated and written; see ``schemas/``.

    Called once, also without ``--llmperf-report``, on the process that collected all results.
    ``document`` may be changed where it stays valid. When an implementation raises, or leaves a
    report that is not valid, the report is written as it was before all of them, and the session
    is red (exit status 11). Exit statuses are never made of what was changed here.
    """
