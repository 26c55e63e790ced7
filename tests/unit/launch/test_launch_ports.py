from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import locks, ports

HOST = "127.0.0.1"


@pytest.fixture(autouse=True)
def _own_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_LLMPERF_RUNTIME_DIR", str(tmp_path))
    tmp_path.chmod(0o700)


def test_claims_differ_and_can_be_released() -> None:
    claimed = [ports.claim_port(HOST) for _ in range(10)]
    assert len(set(claimed)) == 10
    assert all(ports.holds(port) for port in claimed)
    for port in claimed:
        ports.release_port(port)
        ports.release_port(port)
    assert not any(ports.holds(port) for port in claimed)


def test_a_claimed_port_is_free_to_listen_on() -> None:
    port = ports.claim_port(HOST)
    with socket.create_server((HOST, port)):
        pass
    ports.release_port(port)


def test_another_process_does_not_get_a_claimed_port() -> None:
    port = ports.claim_port(HOST)
    code = f"from pytest_llmperf.launch.ports import claim_port; claim_port({HOST!r}, {port})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    ports.release_port(port)
    assert f"port {port} on 127.0.0.1 is taken" in done.stderr
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_port_claimed_by_a_run_is_said_to_be() -> None:
    port = ports.claim_port(HOST)
    assert ports.describe_holder(port) == f"a test run (process {os.getpid()})"
    ports.release_port(port)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_a_port_of_a_host_that_is_not_this_one_is_not_kept(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    unlocked: list[int] = []

    def unlock(fd: int) -> None:
        unlocked.append(fd)
        locks.unlock(fd)

    monkeypatch.setattr("pytest_llmperf.launch.ports.unlock", unlock)
    with pytest.raises((ServerError, socket.gaierror)):
        ports.claim_port(host)
    assert len(unlocked) == 1


def test_a_taken_port_names_its_holder() -> None:
    with socket.create_server((HOST, 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(ServerError) as caught:
            ports.claim_port(HOST, port)
    assert caught.value.summary == f"port {port} on 127.0.0.1 is taken"
    assert f"it is held by process {os.getpid()} (" in caught.value.cause
    assert not ports.holds(port)


def test_a_server_on_all_addresses_takes_the_port_too() -> None:
    with socket.create_server(("", 0)) as holder, pytest.raises(ServerError, match="is taken"):
        ports.claim_port(HOST, holder.getsockname()[1])


def test_a_port_with_dying_connections_is_free() -> None:
    with socket.create_server((HOST, 0)) as holder:
        port = holder.getsockname()[1]
        with socket.create_connection((HOST, port)):
            accepted, _ = holder.accept()
            accepted.close()  # the side that closes first keeps the port in TIME_WAIT
    assert ports.claim_port(HOST, port) == port
    ports.release_port(port)


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(ServerError, match=r"nothing can listen on port \d+ of 192\.0\.2\.1"):
        ports.claim_port("192.0.2.1")


def test_a_fork_has_claimed_nothing() -> None:
    port = ports.claim_port(HOST)
    child = os.fork()
    if child == 0:
        wrong = ports.holds(port)
        ports.release_port(port)
        os._exit(int(wrong))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    code = f"from pytest_llmperf.launch.ports import claim_port; claim_port({HOST!r}, {port})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode != 0  # still ours: the fork's release released nothing
    ports.release_port(port)
