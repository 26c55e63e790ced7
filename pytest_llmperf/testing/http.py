"""HTTP as a server speaks it: requests out of bytes, and responses as bytes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

Header = tuple[str, str]
LAST_CHUNK = b"0\r\n\r\n"
_RESET = struct.pack("ii", 1, 0)  # linger for no time: closing discards and resets


@dataclass(slots=True)
class Request:
    """One request; header names in lower case. ``keep_alive`` is what its sender wants."""

    method: str = ""
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    keep_alive: bool = True


def head(status: int, headers: Iterable[Header]) -> bytes:
    """A response's first lines, the empty one included."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def chunk(data: bytes) -> bytes:
    """``data`` as one HTTP chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


class Connection(asyncio.Protocol):
    """One connection; its requests are served one after another, in the order they came.

    ``serve`` is awaited with this connection and the request, and writes the response. A response
    that ``closing`` is true for ends with the connection.
    """

    def __init__(
        self,
        serve: Callable[[Connection, Request], Awaitable[None]],
        connections: set[Any],
        *,
        close_each: bool = False,
        drop_each: bool = False,
    ) -> None:
        import httptools

        self._serve = serve
        self._connections = connections
        self._close_each = close_each
        self._drop_each = drop_each
        self._httptools = httptools
        self._waiting: deque[Request] = deque()
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._new_request()
        self.closing = False

    # --- reading

    def _new_request(self) -> None:
        self._parser = self._httptools.HttpRequestParser(self)
        self._request = Request()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._connections.add(transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._connections.discard(self._transport)
        self._waiting.clear()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except self._httptools.HttpParserError:
            self._transport.abort()

    def on_url(self, url: bytes) -> None:
        self._request.path += url.decode("latin-1")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        self._request.body += body

    def on_message_complete(self) -> None:
        request = self._request
        request.method = self._parser.get_method().decode()
        request.path = request.path.partition("?")[0]
        request.keep_alive = self._parser.should_keep_alive()
        self._request = Request()
        self._waiting.append(request)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._serve_waiting())

    async def _serve_waiting(self) -> None:
        while self._waiting and not self._transport.is_closing():
            request = self._waiting.popleft()
            self.closing = self._close_each or not request.keep_alive
            try:
                await self._serve(self, request)
            except Exception:
                self._transport.abort()  # a mistake of ours, which must not look like a stall
                raise
            if self.closing or self._drop_each:
                self._transport.close()
        self._task = None

    # --- writing

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def room(self) -> None:
        """Wait while the other side does not read what it was sent."""
        if not self._room.is_set():
            await self._room.wait()

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    def cut(self) -> None:
        """Send what was written, and close as if all were well."""
        self._transport.close()

    def reset(self) -> None:
        """Close with a TCP reset."""
        sock: socket.socket = self._transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._transport.abort()
