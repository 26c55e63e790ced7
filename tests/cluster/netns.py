"""Machines that are none: Ray nodes in network namespaces of this one, each behind a link.

A bridge of this machine stands for the switch. ``Network.machine`` plugs in one more namespace by a
pair of virtual cards, whose end at the bridge can be set down: then nothing crosses, as when a
cable is drawn. This machine is on the bridge too, so a driver here reaches them all.

Ray (2.60, ``_private/services.py``: ``get_node_to_connect_for_driver``) looks for nodes among all
processes that it sees, and has a driver join the head's where that is one of them. So whatever has
to run where its driver is, such as the first rank of SGLang, goes to the head's machine here.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from pytest_llmperf import clock

START_S = 120.0
TRIES = 6
OBJECT_STORE_BYTES = 100_000_000
#: Found soon: a node is given up after eight looks, one a second, that were not answered in time.
FAST_HEALTH = {
    # A busy machine is no dead one.
    "RAY_raylet_start_wait_time_s": "300",
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_failure_threshold": "8",
}


@cache
def forbidden() -> str:
    """Why no network namespace with a link can be made here; "" where one can."""
    ip = shutil.which("ip")
    if ip is None:
        return "there is no program `ip` (iproute2)"
    name = f"llp{secrets.token_hex(2)}"
    steps = (
        ("netns", "add", name),
        ("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b"),
        ("link", "set", f"{name}b", "netns", name),
        ("link", "add", f"{name}c", "type", "bridge"),
    )
    try:
        for step in steps:
            done = subprocess.run([ip, *step], capture_output=True, text=True, check=False)
            if done.returncode:
                return f"`ip {' '.join(step)}`: {done.stderr.strip()}"
    finally:
        for undo in (
            ("link", "del", f"{name}a"),
            ("link", "del", f"{name}c"),
            ("netns", "del", name),
        ):
            subprocess.run([ip, *undo], capture_output=True, check=False)
    return ""


def _program() -> str:
    found = shutil.which("ip")
    assert found is not None
    return found


def _ip(*words: str) -> None:
    subprocess.run([_program(), *words], check=True, capture_output=True, timeout=20)


def _remove(*words: str) -> None:
    with contextlib.suppress(subprocess.CalledProcessError):
        _ip(*words)


@dataclass(slots=True)
class Machine:
    """One namespace and its card. ``name`` is "" for this machine itself, which has no link."""

    name: str
    address: str
    link: str = ""
    card: str = "eth0"
    nodes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def command(self, argv: Sequence[str]) -> list[str]:
        """``argv``, run on it."""
        return ["ip", "netns", "exec", self.name, *argv] if self.name else list(argv)

    def pids(self) -> list[int]:
        """Of all that runs on it."""
        if not self.name:
            return [pid for node in self.nodes for pid in _tree(node.pid)]
        told = subprocess.run(
            [_program(), "netns", "pids", self.name], check=False, capture_output=True, text=True
        )
        return [int(word) for word in told.stdout.split()]

    def die(self) -> None:
        """As when its power fails: everything on it is gone at once, without a word."""
        for pid in self.pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for node in self.nodes:
            node.wait(10)

    def unplug(self) -> None:
        _ip("link", "set", self.link, "down")

    def plug_in(self) -> None:
        _ip("link", "set", self.link, "up")

    @contextlib.contextmanager
    def unplugged(self) -> Iterator[None]:
        self.unplug()
        try:
            yield
        finally:
            self.plug_in()


class Network:
    """A bridge and the machines on it; all is gone after the context, processes included."""

    def __init__(self) -> None:
        self._id = f"llp{secrets.token_hex(3)}"
        self._net = f"10.{100 + secrets.randbelow(150)}.{secrets.randbelow(250)}"
        self.here = Machine("", f"{self._net}.1", card=self._id)
        self.machines: list[Machine] = []

    def __enter__(self) -> Self:
        _ip("link", "add", self._id, "type", "bridge")
        try:
            _ip("address", "add", f"{self.here.address}/24", "dev", self._id)
            _ip("link", "set", self._id, "up")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with contextlib.ExitStack() as last_first:
            last_first.callback(_remove, "link", "del", self._id)
            for machine in self.machines:
                # The pair of cards goes with the namespace that holds one of them.
                last_first.callback(_remove, "netns", "del", machine.name)
            for machine in (*self.machines, self.here):
                last_first.callback(machine.die)

    def machine(self) -> Machine:
        """One more machine."""
        number = len(self.machines) + 2
        name, link = f"{self._id}-{number}", f"{self._id}v{number}"
        made = Machine(name, f"{self._net}.{number}", link)
        _ip("netns", "add", name)
        self.machines.append(made)
        _ip("link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", link, "master", self._id, "up")
        _ip("-n", name, "address", "add", f"{made.address}/24", "dev", "eth0")
        _ip("-n", name, "link", "set", "eth0", "up")
        _ip("-n", name, "link", "set", "lo", "up")
        _ip("-n", name, "route", "add", "default", "via", self.here.address)
        return made


@dataclass(slots=True)
class RayNodes:
    """A Ray cluster on machines of a network, each of its nodes as ``ray start`` starts it.

    ``scratch`` is a short path: sockets lie below it.
    """

    scratch: Path
    address: str = ""

    def head(self, machine: Machine) -> None:
        self.address = f"{machine.address}:6379"
        words = ["--head", "--port=6379", "--include-dashboard=false", "--no-monitor"]
        self._start(machine, words, cpus=0)

    def worker(self, machine: Machine, *, cpus: int = 1) -> None:
        self._start(machine, [f"--address={self.address}"], cpus)

    def _start(self, machine: Machine, words: Sequence[str], cpus: int) -> None:
        """Start a node. One gives up where a busy machine has not started its helpers within 15 s,
        so there is more than one try."""
        argv = [
            str(Path(sys.executable).with_name("ray")),
            "start",
            "--block",
            "--disable-usage-stats",
            f"--node-ip-address={machine.address}",
            f"--num-cpus={cpus}",
            "--num-gpus=0",
            f"--object-store-memory={OBJECT_STORE_BYTES}",
            "--include-log-monitor=false",
            # Who shares one is taken for the same machine.
            f"--temp-dir={self.scratch / machine.address.rpartition('.')[2]}",
            *words,
        ]
        self.scratch.mkdir(parents=True, exist_ok=True)
        for attempt in range(TRIES):
            log = self.scratch / f"start-{machine.address}-{len(machine.nodes)}-{attempt}.log"
            node = self._started(machine, argv, log)
            if _is_up(log, node):
                machine.nodes.append(node)
                return
            for pid in _tree(node.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            node.wait(10)
        raise RuntimeError(f"a Ray node did not start:\n{log.read_text(errors='replace')}")

    def _started(self, machine: Machine, argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("RAY_")}
        with log.open("wb") as out:
            return subprocess.Popen(
                machine.command(argv),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**environ, **FAST_HEALTH, "GLOO_SOCKET_IFNAME": machine.card},
                start_new_session=True,
            )


def _is_up(log: Path, node: subprocess.Popen[bytes]) -> bool:
    deadline = clock.Deadline(START_S)
    while "Ray runtime started" not in log.read_text(errors="replace"):
        if node.poll() is not None or deadline.passed or _has_lost_its_raylet(node.pid):
            return False
        clock.sleep(0.2)
    return True


def _has_lost_its_raylet(pid: int) -> bool:
    import psutil

    try:
        children = psutil.Process(pid).children()
        return any(
            child.name() == "raylet" and child.status() == psutil.STATUS_ZOMBIE
            for child in children
        )
    except psutil.NoSuchProcess:
        return False


def _tree(pid: int) -> list[int]:
    import psutil

    try:
        process = psutil.Process(pid)
        return [pid, *(child.pid for child in process.children(recursive=True))]
    except psutil.NoSuchProcess:
        return []
