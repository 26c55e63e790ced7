"""Servers that really run, and the processes they leave or do not leave behind."""

from __future__ import annotations

import ast
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from processes import PATIENCE_S, command, gone, marked, until
from pytest_llmperf import clock
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import http, leftovers, ports
from pytest_llmperf.launch.freezing import freeze
from pytest_llmperf.launch.locks import DeviceLock, subdirectory
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.records import FailureCause, HttpProbe, LaunchPlan, LogProgress

HERE = Path(__file__).parent
HOST = "127.0.0.1"
#: In the environment of every toy that this process launches itself.
OWNER = (("TOY_OWNER", str(os.getpid())),)

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's prctl and /proc")


@pytest.fixture(autouse=True)
def _own_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("PYTEST_LLMPERF_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir(mode=0o700)
    yield
    assert list(subdirectory("runs").iterdir()) == []


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def plan(*tricks: str, port: int | None = None, **changes: Any) -> LaunchPlan:
    port = ports.claim_port(HOST) if port is None else port
    toy = (sys.executable, "-S", str(HERE / "toy_server.py"), str(port), *tricks)
    fields: dict[str, Any] = {
        "engine": "toy",
        "argv": toy,
        "env": OWNER,
        "host": HOST,
        "port": port,
        "ready": HttpProbe(path="/health"),
        "start_timeout_s": 60.0,
        "stop_grace_s": 5.0,
    }
    return LaunchPlan(**{**fields, **changes})


def of_launch(launch_id: str) -> list[int]:
    """Pids of all processes that carry the launch's mark."""
    return [
        process.pid
        for process in psutil.process_iter()
        if leftovers._mark(process) == launch_id and not gone(process.pid)
    ]


def left_over() -> list[psutil.Process]:
    """Toys of this process that still run, and keepers."""
    return [
        *marked(*OWNER[0]),
        *(child for child in psutil.Process().children() if "keeper.py" in command(child)),
    ]


def is_free(port: int) -> bool:
    return ports._can_bind(HOST, port)


# --- the good way ----------------------------------------------------------------------------


def test_a_server_is_up_when_start_returns_and_gone_when_stop_does(log: Path) -> None:
    wanted = plan("child", "daemon")
    server = ServerProcess.start(wanted, log_path=log)
    assert server.alive()
    assert server.died() is None
    assert http.call("GET", f"{server.url}/health", timeout_s=10) == (200, b"ok")
    assert 0 < server.startup_time_s < 60
    assert server.pid in of_launch(server.launch_id)
    assert len(of_launch(server.launch_id)) == 3
    server.stop()
    server.stop()
    assert not server.alive()
    assert of_launch(server.launch_id) == []
    assert is_free(wanted.port)
    assert not ports.holds(wanted.port)
    assert "was stopped by this test run" in str(server.died())


def test_twenty_launches_leave_no_process_no_port_no_descriptor(log: Path) -> None:
    wanted = plan("child")
    open_before = psutil.Process().num_fds()
    for _ in range(20):
        server = ServerProcess.start(wanted, log_path=log)
        server.stop()
        assert of_launch(server.launch_id) == []
        assert is_free(wanted.port)
    assert left_over() == []
    assert psutil.Process().num_fds() <= open_before


def test_what_is_held_still_ends_as_politely(log: Path) -> None:
    server = ServerProcess.start(plan("child"), log_path=log)
    freeze(server.pid)
    server.stop()
    assert server._keeper is not None
    assert server._keeper.heard.killed == ()
    assert of_launch(server.launch_id) == []


def test_what_ignores_the_polite_signal_is_killed(log: Path) -> None:
    server = ServerProcess.start(plan("stubborn", "stubborn-child", stop_grace_s=0.3), log_path=log)
    pid = server.pid
    server.stop()
    assert server._keeper is not None
    assert pid in server._keeper.heard.killed
    assert len(server._keeper.heard.killed) == 2
    assert of_launch(server.launch_id) == []


@linux_only
def test_a_child_that_hides_its_origin_is_found_all_the_same(log: Path) -> None:
    server = ServerProcess.start(plan("hidden-child"), log_path=log)
    (hidden,) = psutil.Process(server.pid).children()
    server.stop()
    assert gone(hidden.pid)


def test_the_server_gets_its_files_cores_and_a_clean_environment(log: Path, tmp_path: Path) -> None:
    core = min(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    base = {**os.environ, "COV_CORE_SOURCE": "x", "PYTEST_ADDOPTS": "-x", "PYTHONBREAKPOINT": "0"}
    config = tmp_path / "deep" / "conf.json"
    wanted = plan(cores=(core,), files=((config, "{}"),), env=(*OWNER, ("TOY_API_KEY", "hush")))
    server = ServerProcess.start(wanted, log_path=log, env=base)
    _, facts = http.call("GET", f"{server.url}/facts", timeout_s=10)
    environment, cores = ast.literal_eval(facts.decode())
    server.stop()
    assert config.read_text() == "{}"
    assert environment["TOY_API_KEY"] == "hush"
    assert environment[leftovers.MARK] == server.launch_id
    assert not {"COV_CORE_SOURCE", "PYTEST_ADDOPTS", "PYTHONBREAKPOINT"} & set(environment)
    assert cores in ([], [core])
    header = log.read_text()
    assert "# TOY_API_KEY='***'" in header
    assert f"# to be pinned, once it is ready, to the cores {core}" in header


def test_progress_is_told_as_it_comes(log: Path) -> None:
    told: list[tuple[str, float]] = []
    step = LogProgress(pattern=r"Loading shards: (\d)/(\d)", text=r"loading weights (\1 of \2)")
    server = ServerProcess.start(
        plan("progress", progress=(step,)),
        log_path=log,
        on_progress=lambda text, seconds: told.append((text, seconds)),
    )
    server.stop()
    texts = [text for text, _ in told]
    assert texts[0] == "starting"
    assert "loading weights (1 of 2)" in texts
    assert texts[-1] == "loading weights (2 of 2)"
    assert [seconds for _, seconds in told] == sorted(seconds for _, seconds in told)


# --- the bad ways ----------------------------------------------------------------------------


def failure(log: Path, wanted: LaunchPlan) -> ServerError:
    with pytest.raises(ServerError) as caught:
        ServerProcess.start(wanted, log_path=log)
    assert left_over() == []
    assert not ports.holds(wanted.port)
    return caught.value


def test_a_crash_tells_status_cause_and_log(log: Path) -> None:
    cause = FailureCause(pattern="no kernel image", cause="wrong backend", remedy="another one")
    error = failure(log, plan("crash", causes=(cause,)))
    assert "the toy server ended with exit status 3 after" in error.summary
    assert error.summary.endswith("before it was ready")
    assert error.cause.startswith("wrong backend (it logged: RuntimeError: no kernel image")
    assert (error.remedy, error.exit_status, error.log_path) == ("another one", 3, log)
    assert error.log_tail[-1].startswith("RuntimeError: no kernel image is available")


def test_a_program_that_is_not_there_is_named(log: Path) -> None:
    error = failure(log, plan(argv=("/no/such/python", "-m", "toy")))
    assert error.summary == "the toy server could not be started"
    assert "could not execute '/no/such/python': [Errno 2] No such file" in error.cause


@linux_only
def test_cores_that_are_not_there_are_named(log: Path) -> None:
    assert "could not be pinned to the cores [4095]" in failure(log, plan(cores=(4095,))).summary


@linux_only
def test_every_thread_of_the_tree_is_pinned_once_it_is_ready(log: Path) -> None:
    core = min(os.sched_getaffinity(0))
    server = ServerProcess.start(plan("child", cores=(core,)), log_path=log)
    root = psutil.Process(server.pid)
    threads = [t.id for p in (root, *root.children(recursive=True)) for t in p.threads()]
    pinned = [os.sched_getaffinity(thread) for thread in threads]
    server.stop()
    assert len(threads) > 1
    assert pinned == [{core}] * len(threads)


def test_a_server_that_never_answers_is_given_up(log: Path) -> None:
    error = failure(log, plan("child", "never-ready", start_timeout_s=1.0))
    assert error.summary == "the toy server was not ready within 1 s"
    assert "GET /health wanted 200, last answer: Connection refused" in error.cause
    assert 'its last log line: "still warming up"' in error.cause


def test_a_server_that_says_it_is_lost_is_not_waited_for(log: Path) -> None:
    lost = FailureCause(pattern="warming up$", cause="it is lost", remedy="another", final=True)
    error = failure(log, plan("never-ready", causes=(lost,)))
    assert "will not become ready" in error.summary
    assert error.cause == "it is lost (it logged: still warming up)"
    assert error.remedy == "another"


def test_another_status_is_not_ready(log: Path) -> None:
    error = failure(log, plan(ready=HttpProbe(path="/absent"), start_timeout_s=1.0))
    assert "GET /absent wanted 200, last answer: status 404" in error.cause


def test_a_taken_port_is_refused_and_its_holder_named(log: Path) -> None:
    with socket.create_server((HOST, 0)) as holder:
        error = failure(log, plan(port=holder.getsockname()[1]))
    assert f"is held by process {os.getpid()} (" in error.cause


def test_an_answer_of_another_process_is_noticed(log: Path) -> None:
    """The port is free when it is claimed; then a stranger is quicker than our server."""
    wanted = plan("slow", argv=(sys.executable, "-S", "-c", "import time; time.sleep(600)"))
    toy = [sys.executable, "-S", str(HERE / "toy_server.py"), str(wanted.port)]
    with subprocess.Popen(toy) as stranger:
        try:
            assert until(lambda: not is_free(wanted.port))
            with pytest.raises(ServerError) as caught:
                ServerProcess.start(wanted, log_path=log)
        finally:
            stranger.kill()
    assert f"does not listen on port {wanted.port}: process {stranger.pid}" in caught.value.summary


def test_a_death_in_service_is_told(log: Path) -> None:
    server = ServerProcess.start(plan("child"), log_path=log)
    os.kill(server.pid, signal.SIGSEGV)
    assert until(lambda: not server.alive())
    error = server.died()
    server.stop()
    assert error is not None
    assert error.summary.startswith("the toy server was killed by SIGSEGV (11) after")
    assert error.exit_status == -signal.SIGSEGV
    assert of_launch(server.launch_id) == []


def test_an_interrupt_during_the_start_leaves_nothing(log: Path) -> None:
    def interrupt(_text: str, _seconds: float) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    wanted = plan("child", "never-ready")
    with pytest.raises(KeyboardInterrupt):
        ServerProcess.start(wanted, log_path=log, on_progress=interrupt)
    assert left_over() == []
    assert is_free(wanted.port)


def test_an_interrupt_during_the_stop_hurries_it(log: Path) -> None:
    server = ServerProcess.start(plan("stubborn", stop_grace_s=600.0), log_path=log)
    timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        server.stop()
    timer.join()
    assert server._keeper is not None
    assert server._keeper.heard.finished
    assert of_launch(server.launch_id) == []
    assert not server.alive()


def test_the_end_of_the_pipe_alone_is_a_stop(log: Path) -> None:
    server = ServerProcess.start(plan("child"), log_path=log)
    assert server._keeper is not None
    server._keeper.close()
    assert until(lambda: not of_launch(server.launch_id))
    assert server._keeper.process.wait(PATIENCE_S) == 0
    ports.release_port(int(server.url.rpartition(":")[2]))


def test_a_fork_does_not_stop_its_parents_server(log: Path) -> None:
    server = ServerProcess.start(plan(), log_path=log)
    child = os.fork()
    if child == 0:
        server.stop()
        os._exit(0)
    os.waitpid(child, 0)
    clock.sleep(0.3)
    assert server.alive()
    server.stop()


# --- the end of the test run -----------------------------------------------------------------


class Session:
    """A process of its own that has launched a server."""

    def __init__(self, log: Path, scenario: str, *tricks: str) -> None:
        argv = [sys.executable, str(HERE / "toy_session.py"), str(log), scenario, *tricks]
        self.process = subprocess.Popen(
            argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        with self.process.stdout:
            launch_id, server, port = self.process.stdout.readline().split()
        self.launch_id, self.server, self.port = launch_id, int(server), int(port)

    def left_nothing(self) -> bool:
        return until(lambda: not of_launch(self.launch_id)) and until(lambda: is_free(self.port))

    def no_note_left(self) -> bool:
        return until(lambda: not any(subdirectory("runs").iterdir()))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def test_a_run_that_just_ends_leaves_nothing(log: Path) -> None:
    session = Session(log, "exit", "stubborn-child", "daemon")
    assert session.process.wait(PATIENCE_S) == 0
    assert session.left_nothing()
    assert session.no_note_left()


def test_a_killed_run_leaves_nothing(log: Path) -> None:
    session = Session(log, "wait", "stubborn", "stubborn-child", "daemon")
    assert len(of_launch(session.launch_id)) == 3
    session.kill()
    assert session.left_nothing()
    assert session.no_note_left()


def test_a_killed_run_holds_its_device_until_the_server_is_gone(log: Path) -> None:
    session = Session(log, "wait", "stubborn")
    lock = DeviceLock(["GPU-toy"], subdirectory("devices"))
    assert not lock.try_acquire()
    session.kill()
    assert until(lock.try_acquire)
    assert gone(session.server)
    lock.release()
    assert session.no_note_left()


def test_a_fork_that_keeps_the_pipe_open_keeps_nothing_alive(log: Path) -> None:
    session = Session(log, "fork")
    (fork,) = (
        child
        for child in psutil.Process(session.process.pid).children()
        if "toy_session.py" in " ".join(child.cmdline())
    )
    session.kill()
    assert session.left_nothing()
    assert fork.is_running()
    fork.kill()
    assert session.no_note_left()


@linux_only
def test_a_killed_keeper_takes_the_server_along(log: Path) -> None:
    server = ServerProcess.start(plan("stubborn-child", "daemon"), log_path=log)
    keeper = psutil.Process(server.pid).parent()
    assert keeper is not None
    keeper.kill()
    assert until(lambda: gone(server.pid))
    assert until(lambda: not server.alive())
    assert "its keeper was stopped from outside" in str(server.died())
    assert len(of_launch(server.launch_id)) == 2
    server.stop()
    assert of_launch(server.launch_id) == []


@linux_only
def test_what_a_killed_run_and_its_killed_keeper_left_is_swept_up_by_the_next(log: Path) -> None:
    session = Session(log, "wait", "stubborn-child", "daemon")
    keeper = psutil.Process(session.server).parent()
    assert keeper is not None
    # Stopped first: a running keeper would do its work before it is killed.
    keeper.suspend()
    session.kill()
    keeper.kill()
    assert until(lambda: gone(session.server))
    assert len(of_launch(session.launch_id)) == 2
    server = ServerProcess.start(plan(), log_path=log)
    assert of_launch(session.launch_id) == []
    assert f"# ended what an earlier launch ({session.launch_id}) left" in log.read_text()
    server.stop()


def test_a_keeper_told_to_end_ends_its_server(log: Path) -> None:
    server = ServerProcess.start(plan("child"), log_path=log)
    assert server._keeper is not None
    os.kill(server._keeper.pid, signal.SIGTERM)
    assert until(lambda: not server.alive())
    assert until(lambda: not of_launch(server.launch_id))
    assert "its keeper was stopped from outside" in str(server.died())
    server.stop()
