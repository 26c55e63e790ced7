"""Ports: claimed before a server starts, checked once it answers."""

from __future__ import annotations

import errno
import os
import random
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from pytest_llmperf.errors import ServerError
from pytest_llmperf.redact import redact_argv

from .locks import subdirectory, try_lock, unlock
from .tree import process_ids

#: Below the ranges that kernels use for outgoing connections, so nothing takes a claimed port.
_FIRST, _LAST = 20_000, 31_999
_ATTEMPTS = 500
#: Port -> (process that claimed it, descriptor of its lock). A fork must not think that it has one.
_claims: dict[int, tuple[int, int]] = {}


def claim_port(host: str, preferred: int | None = None) -> int:
    """A free port of ``host`` that no other process of ours will get until it is released.

    Raises :class:`~pytest_llmperf.errors.ServerError` naming the holder when ``preferred`` is
    taken.
    """
    if preferred is not None:
        if not _claim(host, preferred):
            raise ServerError(
                f"port {preferred} on {host} is taken",
                cause=f"it is held by {describe_holder(preferred)}",
                remedy="stop that process, or let the port be chosen freely",
            )
        return preferred
    for port in _candidates():
        if _claim(host, port):
            return port
    raise ServerError(
        f"no free port on {host} between {_FIRST} and {_LAST}",
        remedy="stop servers that are no longer needed",
    )


def release_port(port: int) -> None:
    """Give a claimed port back; does nothing when this process has not claimed it."""
    owner, fd = _claims.pop(port, (None, -1))
    if owner == os.getpid():
        unlock(fd)


def holds(port: int) -> bool:
    """Whether this process has claimed ``port``."""
    return _claims.get(port, (None, -1))[0] == os.getpid()


def _candidates() -> Iterator[int]:
    # Not the shared generator: seeding it alike in every worker must not make them collide.
    chooser = random.Random(os.urandom(16))
    yield from chooser.sample(range(_FIRST, _LAST + 1), _ATTEMPTS)


def _claim(host: str, port: int) -> bool:
    fd = try_lock(_lock_path(port))
    if fd is None:
        return False
    try:
        free = _can_bind(host, port)
        if free:
            os.ftruncate(fd, os.pwrite(fd, str(os.getpid()).encode(), 0))
    except BaseException:
        unlock(fd)
        raise
    if not free:
        unlock(fd)
        return False
    _claims[port] = (os.getpid(), fd)
    return True


def _lock_path(port: int) -> Path:
    return subdirectory("ports") / f"{port}.lock"


def _can_bind(host: str, port: int) -> bool:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as probe:
        # A port whose last connections are still winding down is free to listen on.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise ServerError(
                f"nothing can listen on port {port} of {host}",
                cause=str(error.strerror),
                remedy="choose an address of this machine and a port that this user may open",
            ) from error
    return True


# --- who listens -----------------------------------------------------------------------------


def describe_holder(port: int) -> str:
    """Who listens on ``port``, in words, as far as this system tells."""
    listeners = _listeners(port)
    if listeners is None:
        return "a process that this system does not name"
    named = sorted(pid for pid in listeners if pid is not None)
    if named:
        return " and ".join(_describe_process(pid) for pid in named)
    if listeners:
        return "another user's process"
    claimed_by = _lock_path(port).read_text()
    return f"a test run (process {claimed_by})" if claimed_by else "no process that can be seen"


def foreign_listener(port: int, keeper: int, server: int) -> str | None:
    """Who listens on ``port`` when it is surely neither ``server`` nor below it or ``keeper``;
    ``None`` otherwise."""
    import psutil

    ours = {*process_ids(keeper), *process_ids(server)}
    try:
        if any(_listens(pid, port) for pid in ours):
            return None
    except psutil.AccessDenied:
        return None  # one of ours that may not be looked into: it may well be the listener
    if not _listeners(port):
        return None
    return describe_holder(port)


def _listens(pid: int, port: int) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        # psutil before 6.0 calls it `connections`.
        read = getattr(process, "net_connections", None) or process.connections
        connections = read(kind="tcp")
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return False
    return any(_is_listener(connection, port) for connection in connections)


def _listeners(port: int) -> set[int | None] | None:
    """Pids that listen on ``port`` (``None`` for an unseen one), or ``None`` if not to be told."""
    import psutil

    try:
        connections = psutil.net_connections(kind="tcp")
    except psutil.AccessDenied:
        return None
    return {connection.pid for connection in connections if _is_listener(connection, port)}


class _Connection(Protocol):
    """What psutil tells of a socket, of one process or of all."""

    @property
    def status(self) -> str: ...
    @property
    def laddr(self) -> tuple[Any, ...]: ...


def _is_listener(connection: _Connection, port: int) -> bool:
    return connection.status == "LISTEN" and connection.laddr[1:2] == (port,)


def _describe_process(pid: int) -> str:
    import psutil

    try:
        argv = psutil.Process(pid).cmdline()
    except psutil.Error:
        return f"process {pid}"
    return f"process {pid} ({shlex.join(redact_argv(argv))[:200]})"
