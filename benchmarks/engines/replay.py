"""A server that answers as an engine did: the same bytes, as long after each request.

An engine's pace differs from run to run by more than what clients are to be compared in. Here every
run meets the same answers, in the order in which its requests come, so what two clients report
differently is theirs: what they are late by, and how they define what they report.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

from pytest_llmperf.records import HttpCall

from .tap import Call

#: Begins anew with the first answer.
REWIND = HttpCall(method="POST", path="/rewind")
_NOTHING = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
_DONE = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes that go out ``after_ns`` their request came."""

    after_ns: int
    data: bytes


#: What is sent for one request.
Answer = tuple[Part, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Answers to generation requests, by the order of those, and to others, by their first line."""

    generated: tuple[Answer, ...]
    others: Mapping[bytes, Answer]

    @classmethod
    def of(cls, calls: Sequence[Call], asides: Sequence[Call]) -> Script:
        """What a server answered to generation requests and to others."""
        return cls(
            generated=tuple(_answer(call) for call in calls),
            others={call.line: _answer(call) for call in asides if call.reads},
        )


def _answer(call: Call) -> Answer:
    pairs = zip(call.stamps, call.reads, strict=True)
    return tuple(Part(at_ns - call.written_ns, data) for at_ns, data in pairs)


@contextlib.contextmanager
def replaying(script: Script, port: int, core: int) -> Iterator[None]:
    """A process on ``core`` that answers at ``port`` of 127.0.0.1. Raises :class:`RuntimeError`
    when it does not start."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(script, port, core, there), daemon=True)
    process.start()
    try:
        there.close()
        if not here.poll(_START_S):
            raise RuntimeError("the replaying server did not start in time")
        try:
            here.recv()
        except EOFError:
            raise RuntimeError("the replaying server did not start; it said why above") from None
        yield
    finally:
        process.terminate()
        process.join()


def _serve(script: Script, port: int, core: int, started: Connection) -> None:
    os.sched_setaffinity(0, {core})
    asyncio.run(_serving(script, port, started))


async def _serving(script: Script, port: int, started: Connection) -> None:
    server = await asyncio.start_server(_Replay(script).attend, "127.0.0.1", port)
    started.send("listening")
    async with server:
        await server.serve_forever()


class _Replay:
    def __init__(self, script: Script) -> None:
        self._script = script
        self._next = 0

    async def attend(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer what comes over one connection until its client leaves or says it will."""
        sock: socket.socket = writer.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while not await self._exchange(reader, writer):
                pass
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request and its answer; whether the connection is to end with it."""
        head = await reader.readuntil(b"\r\n\r\n")
        begun = asyncio.get_running_loop().time()
        line, headers = _parsed(head)
        await reader.readexactly(int(headers.get(b"content-length", b"0")))
        answer = self._answer(line)
        for part in answer:
            await asyncio.sleep(begun + part.after_ns / 1e9 - asyncio.get_running_loop().time())
            writer.write(part.data)
        await writer.drain()
        _, told = _parsed(answer[0].data)
        return b"close" in (headers.get(b"connection"), told.get(b"connection"))

    def _answer(self, line: bytes) -> Sequence[Part]:
        if REWIND.path.encode() in line:
            self._next = 0
            return (Part(0, _DONE),)
        if line in self._script.others:
            return self._script.others[line]
        if b"completions" not in line or not self._script.generated:
            return (Part(0, _NOTHING),)
        self._next += 1
        return self._script.generated[(self._next - 1) % len(self._script.generated)]


def _parsed(data: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """First line, and headers by names in lower case."""
    first, *rest = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
    pairs = (line.partition(b":") for line in rest)
    return first, {name.strip().lower(): value.strip().lower() for name, _, value in pairs}
