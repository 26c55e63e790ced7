"""The least that a Python client can do: stamp in ``data_received``, keep the bytes, parse later.

It follows no redirects, retries nothing, and knows only answers shaped like the ground-truth
server's. What it costs is what any client on asyncio and uvloop costs at least.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import socket
import time
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import cast
from urllib.parse import urlsplit

from benchmarks.truth.log import percentile
from pytest_llmperf import clock

from .base import Load, Seen
from .child import main, run_module

_END = b"\r\n0\r\n\r\n"
_OK = b"HTTP/1.1 200"


@dataclass(slots=True)
class _Answer:
    """One request: when it was written, and what came when (ns)."""

    written_ns: int
    stamps: list[int] = field(default_factory=list)
    reads: list[bytes] = field(default_factory=list)
    whole: bool = False


class _Connection(asyncio.Protocol):
    def __init__(self, run: _Run, sock: socket.socket) -> None:
        self._run = run
        self._now = clock.now_ns
        self._socket = sock
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def ask(self) -> None:
        self._answer = _Answer(self._now())
        self._run.answers.append(self._answer)
        self._socket.send(self._run.payload)  # a transport would wait for the loop's next turn

    def data_received(self, data: bytes) -> None:
        self._answer.stamps.append(self._now())
        if self._run.keep:
            self._answer.reads.append(data)
        if data.endswith(_END) or not (self._answer.stamps[1:] or data.startswith(_OK)):
            self._answer.whole = data.endswith(_END)
            self._run.ended(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._run.lost(self)

    def close(self) -> None:
        self._transport.abort()


class _Run:
    """One load. ``keep`` is false to time the reading of bytes and nothing else."""

    def __init__(self, load: Load, *, chat: bool, keep: bool) -> None:
        self.keep = keep
        self.left = load.requests
        self.payload = _payload(load, chat=chat)
        self.answers: list[_Answer] = []
        self.due_s: list[float] = []
        self.delays_ms: list[float] = []
        self._load = load
        self._waiting = load.requests
        self._free: list[_Connection] = []
        self._closing = False

    async def run(self) -> float:
        """Carry the load out; the CPU seconds of the window."""
        self._loop = asyncio.get_running_loop()
        self._finished = self._loop.create_future()
        self._free = [await self._connect() for _ in range(self._connections())]
        everyone = list(self._free)
        gc.collect()
        gc.disable()
        began = time.process_time()
        try:
            async with asyncio.timeout(self._load.timeout_s):
                await (self._arrive() if self._load.rate else self._all_at_once())
                await self._finished
        except TimeoutError:
            pass  # what is not whole by now counts as failed
        spent = time.process_time() - began
        self._closing = True
        for connection in everyone:
            connection.close()
        await asyncio.sleep(0)
        return spent

    def _connections(self) -> int:
        return min(self._load.concurrency, self._load.requests)

    async def _connect(self) -> _Connection:
        address = urlsplit(self._load.url)
        sock = socket.create_connection((address.hostname, address.port))
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        _, protocol = await self._loop.create_connection(lambda: _Connection(self, sock), sock=sock)
        return protocol

    async def _all_at_once(self) -> None:
        self.left -= len(self._free)
        while self._free:
            self._free.pop().ask()

    async def _arrive(self) -> None:
        """Poisson arrivals, decided beforehand; each takes a free connection or waits for one."""
        chance = random.Random(self._load.seed)
        gaps = [chance.expovariate(self._load.rate or 0.0) for _ in range(self._load.requests)]
        start = self._loop.time()
        self.due_s = list(accumulate(gaps))
        for at in self.due_s:
            if (wait := start + at - self._loop.time()) > 0:
                await asyncio.sleep(wait)
            while not self._free:
                await asyncio.sleep(0)
            self.delays_ms.append((self._loop.time() - start - at) * 1e3)
            self._free.pop().ask()

    def ended(self, connection: _Connection) -> None:
        self._waiting -= 1
        if self.left and not self._load.rate:
            self._loop.call_soon(connection.ask)  # after what others were sent has been read
            self.left -= 1
        else:
            self._free.append(connection)
        if not self._waiting:
            self._finished.set_result(None)

    def lost(self, connection: _Connection) -> None:
        if not self._closing and connection not in self._free:
            self._loop.create_task(self._replace())

    async def _replace(self) -> None:
        self.ended(await self._connect())


def _payload(load: Load, *, chat: bool) -> bytes:
    text = "a" * load.input_tokens
    asked: dict[str, object] = {"messages": [{"role": "user", "content": text}]}
    if not chat:
        asked = {"prompt": text}
    options = {"include_usage": True, "continuous_usage_stats": True}
    asked |= {"model": load.model, "max_tokens": load.output_tokens, "temperature": 0.0}
    body = json.dumps(asked | {"stream": True, "stream_options": options}).encode()
    path = "/v1/chat/completions" if chat else "/v1/completions"
    head = f"POST {path} HTTP/1.1\r\nHost: truth\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@dataclass(frozen=True, slots=True)
class _Parsed:
    """(ns, tokens so far) at each rise of the server's own count, and whether all went well."""

    rises: list[tuple[int, int]]
    ok: bool


def _parse(answer: _Answer) -> _Parsed:
    rises: list[tuple[int, int]] = []
    finished = done = failed = False
    for at_ns, data in _events(answer):
        if data == b"[DONE]":
            done = True
            continue
        try:
            event = json.loads(data)
        except ValueError:
            return _Parsed(rises, ok=False)
        failed = failed or "error" in event
        tokens = (event.get("usage") or {}).get("completion_tokens", 0)
        if tokens > (rises[-1][1] if rises else 0):
            rises.append((at_ns, tokens))
        finished = finished or any(each.get("finish_reason") for each in event.get("choices", ()))
    ok = answer.whole and finished and done and not failed and bool(rises)
    return _Parsed(rises, ok)


def _events(answer: _Answer) -> Iterator[tuple[int, bytes]]:
    received = b"".join(answer.reads)
    ends = list(accumulate(map(len, answer.reads)))
    at = 0
    while (start := received.find(b"data: ", at)) >= 0:
        at = received.find(b"\n\n", start)
        if at < 0:
            return
        yield answer.stamps[bisect_right(ends, at + 1)], received[start + 6 : at]


def _seen(run: _Run, window_cpu_s: float) -> Seen:
    answers = run.answers
    parsed = [_parse(answer) for answer in answers]
    good = [(a, p.rises) for a, p in zip(answers, parsed, strict=True) if p.ok]
    span_s = (max(a.stamps[-1] for a in answers if a.stamps) - answers[0].written_ns) / 1e9
    tokens = sum(rises[-1][1] for _, rises in good)
    ttft = [(rises[0][0] - answer.written_ns) / 1e6 for answer, rises in good]
    e2e = [(rises[-1][0] - answer.written_ns) / 1e6 for answer, rises in good]
    tpot = [(r[-1][0] - r[0][0]) / 1e6 / (r[-1][1] - 1) for _, r in good if r[-1][1] > 1]
    itl = [
        ((b[0] - a[0]) / 1e6 / (b[1] - a[1]), b[1] - a[1]) for _, r in good for a, b in pairwise(r)
    ]
    return Seen(
        client="bare",
        version="1",
        succeeded=len(good),
        failed=len(answers) - len(good),
        output_tokens=tokens,
        duration_s=span_s,
        throughput=tokens / span_s,
        ttft_mean=_mean(ttft),
        ttft_p99=_p99([(value, 1) for value in ttft]),
        tpot_mean=_mean(tpot),
        itl_mean=sum(v * w for v, w in itl) / sum(w for _, w in itl) if itl else None,
        itl_p99=_p99(itl),
        e2e_mean=_mean(e2e),
        e2e_p99=_p99([(value, 1) for value in e2e]),
        request_rate=_per_s([answer.written_ns / 1e9 for answer in answers]),
        offered_rate=_per_s(run.due_s),
        send_delay_p99=_p99([(value, 1) for value in run.delays_ms]),
        window_cpu_s=window_cpu_s,
    )


def _stamped(load: Load, run: _Run, window_cpu_s: float) -> Seen:
    """For a run that kept nothing: every answer that ended is taken at its word."""
    whole = [answer for answer in run.answers if answer.whole]
    tokens = load.output_tokens * len(whole)
    span_s = (max(a.stamps[-1] for a in whole) - run.answers[0].written_ns) / 1e9
    return Seen(
        client="reader",
        version="1",
        succeeded=len(whole),
        failed=len(run.answers) - len(whole),
        output_tokens=tokens,
        duration_s=span_s,
        throughput=tokens / span_s,
        window_cpu_s=window_cpu_s,
        note=f"{sum(len(answer.stamps) for answer in whole)} reads",
    )


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _p99(values: Sequence[tuple[float, int]]) -> float | None:
    return percentile(values, 0.99) if values else None


def _per_s(times_s: Sequence[float]) -> float | None:
    return (len(times_s) - 1) / (times_s[-1] - times_s[0]) if len(times_s) > 1 else None


class Bare:
    """The bare client. ``keep=False``: stamp the reads and throw them away."""

    def __init__(self, *, chat: bool = True, keep: bool = True) -> None:
        self.name = ("bare" if chat else "bare_completions") if keep else "reader"
        self._options = [*([] if chat else ["completions"]), *([] if keep else ["discard"])]

    def run(self, load: Load) -> Seen:
        return run_module("benchmarks.clients.bare", load, *self._options)


def _carry_out(load: Load, options: list[str]) -> Seen:
    import uvloop

    keep = "discard" not in options
    run = _Run(load, chat="completions" not in options, keep=keep)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        window_cpu_s = runner.run(run.run())
    return _seen(run, window_cpu_s) if keep else _stamped(load, run, window_cpu_s)


if __name__ == "__main__":
    main(_carry_out)
