"""One worker of the load client on a node of a cluster: the very process that asks elsewhere, and
what hands on what is said to it and by it. Runs in an actor of Ray, and ends with it: the child's
pipe then closes.
"""

from __future__ import annotations

import os
import select
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.errors import ClientError
from pytest_llmperf.load.child import Child

_FRAME_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a worker's process is. ``network`` is equal where a loopback address means the same, ""
    where that cannot be told."""

    pid: int
    network: str


class Relay:
    """The methods that are called from afar, also while :meth:`hear` waits for news."""

    def __init__(self) -> None:
        self._child = Child(None)
        self._files = tempfile.TemporaryDirectory(prefix="llmperf-")

    def place(self) -> Place:
        """Where this is."""
        return Place(pid=self._child.pid, network=network())

    def now(self) -> int:
        """The clock that the child reads as well."""
        return clock.now_ns()

    def tell(self, frame: bytes) -> None:
        """Hand on a command."""
        self._child.line.pass_on(frame)

    def hear(self, wait_s: float) -> tuple[bytes | None, str]:
        """The next reply, ``None`` if there is none within ``wait_s``; and why there will be none
        any more."""
        try:
            if not select.select([self._child.fileno()], [], [], wait_s)[0]:
                return None, ""
            return self._child.line.frame(_FRAME_S), ""
        except ClientError as error:
            return None, str(error)

    def read(self, at: int, size: int) -> bytes:
        """A piece of the spill file."""
        return os.pread(self._child.spill.fileno(), size, at)

    def keep(self, name: str, at: int, data: bytes) -> str:
        """Write a piece of a file that the child is to read; its path here."""
        path = Path(self._files.name, name)
        with path.open("r+b" if at else "wb") as file:
            file.seek(at)
            file.write(data)
        return str(path)

    def reach(self, host: str, port: int, timeout_s: float) -> str:
        """Why the server cannot be reached from here, "" where it can."""
        try:
            socket.create_connection((host, port), timeout_s).close()
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def close(self) -> None:
        """End the child."""
        self._child.close()
        self._files.cleanup()


def network() -> str:
    """Names this boot of this machine, and the network namespace of this process."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {Path('/proc/self/ns/net').readlink()}"
    except OSError:
        return ""
