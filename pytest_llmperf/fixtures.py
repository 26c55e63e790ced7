"""The four fixtures; thin, so that listing them costs nothing."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pytest_llmperf.records import Accelerator
    from pytest_llmperf.session.handle import LlmPerf, ServerHandle


@pytest.fixture(scope="session")
def llm_server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerHandle]:
    """The server that the test's ``llm_server`` marker asks for, started and ready.

    Has ``url``, ``engine``, ``version``, ``model``, ``args``, ``log_path``, ``accelerator``,
    ``metrics()`` and ``flush()``. Tests that ask for the same server share one launch.
    """
    from pytest_llmperf.fixture_bodies import serve

    yield from serve(request.config, getattr(request, "param", None), tmp_path_factory)


@pytest.fixture(scope="session")
def llm_endpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ServerHandle]:
    """The running endpoint named by ``--llmperf-url``; attached, never launched or stopped."""
    from pytest_llmperf.fixture_bodies import endpoint

    yield from endpoint(request.config, tmp_path_factory)


@pytest.fixture
def llm_perf(
    request: pytest.FixtureRequest,
    llm_server: ServerHandle,
) -> LlmPerf:
    """Measures the test's ``llm_workload`` on its ``llm_server``: ``run = llm_perf.run()``.

    The limits declared by markers are judged when the test body has ended.
    """
    from pytest_llmperf.fixture_bodies import perf_for

    return perf_for(request.node, llm_server)


@pytest.fixture(scope="session")
def llm_accelerator(request: pytest.FixtureRequest) -> Accelerator:
    """The accelerator found on this machine: ``vendor``, ``product``, ``count``, ``devices``."""
    from pytest_llmperf.fixture_bodies import accelerator_of

    return accelerator_of(request.config)
