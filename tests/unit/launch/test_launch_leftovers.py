from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf.launch import leftovers
from pytest_llmperf.launch.locks import subdirectory, try_lock, unlock

SLEEP = "import time; print('up', flush=True); time.sleep(600)"
# Overwrites the environment that the kernel shows, as setting a process title does.
HIDE = """
import ctypes
first = ctypes.POINTER(ctypes.c_void_p).in_dll(ctypes.CDLL(None), "environ")
words = []
while first[len(words)]:
    words.append(first[len(words)])
end = words[-1] + len(ctypes.string_at(words[-1]))
ctypes.memset(words[0], 0, end - words[0])
"""


@pytest.fixture(autouse=True)
def _own_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_LLMPERF_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)


def start(code: str, mark: str | None = None) -> subprocess.Popen[bytes]:
    env = dict(os.environ) if mark is None else {**os.environ, leftovers.MARK: mark}
    process = subprocess.Popen(
        [sys.executable, "-S", "-c", code], env=env, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"up\n"
    return process


def note(
    launch_id: str, server: int | None, place: str | None = None, end: tuple[str, ...] = ()
) -> Path:
    path = leftovers.run_file(launch_id)
    where = leftovers.this_place() if place is None else place
    facts = {"launch": launch_id, "server": server, "place": where, "end": end}
    path.write_text(json.dumps(facts))
    return path


def test_a_dead_keepers_processes_are_ended() -> None:
    ours, other = start(SLEEP, "aaaa"), start(SLEEP, "bbbb")
    path = note("aaaa", None)
    assert leftovers.sweep() == [f"ended what an earlier launch (aaaa) left running: {ours.pid}"]
    assert ours.wait(30) == -9
    assert other.poll() is None
    assert not path.exists()
    assert leftovers.end_marked("bbbb") == [other.pid]
    other.wait(30)


def test_a_living_keepers_note_is_left_alone() -> None:
    ours = start(SLEEP, "aaaa")
    path = note("aaaa", None)
    fd = try_lock(path)
    assert fd is not None
    assert leftovers.sweep() == []
    assert ours.poll() is None
    assert path.exists()
    unlock(fd)
    assert leftovers.sweep()
    ours.wait(30)


def test_a_note_without_processes_is_just_removed() -> None:
    note("aaaa", 1)
    assert leftovers.sweep() == []
    assert list(subdirectory("runs").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="environments are shown in /proc")
def test_one_that_wrote_over_its_environment_is_known_by_its_session() -> None:
    code = f"import os, sys{HIDE}\nif os.fork() == 0:\n    {SLEEP}\nos._exit(0)"
    leader = start(code, "aaaa")
    leader.wait(30)
    note("aaaa", leader.pid, place="another boot")
    assert leftovers.sweep() == []
    note("aaaa", leader.pid)
    (said,) = leftovers.sweep()
    assert "left running: " in said


@pytest.mark.parametrize("code", [SLEEP, f"{HIDE}\n{SLEEP}"], ids=["plain", "hidden"])
def test_a_stranger_with_the_servers_number_is_left_alone(code: str) -> None:
    stranger = start(code)
    note("aaaa", stranger.pid)
    assert leftovers.sweep() == []
    assert stranger.poll() is None
    stranger.kill()
    stranger.wait(30)


# --- containers ------------------------------------------------------------------------------


def shell(text: str) -> tuple[str, ...]:
    return ("/bin/sh", "-c", text)


def test_a_container_that_was_left_is_removed_and_told() -> None:
    path = note("aaaa", None, end=shell("echo llmperf-1-a"))
    said = ["ended what an earlier launch (aaaa) left running: llmperf-1-a"]
    assert leftovers.sweep() == said
    assert not path.exists()


def test_a_container_that_is_gone_is_not_told() -> None:
    path = note("aaaa", None, end=shell("echo 'No such container: llmperf-1-a' >&2"))
    assert leftovers.sweep() == []
    assert not path.exists()


@pytest.mark.parametrize(
    ("end", "why"),
    [
        (shell("echo 'daemon is away' >&2; exit 1"), "daemon is away"),
        (shell("exit 3"), "/bin/sh ended with status 3"),
        (("/no/such/program",), "No such file or directory"),
    ],
)
def test_a_container_that_cannot_be_removed_is_told_and_tried_again(
    end: tuple[str, ...], why: str
) -> None:
    path = note("aaaa", None, end=end)
    for _ in range(2):
        (said,) = leftovers.sweep()
        assert said.startswith("could not end what an earlier launch (aaaa) left running: ")
        assert why in said
        assert path.exists()


def test_a_note_of_another_place_ends_no_container(tmp_path: Path) -> None:
    path = note("aaaa", None, place="another boot", end=shell(f"touch {tmp_path}/called"))
    assert leftovers.sweep() == []
    assert not (tmp_path / "called").exists()
    assert not path.exists()
