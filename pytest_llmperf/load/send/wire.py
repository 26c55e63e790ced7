"""The socket side of the load client: connections that stamp what arrives and keep it.

Between the socket and the time stamp stands as little as possible. A read appends a stamp and the
bytes; HTTP is parsed after the measured window (see :mod:`..read.digest`). All that must be known
at once is when a response has ended, so that a closed loop can send the next request.
"""

from __future__ import annotations

import asyncio
import re
import socket
import sys
from array import array
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, cast

from pytest_llmperf import clock
from pytest_llmperf.load.planned import Asked, Turn

if TYPE_CHECKING:
    from pytest_llmperf.load.read.digest import Digest

Outcome = Literal["complete", "cut", "timeout", "connect", "garbage"]

_HEAD_END = b"\r\n\r\n"
_LAST_CHUNK = b"\r\n0\r\n\r\n"
_LAST_EVENT = b"data: [DONE]\n\n" + _LAST_CHUNK
_MAX_HEAD_BYTES = 256 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*\r\n")
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked[ \t]*\r\n")
_CLOSING = re.compile(rb"\r\nconnection:[ \t]*close[ \t]*\r\n")


class Exchange:
    """One request and what came back: the bytes of each read, and when it ended (ns).

    ``scheduled_ns`` is when it was to be written, where that was fixed beforehand. ``digest``
    has taken the first reads of a long response; ``reads`` and ``stamps`` hold the others.
    """

    __slots__ = (
        "connect_ns",
        "detail",
        "digest",
        "ended_ns",
        "outcome",
        "reads",
        "scheduled_ns",
        "stamps",
        "turn",
        "written_ns",
    )

    def __init__(self, turn: Turn, scheduled_ns: int | None = None) -> None:
        self.turn = turn
        self.scheduled_ns = scheduled_ns
        self.digest: Digest | None = None
        self.written_ns = 0
        self.ended_ns = 0
        self.connect_ns: int | None = None
        self.outcome: Outcome = "cut"
        self.detail = ""
        self.reads: list[bytes] = []
        self.stamps = array("q")


def _copying(keep: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Keep a copy of the right size: the standard event loop hands out shrunken large buffers,
    and keeping many of those exhausts the memory maps of a process."""
    return lambda data: keep(bytes(memoryview(data)))


class Pulse:
    """Counts the reads of all connections that share it, to tell a burst from a lull."""

    __slots__ = ("reads",)

    def __init__(self) -> None:
        self.reads = 0


class Connection(asyncio.Protocol):
    """A kept-alive connection that carries one exchange at a time.

    ``on_end`` is called with the connection when its exchange is over, however it ended; the
    exchange stays in ``exchange`` until the next :meth:`send`. ``sock`` is the connected socket
    to write to at once, ``None`` where only the transport can write. ``connect_ns`` is how long
    opening it took, if that has delayed a request which is yet to be sent.
    """

    def __init__(
        self,
        on_end: Callable[[Connection], None],
        sock: socket.socket | None,
        *,
        copies: bool = True,
        pulse: Pulse | None = None,
    ) -> None:
        self._pulse = pulse or Pulse()
        self.exchange = _NOTHING
        self.usable = False
        self.connect_ns: int | None = None
        self.idle_ns = clock.now_ns()
        self._on_end = on_end
        self._socket = sock
        self._copies = copies
        self._transport: asyncio.Transport | None = None
        self._busy = False
        self._reset_reading()

    def _reset_reading(self) -> None:
        exchange = self.exchange
        self._now = clock.now_ns
        self._stamp = exchange.stamps.append
        keep = exchange.reads.append
        self._keep = _copying(keep) if self._copies else keep
        # Reads shorter than this are looked at: all until the head is known, and all of a body
        # that is counted; of a chunked one those that may hold a piece of its end.
        self._suspicious = sys.maxsize
        self._head_known = False
        self._chunked = False
        self._expected: int | None = None
        self._closing = False
        self._checker: _EndChecker | None = None

    # --- sending

    def send(self, exchange: Exchange) -> None:
        """Write one request. The stamp is taken right before its bytes go to the socket."""
        payload = exchange.turn.payload
        exchange.connect_ns, self.connect_ns = self.connect_ns, None
        self.exchange = exchange
        self._reset_reading()
        self._busy = True
        exchange.written_ns = clock.now_ns()
        try:
            sent = self._send_now(payload)
        except OSError as error:
            exchange.detail = f"sending the request: {error}"
            self.abort("cut")
            return
        if sent < len(payload) and self._transport is not None:
            self._transport.write(payload[sent:])

    def _send_now(self, payload: bytes) -> int:
        if self._socket is None:  # TLS: only the transport can encrypt
            return 0
        try:
            return self._socket.send(payload)
        except BlockingIOError:
            return 0

    # --- receiving

    @property
    def digestible(self) -> bool:
        """Whether the first reads of the response may be taken away while it still comes."""
        return self._busy and self._head_known and self._chunked

    def data_received(self, data: bytes) -> None:
        self._stamp(self._now())
        self._keep(data)
        self._pulse.reads += 1
        if len(data) < self._suspicious or data.endswith(_HEAD_END):
            self._look()

    def _look(self) -> None:
        """See whether the response is complete; reached at its head and at what may be its end."""
        if not self._busy:
            self.close()  # bytes that nobody asked for: this connection cannot be trusted
            return
        if not self._head_known and not self._read_head():
            return
        reads = self.exchange.reads
        if self._expected is not None:
            if sum(map(len, reads)) >= self._expected:
                self._end("complete")
        elif self._chunked:
            tail = b"".join(reads[-len(_HEAD_END) :])
            if tail.endswith(_LAST_EVENT):
                self._end("complete")
            elif tail.endswith(_HEAD_END):
                self._check_end()

    def _read_head(self) -> bool:
        received = b"".join(self.exchange.reads)
        at = received.find(_HEAD_END)
        if at < 0:
            if len(received) > _MAX_HEAD_BYTES:
                self.abort("garbage")
            return False
        self._head_known = True
        head = received[: at + 2].lower()
        self._closing = _CLOSING.search(head) is not None or head.startswith(b"http/1.0")
        self._chunked = _CHUNKED.search(head) is not None
        length = _LENGTH.search(head)
        if self._chunked:
            self._suspicious = len(_LAST_CHUNK)
        elif length:
            self._expected = at + len(_HEAD_END) + int(length[1])
        return True

    def _check_end(self) -> None:
        if self.exchange.digest is not None:
            self._check_digest(self.exchange, self.exchange.digest)
            return
        if self._checker is None:
            self._checker = _EndChecker()
        verdict = self._checker.check(self.exchange.reads)
        if verdict == "complete":
            self._end("complete")
        elif verdict == "garbage":
            self.abort("garbage")

    def _check_digest(self, exchange: Exchange, digest: Digest) -> None:
        """What was taken away cannot be looked at again; who took it knows where it ended."""
        last_ns = exchange.stamps[-1]
        digest.take(exchange.reads, exchange.stamps)
        exchange.reads.clear()
        del exchange.stamps[:]
        if digest.complete:
            self._end("complete", last_ns)
        elif digest.garbage:
            self.abort("garbage")

    # --- ending

    def _end(self, outcome: Outcome, at_ns: int | None = None) -> None:
        self._busy = False
        exchange = self.exchange
        exchange.outcome = outcome
        if outcome == "complete":
            exchange.ended_ns = exchange.stamps[-1] if at_ns is None else at_ns
        else:
            exchange.ended_ns = clock.now_ns()
        if self._closing:
            self.close()
        self._on_end(self)

    def abort(self, outcome: Outcome) -> None:
        """Give the exchange up and drop the connection."""
        self.close()
        if self._busy:
            self._end(outcome)

    def close(self) -> None:
        """Drop the connection; harmless when it is gone."""
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    @property
    def all_written(self) -> bool:
        """Whether the request has left; an answer may come before (413), and what is left of the
        request would then run into the next."""
        return self._transport is None or not self._transport.get_write_buffer_size()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self.idle_ns = clock.now_ns()
        self.usable = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.usable = False
        self._transport = None
        if not self._busy:
            return
        if exc is None and self._head_known and not self._chunked and self._expected is None:
            self._end("complete")  # the body of a response without a length ends with the stream
            return
        self.exchange.detail = str(exc) if exc else "the server closed the connection"
        self._end("cut")


_NOTHING = Exchange(Turn(index=-1, payload=b"", asked=Asked(output_tokens=0, api="chat")))


class _Listener:
    """Apart from the checker: a parser holds what it tells, and nothing collects circles in a
    window."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def on_message_complete(self) -> None:
        self.complete = True


class _EndChecker:
    """Feeds an HTTP parser what has arrived, only when the bytes look like an end."""

    __slots__ = ("_fed", "_listener", "_parser")

    def __init__(self) -> None:
        import httptools

        self._fed = 0
        self._listener = _Listener()
        self._parser = httptools.HttpResponseParser(self._listener)

    def check(self, reads: Sequence[bytes]) -> Literal["complete", "more", "garbage"]:
        import httptools

        try:
            self._parser.feed_data(b"".join(reads[self._fed :]))
        except httptools.HttpParserError:
            return "garbage"
        self._fed = len(reads)
        return "complete" if self._listener.complete else "more"
