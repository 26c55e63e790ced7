"""Shared by all tests."""

from __future__ import annotations

import gc
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest

from patience import PATIENT
from processes import command, marked, until

pytest_plugins = ["pytester"]

# Benchmarks and tools are no part of the package: found in the checkout, behind what is installed.
sys.path.append(str(Path(__file__).parents[1]))

# How long an example takes says how busy the machine is.
hypothesis.settings.register_profile("any-machine", deadline=None)
hypothesis.settings.load_profile("any-machine")

#: In the environment of all that the tests of this process start.
STARTED_BY = "LLMPERF_TESTS_STARTED_BY"
#: Python's own, which end with the process that needed them.
HELPERS = ("resource_tracker", "forkserver")


@pytest.fixture(autouse=True)
def _own_runtime_directory(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Locks and ports of a test are its own: it waits for no other test, and no other user."""
    monkeypatch.setenv("PYTEST_LLMPERF_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))


@pytest.fixture
def busy_machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine that runs these tests may be as busy as it likes: suites that they start do not
    ask whether their load client was late. Tests of just that are marked ``client_bounds``."""
    if request.node.get_closest_marker("client_bounds"):
        return
    if "pytester" in request.fixturenames:
        request.getfixturevalue("pytester")  # it begins by forgetting the variable
    monkeypatch.setenv("PYTEST_ADDOPTS", PATIENT)


@pytest.fixture(scope="session", autouse=True)
def _nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """After the last test nothing of ours runs, listens, is locked or lies half written."""
    mark = f"{os.getpid()}-{secrets.token_hex(4)}"
    others = listening()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(STARTED_BY, mark)
        yield
    until(lambda: not running(mark))
    left = running(mark)
    gc.collect()
    us = psutil.Process()
    locked = [each.path for each in us.open_files() if each.path.endswith(".lock")]
    half = [str(each) for each in tmp_path_factory.getbasetemp().rglob(f".*.{us.pid}.tmp")]
    ours = listening() - others - of_rerunfailures()
    assert (left, ours, locked, half) == ([], set(), [], [])


def listening() -> set[tuple[str, int]]:
    """Where this process listens."""
    sockets = psutil.Process().net_connections("tcp")
    return {(each.laddr[0], each.laddr[1]) for each in sockets if each.status == "LISTEN"}


def of_rerunfailures() -> set[tuple[str, int]]:
    """Where the plugin that runs tests again listens beside xdist: a socket for each session that
    tests have run within this process, which it never closes."""
    databases = (
        each for each in gc.get_objects() if type(each).__module__ == "pytest_rerunfailures"
    )
    sockets = (each.sock for each in databases if hasattr(each, "sock"))
    return {each.getsockname() for each in sockets if each.fileno() >= 0}


def running(mark: str) -> list[str]:
    """Commands of processes that carry the mark."""
    found = (command(process) for process in marked(STARTED_BY, mark))
    return [each for each in found if not any(helper in each for helper in HELPERS)]
