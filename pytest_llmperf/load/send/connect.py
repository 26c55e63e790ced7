"""Where requests go, and how a connection to it is opened."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from .wire import Connection, Pulse

if TYPE_CHECKING:
    import ssl


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where requests go: the address to connect to and the path that the API lives under."""

    host: str
    port: int
    tls: bool
    base_path: str

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_origin(url: str) -> Origin:
    """The origin of ``url`` (http or https). Raises :class:`ValueError` for anything else."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{url!r} is not an http or https address")
    tls = parts.scheme == "https"
    return Origin(
        host=parts.hostname,
        port=parts.port or (443 if tls else 80),
        tls=tls,
        base_path=parts.path.rstrip("/"),
    )


async def open_connection(
    origin: Origin,
    on_end: Callable[[Connection], None],
    *,
    timeout_s: float,
    pulse: Pulse | None = None,
) -> Connection:
    """A connected :class:`Connection`. Raises :class:`OSError`, also when time runs out."""
    try:
        async with asyncio.timeout(timeout_s):
            return await _open(origin, on_end, pulse)
    except TimeoutError:
        raise OSError(f"no connection to {origin.authority} within {timeout_s:g} s") from None


async def _open(
    origin: Origin, on_end: Callable[[Connection], None], pulse: Pulse | None
) -> Connection:
    loop = asyncio.get_running_loop()
    if origin.tls:
        connection = Connection(on_end, None, pulse=pulse)
        await loop.create_connection(
            lambda: connection, origin.host, origin.port, ssl=_tls_context()
        )
        return connection
    sock = await _connect(loop, origin)
    uvloop_reads_exactly = type(loop).__module__.startswith("uvloop")
    connection = Connection(on_end, sock, copies=not uvloop_reads_exactly, pulse=pulse)
    await loop.create_connection(lambda: connection, sock=sock)
    return connection


async def _connect(loop: asyncio.AbstractEventLoop, origin: Origin) -> socket.socket:
    addresses = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
    failure = OSError(f"{origin.host} has no address")
    for family, kind, protocol, _, address in addresses:
        sock = socket.socket(family, kind, protocol)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await loop.sock_connect(sock, address)
        except OSError as error:
            sock.close()
            failure = error
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise failure


@cache
def _tls_context() -> ssl.SSLContext:
    """One for all connections: reading the system's certificates takes tens of milliseconds."""
    import ssl

    return ssl.create_default_context()
