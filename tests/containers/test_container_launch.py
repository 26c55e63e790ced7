"""Servers in containers as processes: what is left of them when anything ends first."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from processes import PATIENCE_S, until
from pytest_llmperf import clock
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import http, leftovers, ports
from pytest_llmperf.launch.container_tool import find_image, into_container
from pytest_llmperf.launch.freezing import freeze
from pytest_llmperf.launch.locks import subdirectory
from pytest_llmperf.launch.process import ServerProcess
from pytest_llmperf.records import (
    Accelerator,
    Device,
    LaunchPlan,
    Placement,
    ServerRequest,
)

if TYPE_CHECKING:
    from tests.containers.conftest import FakeDocker

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's prctl and /proc")

HOST = "127.0.0.1"
CPU = Accelerator(devices=(Device(vendor="cpu", product="C", index=0, uuid="CPU"),), source="test")


def plan(name: str = "sim:1", *args: str, **changes: Any) -> LaunchPlan:
    found = find_image(name)
    placement = Placement(
        host=HOST,
        port=ports.claim_port(HOST),
        accelerator=CPU,
        model_path="m",
        served_name="m",
        python="python3",
        environ=found.env,
    )
    inner = Sim().plan(ServerRequest(engine="sim", model="m", args=args), placement)
    wrapped = into_container(inner, found, placement, {"HF_HOME": os.devnull})
    return replace(wrapped, **changes)


def client_of(server: ServerProcess) -> int:
    """The process of the ``docker run`` of a server."""
    keeper = server._keeper
    assert keeper is not None
    return keeper.heard.pid


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def test_a_server_in_a_container_from_start_to_stop(docker: FakeDocker, log: Path) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    wanted = plan()
    server = ServerProcess.start(wanted, log_path=log)
    assert http.call("GET", f"{server.url}/health", timeout_s=10)[0] == 200
    assert "pytest_llmperf.testing" in psutil.Process(server.pid).cmdline()
    assert server.pid != client_of(server)
    assert psutil.Process(server.pid).environ()[leftovers.MARK] == server.launch_id
    assert len(docker.containers()) == 1
    assert "sim: ready" in log.read_text()
    server.stop()
    server.stop()
    assert docker.containers() == []
    assert docker.calls("rm") == [list(wanted.end[1:])]
    assert ports._can_bind(HOST, wanted.port)
    assert list(subdirectory("runs").iterdir()) == []


def test_the_server_gets_its_plan_and_nothing_else(
    docker: FakeDocker, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    monkeypatch.setenv("OF_THIS_MACHINE", "1")
    docker.offer(**{"sim:1": docker.image("ab", env={"OF_THE_IMAGE": "1"})})
    server = ServerProcess.start(plan(), log_path=log)
    env = psutil.Process(server.pid).environ()
    server.stop()
    assert (env["HF_TOKEN"], env["OF_THE_IMAGE"]) == ("hf_secret", "1")
    assert env["PYTHONUNBUFFERED"] == "1"
    assert "OF_THIS_MACHINE" not in env
    assert "hf_secret" not in str(docker.calls("run"))
    assert "hf_secret" not in log.read_text()


def test_one_that_ignores_its_end_is_ended_all_the_same(docker: FakeDocker, log: Path) -> None:
    deaf = "import signal, runpy; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    docker.offer(**{"sim:1": docker.image("ab")})
    wanted = plan(stop_grace_s=0.3)
    code = f"{deaf}; runpy.run_module('pytest_llmperf.testing', run_name='__main__')"
    words = list(wanted.argv)
    at = words.index("-m")
    words[at : at + 2] = ["-c", code]
    server = ServerProcess.start(replace(wanted, argv=tuple(words)), log_path=log)
    pid = server.pid
    server.stop()
    assert docker.containers() == []
    assert not psutil.pid_exists(pid)


def test_a_killed_client_takes_its_container_along(docker: FakeDocker, log: Path) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    server = ServerProcess.start(plan(), log_path=log)
    os.kill(client_of(server), signal.SIGKILL)
    assert until(lambda: not server.alive())
    assert until(lambda: docker.containers() == [])
    assert "was killed by SIGKILL" in str(server.died())
    server.stop()


def test_a_server_that_is_killed_in_its_container(docker: FakeDocker, log: Path) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    server = ServerProcess.start(plan(), log_path=log)
    os.kill(server.pid, signal.SIGKILL)
    assert until(lambda: not server.alive())
    died = server.died()
    server.stop()
    assert died is not None
    assert "was killed by SIGKILL (9)" in died.summary
    assert "ran out of memory" in died.cause


def test_a_server_that_does_not_start_says_why(docker: FakeDocker, log: Path) -> None:
    docker.offer(**{"sim:1": docker.image("ab", append=["--no-such-option"])})
    with pytest.raises(ServerError, match="before it was ready") as caught:
        ServerProcess.start(plan(), log_path=log)
    assert "does not accept its command line" in caught.value.cause
    assert docker.containers() == []


@pytest.mark.parametrize(
    "entrypoint", [["/bin/echo", "serve"], ["/usr/bin/env"]], ids=["a program", "a runner"]
)
def test_an_image_that_begins_with_something_else(
    docker: FakeDocker, log: Path, entrypoint: list[str]
) -> None:
    docker.offer(**{"sim:1": docker.image("ab", entrypoint=entrypoint)})
    server = ServerProcess.start(plan(), log_path=log)
    assert http.call("GET", f"{server.url}/health", timeout_s=10)[0] == 200
    server.stop()


def test_an_image_without_the_interpreter(docker: FakeDocker, log: Path) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    wanted = plan()
    words = tuple("python9" if word == "python3" else word for word in wanted.argv)
    with pytest.raises(ServerError, match="exit status 127") as caught:
        ServerProcess.start(replace(wanted, argv=words), log_path=log)
    assert "the image lacks the program" in caught.value.cause
    assert "python= of llm_server" in caught.value.remedy


def test_a_container_that_cannot_be_ended_is_told(
    docker: FakeDocker, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    monkeypatch.setattr(leftovers, "END_S", 0.6)
    docker.program("away", "echo 'the daemon is away' >&2; exit 1")
    server = ServerProcess.start(plan(end=("away", "rm", "box")), log_path=log)
    with pytest.raises(ServerError, match="left a container that could not be ended") as caught:
        server.stop()
    assert caught.value.cause == "the daemon is away"
    assert "away rm box" in caught.value.remedy


def test_an_end_that_hangs_is_given_up(
    docker: FakeDocker, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    monkeypatch.setattr(leftovers, "END_S", 0.3)
    docker.program("hangs", "echo still at it; exec sleep 600")
    server = ServerProcess.start(plan(end=("hangs",)), log_path=log)
    with pytest.raises(ServerError) as caught:
        server.stop()
    assert "it took too long" in caught.value.cause


def test_an_end_that_works_at_the_second_time(
    docker: FakeDocker, log: Path, tmp_path: Path
) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    text = f"test -e {tmp_path}/once && exit 0; touch {tmp_path}/once; exit 1"
    docker.program("later", text)
    server = ServerProcess.start(plan(end=("later",)), log_path=log)
    server.stop()
    assert (tmp_path / "once").exists()


def test_what_a_killed_keeper_leaves_is_ended_by_the_next_start(
    docker: FakeDocker, log: Path
) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    first = ServerProcess.start(plan(), log_path=log)
    keeper = first._keeper
    assert keeper is not None
    os.kill(keeper.pid, signal.SIGKILL)
    assert until(lambda: keeper.gone)
    (left,) = docker.containers()
    second = ServerProcess.start(plan(), log_path=log)
    assert left not in docker.containers()
    assert f"ended what an earlier launch ({first.launch_id}) left running" in log.read_text()
    first.stop()
    second.stop()
    assert docker.containers() == []


def test_a_server_is_kept_on_its_cores(docker: FakeDocker, log: Path) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    core = min(os.sched_getaffinity(0))
    server = ServerProcess.start(plan(cores=(core,)), log_path=log)
    assert psutil.Process(server.pid).cpu_affinity() == [core]
    server.stop()


def test_a_container_that_is_held_still_hears_of_its_end(docker: FakeDocker, log: Path) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    server = ServerProcess.start(plan(stop_grace_s=PATIENCE_S), log_path=log)
    freeze(server.pid)
    assert until(lambda: psutil.Process(server.pid).status() == psutil.STATUS_STOPPED)
    began = clock.Stopwatch()
    server.stop()
    assert began.elapsed < PATIENCE_S
    assert docker.containers() == []


def test_cores_are_set_by_the_tool_where_the_processes_are_not_ours(
    docker: FakeDocker, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    asked: list[tuple[str, tuple[int, ...]]] = []
    monkeypatch.setattr("pytest_llmperf.launch.container_tool.pid_of", lambda *_: None)
    monkeypatch.setattr(
        "pytest_llmperf.launch.container_tool.pin",
        lambda container, cores: asked.append((container.name, cores)),
    )
    wanted = plan(cores=(0,))
    server = ServerProcess.start(wanted, log_path=log)
    assert server.pid == 0
    server.stop()
    assert wanted.container is not None
    assert asked == [(wanted.container.name, (0,))]
    assert docker.containers() == []
