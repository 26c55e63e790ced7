"""The kept-alive connections of one window: those that are idle, and the opening of more."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from pytest_llmperf import clock

from .connect import Origin, open_connection
from .wire import Connection, Pulse

_OPENED_AT_ONCE = 64
_CONNECT_TIMEOUT_S = 30.0
#: Servers close connections that were idle for some seconds (five, with uvicorn). A request written
#: at that moment would be lost, and lost by us, so such a connection is not used any more.
_STALE_NS = 2_000_000_000
#: After a refusal, so that a dead server is not asked as fast as the machine can.
_AFTER_REFUSAL_S = 0.05


class Pool:
    """Connections to one origin; ``on_end`` is called with one when its exchange has ended.
    ``pulse`` counts what any of them reads."""

    def __init__(
        self, origin: Origin, on_end: Callable[[Connection], None], *, timeout_s: float
    ) -> None:
        self._origin = origin
        self._on_end = on_end
        self.pulse = Pulse()
        self._timeout_s = min(timeout_s, _CONNECT_TIMEOUT_S)
        self._idle: deque[Connection] = deque()
        self._all: set[Connection] = set()
        self._opening: set[asyncio.Task[None]] = set()
        self._on_their_way = 0

    @property
    def idle(self) -> int:
        """Connections with nothing in flight; some may turn out to be closed."""
        return len(self._idle)

    @property
    def opening(self) -> int:
        """Connections on their way; one that has come or was refused is not counted when that is
        told."""
        return self._on_their_way

    async def open(self, count: int) -> None:
        """Open ``count`` before a window. Raises :class:`OSError` when one cannot be opened."""
        gate = asyncio.Semaphore(_OPENED_AT_ONCE)

        async def one() -> None:
            async with gate:
                self._idle.append(await self._open())

        tasks = [asyncio.ensure_future(one()) for _ in range(count)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()  # without effect on those that are done

    async def _open(self) -> Connection:
        connection = await open_connection(
            self._origin, self._on_end, timeout_s=self._timeout_s, pulse=self.pulse
        )
        self._all.add(connection)
        return connection

    def open_one_more(
        self, opened: Callable[[], None], refused: Callable[[str], None], *, awaited: bool
    ) -> None:
        """Open another during a window; one of the two is called when it is known how it went.
        ``awaited``: a request waits for it, whose record will say how long."""
        self._on_their_way += 1
        task = asyncio.ensure_future(self._open_later(opened, refused, awaited=awaited))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)

    async def _open_later(
        self, opened: Callable[[], None], refused: Callable[[str], None], *, awaited: bool
    ) -> None:
        began = clock.now_ns()
        try:
            connection = await self._open()
        except OSError as error:
            await asyncio.sleep(_AFTER_REFUSAL_S)
            self._on_their_way -= 1
            refused(str(error))
            return
        self._on_their_way -= 1
        connection.connect_ns = clock.now_ns() - began if awaited else None
        self._idle.append(connection)
        opened()

    def take(self) -> Connection | None:
        """An idle connection that still stands, the one used last."""
        fresh_ns = clock.now_ns() - _STALE_NS
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and connection.idle_ns > fresh_ns:
                return connection
            self._drop(connection)
        return None

    def drop_stale(self) -> None:
        """Close connections that have been idle for too long to be trusted."""
        fresh_ns = clock.now_ns() - _STALE_NS
        while self._idle and self._idle[0].idle_ns <= fresh_ns:
            self._drop(self._idle.popleft())

    def _drop(self, connection: Connection) -> None:
        connection.close()
        self._all.discard(connection)

    def give(self, connection: Connection) -> None:
        """Take back a connection whose exchange has ended."""
        if connection.usable and connection.all_written:
            connection.idle_ns = clock.now_ns()
            self._idle.append(connection)
        else:
            self._drop(connection)

    async def close(self) -> None:
        """Drop every connection."""
        for task in list(self._opening):
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        for connection in self._all:
            connection.close()
        await asyncio.sleep(0)  # sockets are released in the loop's next turn
