"""One response, decoded piece by piece as its bytes come to hand.

HTTP chunks that are one event each, which nearly every server sends, are read many at once (see
:mod:`.framing`); everything else goes through an HTTP parser and :mod:`.sse`, read by read. Which
way bytes went, and how they were grouped, never shows in the outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING

from pytest_llmperf.load.planned import Turn
from pytest_llmperf.records import NO_CHUNKS, Chunks

from .events import error_message, is_error
from .excerpt import SAMPLED
from .framing import GROUP_BYTES, HEAD_END, Http, may_be_head, may_go_on, plain_events
from .reading import Reading, RequestRow, Trouble, settle
from .sse import SseError, SseEvent, SseParser

if TYPE_CHECKING:
    from pytest_llmperf.load.send.wire import Exchange

_OK = 200
#: Of a response that is one document, and of one that is not a success at all.
_MOST_DOCUMENT_BYTES = 256 * 2**20
_MOST_MESSAGE_BYTES = 256 * 1024
_JSON, _HTML = b"application/json", b"text/html"


class Digest:
    """Takes a response's reads in their order, in any number of pieces, and gives its row.

    Held are only columns (17 bytes an event) and what has come of an unfinished event; a response
    that is one document is kept whole until its end.
    """

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._http = Http()
        self._parser = SseParser()
        self._reading = Reading(turn.asked, excerpt=turn.index < SAMPLED)
        self._framing_error = ""
        self._held: list[bytes] = []
        self._held_at: list[int] = []
        self._document = bytearray()
        self._document_at = 0

    @property
    def complete(self) -> bool:
        """Whether the end of the HTTP response has come."""
        return self._http.complete

    @property
    def garbage(self) -> bool:
        """Whether something has come that is not HTTP."""
        return bool(self._http.error)

    def take(self, reads: Sequence[bytes], stamps: Sequence[int]) -> None:
        """Decode the next reads, each with its time of arrival."""
        for begin, end in _groups(reads):
            self._take_group([*self._held, *reads[begin:end]], [*self._held_at, *stamps[begin:end]])

    def _take_group(self, reads: list[bytes], stamps: list[int]) -> None:
        self._held, self._held_at = [], []
        if self._http.status is None:
            reads, stamps = self._take_head(reads, stamps)
        if reads and self._is_plain():
            reads, stamps = self._take_plain(reads, stamps)
        for data, at_ns in zip(reads, stamps, strict=True):
            self._take_slowly(data, at_ns)

    def _hold(self, reads: list[bytes], stamps: list[int]) -> tuple[list[bytes], list[int]]:
        self._held, self._held_at = reads, stamps
        return [], []

    def _take_head(self, reads: list[bytes], stamps: list[int]) -> tuple[list[bytes], list[int]]:
        """Feed the head alone, if it is there whole; what is behind it."""
        received = b"".join(reads)
        size = received.find(HEAD_END) + len(HEAD_END)
        if size >= len(HEAD_END):
            self._http.feed(received[:size])
            return _behind(size, reads, stamps)
        return self._hold(reads, stamps) if may_be_head(received) else (reads, stamps)

    def _take_plain(self, reads: list[bytes], stamps: list[int]) -> tuple[list[bytes], list[int]]:
        """Read plain events at once, and keep the beginning of another; what is left to read."""
        received = b"".join(reads)
        plain = plain_events(received)
        if plain is not None:
            self._parser.begun = True
            self._reading.take(plain.stamps(reads, stamps), plain.datas)
            size = plain.size
            if size == len(received):
                return [], []
            reads, stamps = _behind(size, reads, stamps)
            received = received[size:]
        if may_go_on(received):
            return self._hold(reads, stamps)
        return reads, stamps

    def _take_slowly(self, data: bytes, at_ns: int) -> None:
        pieces = self._http.pieces
        pieces.clear()
        self._http.feed(data)
        if not pieces:
            return
        take = self._take_piece if self._streams() else self._keep
        for piece in pieces:
            take(piece, at_ns)

    def _take_piece(self, piece: bytes, at_ns: int) -> None:
        if self._over():
            return
        problem = ""
        try:
            events: Sequence[SseEvent] = self._parser.feed(piece)
        except SseError as error:
            events, problem = error.before, str(error)
        for failing, group in groupby(events, _is_error):
            datas = [event.data for event in group]
            if failing:
                self._reading.fail(datas[0])
            else:
                self._reading.take([at_ns] * len(datas), datas)
        if not self._reading.over:
            self._framing_error = problem

    def _keep(self, piece: bytes, at_ns: int) -> None:
        most = _MOST_DOCUMENT_BYTES if self._http.status == _OK else _MOST_MESSAGE_BYTES
        room = most - len(self._document)
        self._document += piece[:room]
        self._document_at = at_ns

    # --- what it is

    def _streams(self) -> bool:
        """Whether events are to be expected in the body."""
        http = self._http
        asked = self._turn.asked.stream
        return asked and http.status == _OK and http.media_type not in (_JSON, _HTML)

    def _is_plain(self) -> bool:
        """Whether the next bytes begin an HTTP chunk that begins an event."""
        framed = self._http.between_chunks
        return framed and self._streams() and self._parser.between_events and not self._over()

    def _over(self) -> bool:
        return bool(self._framing_error) or self._reading.over

    # --- the end

    def finish(self, exchange: Exchange) -> tuple[RequestRow, Chunks]:
        """The row and the chunks, after the last read; ``exchange`` says how it ended."""
        for data, at_ns in zip(self._held, self._held_at, strict=True):
            self._take_slowly(data, at_ns)
        self._held, self._held_at = [], []
        row = self._row(exchange)
        status = self._http.status
        if exchange.outcome == "connect":
            row.failure, row.detail = "connect", exchange.detail
        elif status not in (None, _OK):
            row.failure, row.detail = f"http_{status}", self._refusal()
        else:
            return row, settle(row, self._reading, self._trouble(exchange))
        return row, NO_CHUNKS

    def _row(self, exchange: Exchange) -> RequestRow:
        turn = self._turn
        return RequestRow(
            index=turn.index,
            written_ns=exchange.written_ns,
            ended_ns=exchange.ended_ns,
            status=self._http.status,
            connect_ns=exchange.connect_ns,
            scheduled_ns=exchange.scheduled_ns,
            asked_input=turn.asked.input_tokens,
            asked_output=turn.asked.output_tokens,
            streamed=turn.asked.stream,
            session=turn.session,
            turn=turn.turn,
        )

    def _refusal(self) -> str:
        if self._http.location:
            return f"redirected to {self._http.location.decode('latin-1')!r}, which is not followed"
        return error_message(bytes(self._document))

    def _trouble(self, exchange: Exchange) -> Trouble | None:
        """What went wrong below the events."""
        http = self._http
        if exchange.outcome == "timeout":
            return Trouble("timeout", exchange.detail)
        if exchange.outcome == "cut" and not http.complete and not self._unreadable():
            return Trouble("cut", exchange.detail)
        if http.status is not None and not self._streams():
            self._take_document()
        elif not self._over() and self._parser.pending:
            self._framing_error = "the response ended in the middle of an event"
        if self._unreadable() or exchange.outcome == "garbage":
            return Trouble("garbage", self._unreadable() or "not an HTTP response")
        return None

    def _unreadable(self) -> str:
        return self._framing_error or self._reading.unreadable or self._http.error

    def _take_document(self) -> None:
        """Read a body that is no event stream."""
        body = bytes(self._document)
        if not self._turn.asked.stream and len(body) < _MOST_DOCUMENT_BYTES:
            self._reading.take_whole(self._document_at, body)
        elif is_error(body):
            self._reading.fail(body)
        else:
            self._framing_error = f"not what was asked for: {body[:80]!r}"


def _is_error(event: SseEvent) -> bool:
    return event.event == "error"


def _behind(
    size: int, reads: Sequence[bytes], stamps: Sequence[int]
) -> tuple[list[bytes], list[int]]:
    """The reads without their first ``size`` bytes, and their stamps."""
    for index, data in enumerate(reads):
        if len(data) > size:
            return [data[size:], *reads[index + 1 :]], list(stamps[index:])
        size -= len(data)
    return [], []


def _groups(reads: Sequence[bytes]) -> Iterator[tuple[int, int]]:
    """Where to cut, so that each group has about :data:`GROUP_BYTES`."""
    if sum(map(len, reads)) <= GROUP_BYTES:
        yield 0, len(reads)
        return
    begin = size = 0
    for index, data in enumerate(reads):
        size += len(data)
        if size >= GROUP_BYTES:
            yield begin, index + 1
            begin, size = index + 1, 0
    if begin < len(reads):
        yield begin, len(reads)
