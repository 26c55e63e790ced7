"""What a response adds up to: its chunks, its tokens, and whether it is a success.

Pure: events go in with their arrival times, a row and its chunks come out. However events are
grouped on their way in, the outcome is the same; of their texts nothing is kept, but for the
beginning of those that are to be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import msgspec

from pytest_llmperf.load.planned import Asked
from pytest_llmperf.records import Chunks, RequestRecord

from .columns import Columns
from .dialects import Heard, dialect
from .events import UNREADABLE, Totals, error_in, error_message
from .excerpt import Excerpt
from .thinking import Thinking

_DONE = b"[DONE]"
#: Finish reasons by which a server says that it has given up.
_GIVEN_UP = frozenset({"abort", "error"})
#: Events that a response may have for each token asked for, and beside them.
_EVENTS_PER_TOKEN, _EVENTS_BESIDE = 4, 4096


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a request is not a success: the cause's name, and what was seen."""

    failure: str
    detail: str


class RequestRow(msgspec.Struct, kw_only=True, array_like=True):
    """A :class:`~pytest_llmperf.records.RequestRecord` on its way: the same fields, but for its
    chunks, of which it knows only where in the spill file they begin, and how many there are."""

    index: int
    written_ns: int
    ended_ns: int
    status: int | None
    failure: str | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    reasoning_tokens: int | None = None
    token_source: str | None = None
    detail: str = ""
    connect_ns: int | None = None
    scheduled_ns: int | None = None
    asked_input: int | None = None
    asked_output: int | None = None
    streamed: bool = True
    session: int = 0
    turn: int = 0
    repetition: float | None = None
    text_digest: str | None = None
    chunks_at: int = 0
    chunk_count: int = 0


_SHARED_FIELDS = tuple(each.name for each in fields(RequestRecord) if each.name != "chunks")


def to_record(row: RequestRow, chunks: Chunks) -> RequestRecord:
    """The frozen record that other rooms read."""
    return RequestRecord(chunks=chunks, **{name: getattr(row, name) for name in _SHARED_FIELDS})


class Reading:
    """What has been read of one response.

    ``over`` is true once no further event matters: after the end marker, an error, an event that
    cannot be read (``unreadable`` says why), or many times the events that were asked for
    (``crowded``). With ``excerpt`` the beginning of its text is looked at.
    """

    def __init__(self, asked: Asked, *, excerpt: bool = False) -> None:
        self.asked = asked
        self.done = False
        self.crowded = False
        self._heard = Heard(
            thinking=Thinking(closing_suffices=asked.api == "chat"),
            excerpt=Excerpt() if excerpt else None,
        )
        self._dialect = dialect(asked.api, self._heard)
        self._most = _EVENTS_PER_TOKEN * asked.output_tokens + _EVENTS_BESIDE
        self._totals = Totals()

    @property
    def over(self) -> bool:
        return self.done or self.crowded or self._heard.broken

    @property
    def unreadable(self) -> str:
        return self._heard.unreadable

    @property
    def error(self) -> str | None:
        """The server's words, if it sent an error."""
        return self._heard.error

    @property
    def columns(self) -> Columns:
        return self._heard.columns

    def take(self, stamps: Sequence[int], datas: Sequence[bytes]) -> None:
        """Read events by their data, each with the time it was complete at."""
        if self.over:
            return
        room = self._most - len(self.columns)
        ended = _DONE in datas
        if ended:
            datas = datas[: datas.index(_DONE)]
        crowded = len(datas) > room
        self._dialect.stream(datas[:room] if crowded else datas)
        self.columns.stamp(stamps)
        if not self._heard.broken:
            self.crowded = crowded
            self.done = ended

    def fail(self, data: bytes) -> None:
        """Take an event that is named an error."""
        if not self.over:
            self._heard.error = error_message(data)

    def take_whole(self, at_ns: int, body: bytes) -> None:
        """Read a response that came in one piece, complete at ``at_ns``."""
        self._heard.error = error_in(body)
        if self.over:
            return
        try:
            self._dialect.whole(body)
        except UNREADABLE as error:
            self._heard.unreadable = f"{error}: {body[:80]!r}"
        self.columns.stamp((at_ns,))
        self.done = True

    def settle(self) -> None:
        """Draw the conclusions that need the whole response."""
        heard = self._heard
        try:
            self._totals = self._dialect.totals()
        except UNREADABLE as error:
            heard.unreadable = heard.unreadable or str(error)
        if heard.thinking is not None and heard.thinking.characters != 0:
            self.columns.mark_thought(heard.thinking.characters)
        self.columns.settle(self._totals.output, heard.finish_row)

    def count(self) -> tuple[int | None, str | None]:
        """Output tokens, and how they are known."""
        if self._totals.output is not None:
            return self._totals.output, "usage"
        if self._heard.ids:
            return self._heard.ids, "ids"
        return (self.columns.carrying, "chunks") if self.asked.stream else (None, None)

    def fill(self, row: RequestRow) -> None:
        """Write into ``row`` what was read."""
        row.finish_reason = self._heard.finish_reason
        row.output_tokens, row.token_source = self.count()
        row.prompt_tokens = self._totals.prompt
        row.cached_tokens = self._totals.cached
        row.reasoning_tokens = self._totals.reasoning
        if self._heard.thought and row.reasoning_tokens == 0:
            # vLLM 0.32 counts thoughts only from a mark that a prompt, as R1's does, holds already.
            row.reasoning_tokens = None
        if self._heard.excerpt is not None:
            row.repetition, row.text_digest = self._heard.excerpt.examined()

    def unfinished(self) -> Trouble | None:
        """What keeps a response from being complete, if anything."""
        reason = self._heard.finish_reason
        if reason is None:
            return Trouble("no_finish", "no finish reason was given")
        if reason in _GIVEN_UP:
            said = self._heard.finish_message or f"the server finished it with {reason!r}"
            return Trouble("aborted", said)
        if not self.done:
            return Trouble("no_done", "the stream ended without [DONE]")
        return None


def settle(row: RequestRow, reading: Reading, trouble: Trouble | None) -> Chunks:
    """Fill ``row`` from what was read and name the first thing that keeps it from being a
    success; its chunks.

    ``trouble`` is what was wrong below the events (the socket, HTTP, the framing), if anything.
    """
    reading.settle()
    reading.fill(row)
    found = _first_trouble(row, reading, trouble)
    row.failure, row.detail = (found.failure, found.detail) if found else (None, "")
    row.chunk_count = len(reading.columns)
    return reading.columns.freeze()


def _first_trouble(row: RequestRow, reading: Reading, below: Trouble | None) -> Trouble | None:
    if reading.error is not None:
        return Trouble("stream_error", reading.error)
    endless = reading.crowded or (below is not None and below.failure == "timeout")
    if endless and (row.output_tokens or 0) > reading.asked.output_tokens:
        return _too_many(row, reading.asked)
    if below is not None:
        return below
    if reading.unreadable:
        return Trouble("garbage", reading.unreadable)
    if reading.crowded:
        said = f"more than {row.chunk_count} events for {reading.asked.output_tokens} tokens"
        return Trouble("long", said)
    return reading.unfinished() or _wrong_length(row, reading.asked)


def _wrong_length(row: RequestRow, asked: Asked) -> Trouble | None:
    count, wanted = row.output_tokens, asked.output_tokens
    if count == 0:
        return Trouble("empty", "not one output token")
    if count is None:
        return Trouble("no_usage", "the server reports no token counts")
    if row.token_source == "chunks" and not (asked.exact and count == wanted):  # noqa: S105 - a name
        return Trouble(
            "no_usage", f"the server reports no token counts; {count} chunks carried text"
        )
    if count > wanted:
        return _too_many(row, asked)
    if count < wanted and asked.exact:
        return Trouble("short", f"{count} output tokens where {wanted} were asked for")
    return None


def _too_many(row: RequestRow, asked: Asked) -> Trouble:
    said = f"{row.output_tokens} output tokens where {asked.output_tokens} were asked for"
    return Trouble("long", said)
