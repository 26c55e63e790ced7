"""Generation requests answered as scripted: paced, streamed or whole, well or badly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from pytest_llmperf import clock

from .asked import Asked, Refusal, api_at, read_request
from .generation import Generation
from .http import LAST_CHUNK, Connection, Header, Request, chunk, head
from .pages import allowed, answer
from .script import Api, SentChunk
from .shapes import native_error, refusal, shape_of
from .state import State

_DRIP_BYTES = 7
#: A response without end would else fill the memory of everybody.
_ENDLESS_GAP_MS = 1.0
_STATUSES = {"http_500": 500, "http_429": 429, "http_503": 503, "redirect": 302}
_EXTRA: dict[int, list[Header]] = {
    302: [("location", "/moved")],
    429: [("retry-after", "1")],
}
_DONE = b"[DONE]"
_GARBAGE = b"{\xff\xfe not json\n\n\x00\x01"
_PAGE = b"<!DOCTYPE html>\n<html><body><h1>It works!</h1></body></html>\n"
_JSON, _EVENTS, _HTML = "application/json", "text/event-stream; charset=utf-8", "text/html"

_encode: Callable[[object], bytes] = msgspec.json.encode


async def serve(state: State, connection: Connection, request: Request) -> None:
    """Answer one request, of whatever kind."""
    path = request.path
    whole = Whole(state, connection)
    if not allowed(state.script, path, request.headers.get("authorization", "")):
        whole.send(401, {"error": "Unauthorized"})
        return
    if path == "/stop_profile" and state.script.profiler == "hangs":
        await asyncio.Event().wait()
    api = api_at(path) if request.method == "POST" else None
    if api is None:
        whole.send(*answer(state, request.method, path, bytes(request.body)))
        return
    try:
        asked = read_request(state.script, api, bytes(request.body))
    except Refusal as refused:
        _refuse(connection, whole, api, refused)
        return
    await _generate(state, connection, asked)


def _refuse(connection: Connection, whole: Whole, api: Api, refused: Refusal) -> None:
    if not refused.in_stream:
        whole.send(refused.status, refusal(api, refused.status, str(refused)))
        return
    connection.write(_stream_head(connection))
    for data in (_encode(native_error(str(refused))), _DONE):
        connection.write(_event(data))
    connection.write(LAST_CHUNK)


async def _generate(state: State, connection: Connection, asked: Asked) -> None:
    generation = state.admit(asked)
    status = _STATUSES.get(generation.fault or "")
    try:
        if status is not None:
            state.finish(generation, served=False)
            _decline(state, connection, asked.api, status)
        elif generation.fault == "wrong_type":
            state.finish(generation, served=False)
            Whole(state, connection).send_bytes(200, _HTML, _PAGE)
        elif asked.stream:
            await Streaming(state, connection, generation).run()
        else:
            await Whole(state, connection).run(generation)
    finally:
        state.finish(generation)


def _decline(state: State, connection: Connection, api: Api, status: int) -> None:
    Whole(state, connection).send(status, refusal(api, status, "scripted failure"))


class Pace:
    """When the tokens of one response are due."""

    def __init__(self, state: State, generation: Generation) -> None:
        self._state = state
        self._least_ms = _ENDLESS_GAP_MS if generation.fault == "infinite" else 0.0
        first_ms = state.script.ttft_ms * state.pace
        self.due_ns = generation.truth.received_ns + first_ms * 1e6

    def advance(self, tokens: int) -> None:
        """``tokens`` are out; the next are due a gap for each later."""
        self.due_ns += tokens * self._gap_ms() * self._state.pace * 1e6

    def _gap_ms(self) -> float:
        script = self._state.script
        gap_ms = script.itl_ms
        if script.jitter:
            gap_ms = self._state.chance.gauss(gap_ms, gap_ms * script.jitter)
        return max(self._least_ms, gap_ms)

    async def wait(self) -> None:
        """Until the next tokens are due."""
        await asyncio.sleep(max(0.0, (self.due_ns - clock.now_ns()) / 1e9))


class Whole:
    """Responses that come in one piece."""

    def __init__(self, state: State, connection: Connection) -> None:
        self._state = state
        self._connection = connection

    def send(self, status: int, content: object) -> None:
        """One response with a text or a JSON document."""
        if isinstance(content, str):
            self.send_bytes(status, "text/plain", content.encode())
        else:
            self.send_bytes(status, _JSON, _encode(content))

    def send_bytes(self, status: int, kind: str, body: bytes) -> None:
        self._connection.write(self._framed(status, kind, body))

    def _framed(self, status: int, kind: str, body: bytes) -> bytes:
        """Head and body: with its length, or in a chunk, or ended by the connection's end."""
        headers = [("content-type", kind), *_EXTRA.get(status, [])]
        closing = self._connection.closing
        if closing:
            headers.append(("connection", "close"))
        if self._state.script.content_length:
            headers.append(("content-length", str(len(body))))
        elif not closing:
            headers.append(("transfer-encoding", "chunked"))
            body = chunk(body) + LAST_CHUNK
        return head(status, headers) + body

    async def run(self, generation: Generation) -> None:
        """The response of a generation request that does not stream."""
        if generation.fault == "infinite":
            await asyncio.Event().wait()
        pace = Pace(self._state, generation)
        shape = shape_of(generation)
        texts = {"reasoning": "", "answer": ""}
        chunks: list[SentChunk] = []
        left = generation.fault_after if generation.fault == "abort" else generation.total
        await pace.wait()
        while left:
            size = min(left, generation.next_size())
            chunks.append(SentChunk(at_ns=0, tokens=size, kind=generation.kind))
            texts[chunks[-1].kind] += generation.say(size)
            left -= size
            if left:
                pace.advance(size)
                await pace.wait()
        said = texts["reasoning"], texts["answer"]
        document = shape.error() if generation.fault == "error" else shape.whole(said)
        await self._deliver(generation, _encode(document), chunks)

    async def _deliver(self, generation: Generation, body: bytes, chunks: list[SentChunk]) -> None:
        fault, connection = generation.fault, self._connection
        if fault == "garbage":
            body = _GARBAGE
        elif fault == "half_json":
            body = body[: len(body) // 2]
        raw = self._framed(200, _JSON, body)
        if fault in ("cut", "reset", "stall"):
            await _end_badly(connection, fault, raw[: len(raw) - len(body) // 2 - 1])
            return
        if fault not in ("garbage", "half_json", "error"):
            now = clock.now_ns()
            for each in chunks:
                each.at_ns = now
            generation.truth.chunks += chunks
        if fault == "drip":
            await _drip(connection, raw[:-1])
            raw = raw[-1:]
        self._state.finish(generation)
        connection.write(raw)


class Streaming:
    """One response as server-sent events."""

    def __init__(self, state: State, connection: Connection, generation: Generation) -> None:
        self._state = state
        self._connection = connection
        self._generation = generation
        self._shape = shape_of(generation)
        self._drips = generation.fault == "drip"
        #: A whole run is spared the question at every token when nothing can happen in it.
        self._can_fail = generation.fault in _IN_THE_MIDDLE

    async def run(self) -> None:
        """All of it, at its pace, or as far as the fault lets it come."""
        generation, connection = self._generation, self._connection
        self._open()
        pace = Pace(self._state, generation)
        while True:
            if self._can_fail and generation.sent >= generation.fault_after:
                await pace.wait()
                await self._fail()
                return
            if generation.finished:
                break
            await pace.wait()
            await connection.room()
            size = self._next_size()
            await self._tokens(size)
            pace.advance(size)
        for document in self._shape.closing():
            await self._event(_encode(document))
        await self._end()

    def _open(self) -> None:
        self._connection.write(_stream_head(self._connection))
        role = self._shape.role() if self._state.script.role_first else None
        if role is not None:
            self._connection.write(_event(_encode(role)))

    def _next_size(self) -> int:
        """Of the next chunk; it stops where the fault comes."""
        size = self._generation.next_size()
        if not self._can_fail:
            return size
        return min(size, self._generation.fault_after - self._generation.sent)

    async def _tokens(self, size: int) -> None:
        generation = self._generation
        kind = generation.kind
        data = _encode(self._shape.tokens(size))
        generation.truth.chunks.append(SentChunk(at_ns=clock.now_ns(), tokens=size, kind=kind))
        await self._event(data)

    async def _event(self, data: bytes) -> None:
        raw = _event(data)
        if self._drips:
            await _drip(self._connection, raw)
        else:
            self._connection.write(raw)

    async def _fail(self) -> None:
        fault = self._generation.fault
        if fault in ("cut", "reset", "stall"):
            await _end_badly(self._connection, fault, b"")
        elif fault == "garbage":
            self._connection.write(chunk(b"data: " + _GARBAGE))
            self._finish()
        elif fault == "error":
            await self._event(_encode(self._shape.error()))
            await self._end()
        elif fault == "abort":
            for document in self._shape.abort():
                await self._event(_encode(document))
            await self._end()
        else:
            await self._half_an_event()

    async def _half_an_event(self) -> None:
        generation = self._generation
        lost = _encode(self._shape.tokens(generation.total - generation.sent))
        await self._event(lost[: len(lost) // 2])
        for document in self._shape.closing():
            await self._event(_encode(document))
        await self._end()

    async def _end(self) -> None:
        if self._generation.fault != "no_done":
            await self._event(_DONE)
        self._finish()

    def _finish(self) -> None:
        self._state.finish(self._generation)
        self._connection.write(LAST_CHUNK)


_IN_THE_MIDDLE = frozenset({"cut", "reset", "stall", "garbage", "error", "abort", "half_json"})


def _stream_head(connection: Connection) -> bytes:
    headers = [("content-type", _EVENTS), ("transfer-encoding", "chunked")]
    if connection.closing:
        headers.append(("connection", "close"))
    return head(200, headers)


def _event(data: bytes) -> bytes:
    return chunk(b"data: " + data + b"\n\n")


async def _end_badly(connection: Connection, fault: str, said: bytes) -> None:
    """Say part of a response and then no more, in one of three ways."""
    connection.write(said)
    if fault == "cut":
        connection.cut()
    elif fault == "stall":
        await asyncio.Event().wait()
    else:
        await asyncio.sleep(0)
        connection.reset()


async def _drip(connection: Connection, raw: bytes) -> None:
    for start in range(0, len(raw), _DRIP_BYTES):
        connection.write(raw[start : start + _DRIP_BYTES])
        await asyncio.sleep(0)
