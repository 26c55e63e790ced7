"""Servers of several ranks that really run: ready together, ended together, told apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import processes
from processes import command, marked, until
from pytest_llmperf import clock
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import leftovers, ports
from pytest_llmperf.launch.locks import DeviceLock, subdirectory
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.records import HttpProbe, LaunchPlan, Rank

HERE = Path(__file__).parent
HOST = "127.0.0.1"
OWNER = (("TOY_OWNER", f"{os.getpid()}-ranks"),)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's prctl and /proc")


@pytest.fixture(autouse=True)
def _own_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTEST_LLMPERF_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir(mode=0o700)
    yield
    assert list(subdirectory("runs").iterdir()) == []
    assert until(lambda: not toys())


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def toy(port: int, *tricks: str) -> tuple[str, ...]:
    return (sys.executable, "-S", str(HERE / "toy_server.py"), str(port), *tricks)


def other(number: int, *tricks: str, **changes: Any) -> Rank:
    port = changes.pop("port", None)
    port = ports.claim_port(HOST) if port is None else port
    fields = {"host": f"node-{number}", "argv": toy(port, *tricks), "env": OWNER, "port": port}
    return Rank(**{"number": number, "local": True, **fields, **changes})


def plan(*others: Rank, tricks: tuple[str, ...] = (), **changes: Any) -> LaunchPlan:
    port = ports.claim_port(HOST)
    fields: dict[str, Any] = {
        "engine": "toy",
        "argv": toy(port, *tricks),
        "env": OWNER,
        "host": HOST,
        "port": port,
        "ready": HttpProbe(path="/health"),
        "start_timeout_s": 60.0,
        "stop_grace_s": 5.0,
        "others": others,
    }
    return LaunchPlan(**{**fields, **changes})


def toys() -> list[int]:
    """Of this module, with all that they have started."""
    return [each.pid for each in marked(*OWNER[0])]


def test_all_ranks_are_up_when_start_returns_and_gone_when_stop_does(log: Path) -> None:
    wanted = plan(other(1, "child"), other(2, "daemon"))
    server = ServerProcess.start(wanted, log_path=log)
    assert server.alive()
    assert server.died() is None
    assert len(server.pids) == 3
    assert all(psutil.pid_exists(pid) for pid in server.pids)
    assert log.with_name("server-rank2.log").read_text().startswith("# pytest-llmperf launch")
    server.stop()
    server.stop()
    assert not server.alive()
    assert toys() == []
    assert not any(ports.holds(rank.port) for rank in wanted.others)


def test_a_rank_that_cannot_start_ends_the_launch_and_is_named(log: Path) -> None:
    wanted = plan(other(1), other(2, "crash"), tricks=("never-ready",))
    with pytest.raises(ServerError) as caught:
        ServerProcess.start(wanted, log_path=log)
    error = caught.value
    assert error.summary.startswith("rank 2 of the toy server, on node-2, ended with exit status 3")
    assert "before the server was ready" in error.summary
    assert error.exit_status == 3
    assert any("no kernel image" in line for line in error.log_tail)
    assert error.log_path == log.with_name("server-rank2.log")
    assert toys() == []


def test_a_program_that_is_not_there_is_told_of_its_rank(log: Path) -> None:
    absent = other(1, argv=("/nowhere/engine",))
    with pytest.raises(ServerError, match="rank 1 of the toy server, on node-1, could not"):
        ServerProcess.start(plan(absent, tricks=("never-ready",)), log_path=log)


def test_a_rank_that_dies_later_is_told_and_the_rest_is_ended(log: Path) -> None:
    server = ServerProcess.start(plan(other(1), other(2)), log_path=log)
    os.kill(server.pids[1], signal.SIGSEGV)
    assert until(lambda: not server.alive())
    error = server.died()
    assert error is not None
    assert "rank 1 of the toy server, on node-1, was killed by SIGSEGV" in error.summary
    assert "ready" not in error.summary
    server.stop()
    assert toys() == []


def test_of_several_that_died_the_first_is_to_blame(log: Path) -> None:
    """The others follow it, whichever of them is looked at first."""
    server = ServerProcess.start(plan(other(1), other(2)), log_path=log)
    first, one, two = server.pids
    ranks = {rank.pid: rank for rank in server._others._each}
    try:
        for pid in (two, one):
            os.kill(pid, signal.SIGKILL)
            # Its keeper must have seen it end before the next one does.
            assert until(ranks[pid].dead)
        os.kill(first, signal.SIGKILL)
        assert until(lambda: not server._first_alive())
        error = server.died()
        assert error is not None
        assert error.summary.startswith("rank 2 ")
    finally:
        server.stop()


def test_the_first_rank_is_named_too(log: Path) -> None:
    with pytest.raises(ServerError, match="rank 0 of the toy server ended with exit status 3"):
        ServerProcess.start(plan(other(1), tricks=("crash",)), log_path=log)


def test_when_nobody_gets_ready_the_last_words_of_all_are_told(log: Path) -> None:
    waiting = plan(other(1, "never-ready"), tricks=("never-ready",), start_timeout_s=2.0)
    with pytest.raises(ServerError) as caught:
        ServerProcess.start(waiting, log_path=log)
    assert 'rank 1 on node-1 logged last: "still warming up"' in caught.value.cause


def test_ranks_that_wait_for_a_dead_first_one_are_not_waited_for(log: Path) -> None:
    """SGLang's do: they leave it to the first to end them."""
    server = ServerProcess.start(plan(other(1, "stubborn"), stop_grace_s=60.0), log_path=log)
    os.kill(server.pid, signal.SIGKILL)
    assert until(lambda: not server.alive())
    watch = clock.Stopwatch()
    server.stop()
    assert watch.elapsed < 30
    assert toys() == []


def test_what_reaches_another_node_is_kept_and_its_own_words_are_known(log: Path) -> None:
    said = "ssh: Could not resolve hostname node-1: Name or service not known"
    ssh = other(1, local=False, port=0, argv=("/bin/sh", "-c", f"echo '{said}' >&2; exit 255"))
    with pytest.raises(ServerError) as caught:
        ServerProcess.start(plan(ssh, tricks=("never-ready",)), log_path=log)
    assert "the node is not known by that name" in caught.value.cause
    assert caught.value.remedy == "correct --llmperf-hosts"


def test_a_rank_elsewhere_has_no_process_here(log: Path) -> None:
    ssh = other(1, local=False, port=0, argv=("/bin/sh", "-c", "exec sleep 600"))
    server = ServerProcess.start(plan(ssh), log_path=log)
    assert server.pids == [server.pid]
    server.stop()


ORPHANING = """
import sys, os
sys.path[:0] = {places!r}
import test_launch_ranks as ranks
from pathlib import Path
from pytest_llmperf.launch.locks import DeviceLock

ranks.OWNER = (("TOY_OWNER", {owner!r}),)
lock = DeviceLock(["GPU-toy"], Path({locks!r}))
lock.acquire()
wanted = ranks.plan(ranks.other(1, "stubborn-child"), ranks.other(2, "daemon"))
server = ranks.ServerProcess.start(
    wanted, log_path=Path({log!r}), held_fds=lock.descriptors
)
print(*server.pids, flush=True)
import time
time.sleep(600)
"""


@linux_only
def test_no_rank_outlives_a_killed_test_run_and_the_devices_stay_locked_until_then(
    log: Path, tmp_path: Path
) -> None:
    locks = tmp_path / "locks"
    places = [str(HERE), str(Path(processes.__file__).parent)]
    script = ORPHANING.format(places=places, owner=OWNER[0][1], locks=str(locks), log=str(log))
    run = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert run.stdout is not None
    pids = [int(word) for word in run.stdout.readline().split()]
    assert len(pids) == 3
    lock = DeviceLock(["GPU-toy"], locks)
    assert not lock.try_acquire()
    run.kill()
    run.wait()
    run.stdout.close()
    assert until(lock.try_acquire)
    lock.release()
    assert toys() == []
    assert until(lambda: list(subdirectory("runs").iterdir()) == [])


@linux_only
def test_a_rank_whose_keeper_was_killed_too_is_swept_up(log: Path) -> None:
    server = ServerProcess.start(plan(other(1, "daemon")), log_path=log)
    keepers = [each for each in psutil.Process().children() if "keeper.py" in command(each)]
    assert len(keepers) == 2
    for keeper in keepers:
        keeper.kill()
    assert until(lambda: not server.alive())
    server.stop()
    assert toys() == []
    assert leftovers.sweep() == []
