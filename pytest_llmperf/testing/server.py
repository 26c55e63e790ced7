"""The fake on a thread of its own, and the listening that a process does too."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Self

from .http import Connection
from .script import Script, Truth
from .serving import serve
from .state import State

if TYPE_CHECKING:
    from .tls import TlsFiles


class FakeServer:
    """The fake on a thread of its own, listening on 127.0.0.1; a context manager.

    ``port`` 0 lets the system choose; with ``tls`` it speaks https. ``truth`` holds one entry for
    each generation request so far, in order of arrival; ``flushes`` counts the calls of
    ``/flush_cache`` that emptied the cache.
    """

    def __init__(
        self, script: Script | None = None, *, port: int = 0, tls: TlsFiles | None = None
    ) -> None:
        script = script or Script()
        if script.die_after is not None or script.fail_start is not None:
            raise ValueError("only a server with a process of its own can die or fail to start")
        self._state = State(script)
        self._port = port
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def port(self) -> int:
        return self._port

    @property
    def truth(self) -> list[Truth]:
        return list(self._state.truth)

    @property
    def flushes(self) -> int:
        return self._state.flushes

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.run_coroutine_threadsafe(
            listen(self._state, "127.0.0.1", self._port, self._tls), self._loop
        )
        self._server = listening.result()
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.abort()
        await asyncio.sleep(0)


async def listen(state: State, host: str, port: int, tls: TlsFiles | None = None) -> asyncio.Server:
    """Serve ``state`` from now on."""
    loop = asyncio.get_running_loop()

    def connection() -> Connection:
        return Connection(
            partial(serve, state),
            state.connections,
            close_each=state.script.close_each,
            drop_each=state.script.drop_each,
        )

    context = tls.context() if tls else None
    return await loop.create_server(connection, host, port, backlog=1024, ssl=context)
