"""A server that goes wrong on purpose: ``bad_server.py PORT trick``; the simulator's code beneath.

``reset-*`` resets the connection of each generation request past the first five at that stage.
``grow`` takes memory at such a request until something stops it. ``child`` has its work done by a
child process, and goes on without it when that dies.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import traceback
from functools import partial

from pytest_llmperf.testing import Script
from pytest_llmperf.testing.http import Connection, Request
from pytest_llmperf.testing.serving import serve
from pytest_llmperf.testing.state import State

SPARED = 5
SAID = {
    "reset-at-once": b"",
    "reset-in-status": b"HTTP/1.1 20",
    "reset-in-head": b"HTTP/1.1 200 OK\r\ncontent-type: text/event-st",
    "reset-after-head": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "reset-in-chunk": b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\ndata: {",
}
STEP_BYTES = 16 * 2**20


class Tricky(State):
    """``trick`` befalls generation requests from the sixth on."""

    def __init__(self, trick: str) -> None:
        super().__init__(Script(model="m", ttft_ms=5, itl_ms=2))
        self.trick = trick
        self.asked = 0
        self.hoard: list[bytes] = []

    def grow(self) -> None:
        try:
            while True:
                self.hoard.append(b"x" * STEP_BYTES)
        except MemoryError:
            self.hoard.clear()
            traceback.print_exc()
            os._exit(1)


async def answer(state: State, connection: Connection, request: Request) -> None:
    assert isinstance(state, Tricky)
    if state.trick == "reset-control" and "flush" in request.path:
        connection.reset()
        return
    if request.method == "POST" and request.path.endswith("/completions"):
        state.asked += 1
        if state.asked > SPARED:
            if state.trick == "grow":
                state.grow()
            if state.trick in SAID:
                connection.write(SAID[state.trick])
                await asyncio.sleep(0.01)
                connection.reset()
                return
    await serve(state, connection, request)
    if state.trick == "reset-when-done" and state.asked > SPARED:
        await asyncio.sleep(0.01)
        connection.reset()


class Curt(Connection):
    """Resets what it has accepted, once enough was answered."""

    state: Tricky

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        if self.state.trick == "reset-connection" and self.state.asked > SPARED:
            self.reset()


async def run(port: int, trick: str) -> None:
    state = Curt.state = Tricky(trick)

    def connection() -> Curt:
        return Curt(partial(answer, state), state.connections)

    loop = asyncio.get_running_loop()
    listening = await loop.create_server(connection, "127.0.0.1", port)
    await listening.serve_forever()


def main() -> None:
    port, trick = int(sys.argv[1]), sys.argv[2]
    if trick == "child":
        command = [sys.executable, "-m", "pytest_llmperf.testing", "--port", str(port)]
        subprocess.Popen([*command, "--model", "m", "--truth-log", "child.truth"])
        while True:
            time.sleep(1)
    asyncio.run(run(port, trick))


if __name__ == "__main__":
    main()
