"""A server that is held still, and goes on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psutil
import pytest

from processes import until
from pytest_llmperf import clock
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch.freezing import freeze, thaw
from pytest_llmperf.launch.tree import process_ids

FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "while True: pass"])
print("up", flush=True)
while True: time.sleep(0.01)
"""


@pytest.fixture
def family() -> Iterator[int]:
    parent = subprocess.Popen([sys.executable, "-c", FAMILY], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    assert parent.stdout.readline() == "up\n"
    try:
        yield parent.pid
    finally:
        for pid in reversed(process_ids(parent.pid)):
            psutil.Process(pid).kill()
        parent.wait()
        parent.stdout.close()


def states(pid: int) -> list[bool]:
    return [psutil.Process(each).status() == psutil.STATUS_STOPPED for each in process_ids(pid)]


def wait_for(pid: int, stopped: bool) -> None:
    assert until(lambda: states(pid) == [stopped, stopped]), states(pid)


def test_all_of_it_stands_still_and_goes_on(family: int) -> None:
    child = process_ids(family)[1]
    freeze(family)
    wait_for(family, stopped=True)
    before = psutil.Process(child).cpu_times().user
    clock.sleep(0.1)
    assert psutil.Process(child).cpu_times().user == before
    thaw(family)
    wait_for(family, stopped=False)


def test_what_cannot_be_seen_is_not_held_still_in_silence() -> None:
    with pytest.raises(ServerError, match="cannot be held still") as caught:
        freeze(0)
    assert "without --llmperf-side-by-side" in caught.value.remedy
    thaw(0)


def test_what_is_another_users_is_not_held_still_in_silence(
    family: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_pid: int, _number: int) -> None:
        raise PermissionError("Operation not permitted")

    monkeypatch.setattr("os.kill", refused)
    with pytest.raises(ServerError, match="cannot be held still") as caught:
        freeze(family)
    assert "Operation not permitted" in caught.value.cause
    thaw(family)
    monkeypatch.undo()


def test_what_has_ended_is_let_be() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    freeze(ended.pid)
    thaw(ended.pid)
