"""Plain requests outside any window, answered one at a time."""

from __future__ import annotations

import asyncio

from pytest_llmperf import clock
from pytest_llmperf.errors import ServerError
from pytest_llmperf.load.planned import Asked, Turn
from pytest_llmperf.load.read.framing import Http
from pytest_llmperf.load.send.connect import Origin, open_connection
from pytest_llmperf.load.send.wire import Connection, Exchange
from pytest_llmperf.records import Json

from .asking import Target, post

_CONNECT_TIMEOUT_S = 60.0
_POLL_S = 0.0005
#: A close that follows an answer has been seen within a millisecond; this is for slow networks.
_NEWS_OF_CLOSING_S = 0.1


class Calls:
    """Plain requests to the server, one at a time, outside any window."""

    def __init__(self, origin: Origin, target: Target) -> None:
        self._origin = origin
        self._target = target
        self._connection: Connection | None = None

    async def post(self, path: str, content: Json, timeout_s: float) -> tuple[int, bytes]:
        """Status and body of one POST. Raises :class:`ServerError` when there is no answer.

        A connection that was closed before a byte of the answer came may have been closed before
        the request, so that is asked once more, on a new one; nothing of this is measured.
        """
        kept = self._connection
        connection = await self.begin(path, content)
        await self._answered(connection, path, timeout_s)
        if connection is kept and not connection.exchange.reads:
            connection = await self.begin(path, content)
            await self._answered(connection, path, timeout_s)
        exchange = connection.exchange
        http = Http()
        http.feed(b"".join(exchange.reads))
        if http.status is None or not http.complete:
            raise ServerError(f"no usable answer from {self._where(path)}: {exchange.detail}")
        return http.status, b"".join(http.pieces)

    async def _answered(self, connection: Connection, path: str, timeout_s: float) -> None:
        exchange = connection.exchange
        try:
            async with asyncio.timeout(timeout_s):
                while not exchange.ended_ns:
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            connection.abort("timeout")
            raise ServerError(
                f"no answer from {self._where(path)} within {timeout_s:g} s"
            ) from None

    async def outlived(self, path: str, content: Json, timeout_s: float) -> bool:
        """Whether the connection still stands some time after the answer to a POST."""
        await self.close()
        connection = await self.begin(path, content)
        deadline = clock.Deadline(timeout_s)
        while not connection.exchange.ended_ns:
            if deadline.passed:
                connection.abort("timeout")
                return True  # nothing is known to the contrary
            await asyncio.sleep(_POLL_S)
        news = clock.Deadline(_NEWS_OF_CLOSING_S)
        while connection.usable and not news.passed:
            await asyncio.sleep(_POLL_S)
        return connection.usable

    async def begin(self, path: str, content: Json) -> Connection:
        """Send one POST and leave its answer to the caller."""
        turn = Turn(
            index=0,
            payload=post(self._origin, path, content, self._target.headers),
            asked=Asked(output_tokens=1, api="chat"),
        )
        if self._connection is None or not self._connection.usable:
            try:
                self._connection = await open_connection(
                    self._origin, lambda _: None, timeout_s=_CONNECT_TIMEOUT_S
                )
            except OSError as error:
                raise ServerError(
                    f"cannot connect to {self._origin.authority}: {error}",
                    remedy="check that the server still runs and that its address is right",
                ) from None
        self._connection.send(Exchange(turn))
        return self._connection

    async def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            await asyncio.sleep(0)  # the socket is released in the loop's next turn

    def _where(self, path: str) -> str:
        return f"{self._origin.authority}{path}"
