"""HTTP undone after the fact: by a parser, or at once where a server frames as nearly all do."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

import httptools

from .sse import MAX_LINE_BYTES

#: Bytes read at once: few enough that the memory for their events is used over and over.
GROUP_BYTES = 64 * 1024
#: The most that wait for the rest of an event; a larger one is parsed as it comes.
_MOST_HELD_BYTES = 256 * 1024
HEAD_END = b"\r\n\r\n"
_EVENT_END = b"\n\n\r\n"
_BEFORE, _AFTER = b"data: ", b"\n\n"
_BESIDE_BODY = len(b"\r\n") * 2
_ANY_HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


class Http:
    """One response, taken apart by httptools: its head, and the pieces of its body.

    ``pieces`` grows with every :meth:`feed`; whoever reads them clears them.
    """

    __slots__ = ("_heard", "_last", "_parser", "error", "status")

    def __init__(self) -> None:
        self.status: int | None = None
        self.error = ""
        self._last = b""
        self._heard = _Heard()
        self._parser = httptools.HttpResponseParser(self._heard)

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; false when they, or any before, are not HTTP."""
        if self.error:
            return False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self.error = str(error) or type(error).__name__
        self._last = data[-2:]
        if self.status is None and self._heard.has_head:
            self.status = self._parser.get_status_code()
        return not self.error

    @property
    def pieces(self) -> list[bytes]:
        return self._heard.pieces

    @property
    def complete(self) -> bool:
        return self._heard.complete

    @property
    def media_type(self) -> bytes:
        """In lower case, without parameters."""
        return self._heard.headers.get(b"content-type", b"").partition(b";")[0].strip().lower()

    @property
    def location(self) -> bytes:
        return self._heard.headers.get(b"location", b"")

    @property
    def between_chunks(self) -> bool:
        """Whether the bytes so far end with the head, or an HTTP chunk, of a chunked body that is
        not at its end."""
        heard = self._heard
        whole = heard.between_chunks and self._last == b"\r\n" and not heard.complete
        chunked = heard.headers.get(b"transfer-encoding", b"").strip().lower() == b"chunked"
        return whole and chunked and not self.error


class _Heard:
    """What the parser reports. It does not know the parser, so that no cycle keeps both alive."""

    __slots__ = ("between_chunks", "complete", "has_head", "headers", "on_body", "pieces")

    def __init__(self) -> None:
        self.complete = False
        self.has_head = False
        self.between_chunks = False
        self.headers: dict[bytes, bytes] = {}
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.has_head:
            self.headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self.has_head = self.between_chunks = True

    def on_chunk_header(self) -> None:
        self.between_chunks = False

    def on_chunk_complete(self) -> None:
        self.between_chunks = True

    def on_message_complete(self) -> None:
        self.complete = True


@dataclass(frozen=True, slots=True)
class Plain:
    """Events that were framed plainly: their data, and how many bytes each takes on the wire."""

    datas: Sequence[bytes]
    sizes: list[int]

    @property
    def size(self) -> int:
        return sum(self.sizes)

    def stamps(self, reads: Sequence[bytes], stamps: Sequence[int]) -> Sequence[int]:
        """For each event the stamp of the read that completed it."""
        if self.sizes == list(map(len, reads[: len(self.sizes)])):
            return stamps[: len(self.sizes)]
        reached = list(accumulate(map(len, reads)))
        # An event is complete before the line end that closes its HTTP chunk.
        return [stamps[bisect_left(reached, end - 2)] for end in accumulate(self.sizes)]


def plain_events(data: bytes) -> Plain | None:
    """The whole HTTP chunks that ``data`` begins with, if each is one event of one data line.

    ``None`` where any is something else, or where there is none. Costs a fraction of parsing.
    """
    end = data.rfind(_EVENT_END) + len(_EVENT_END)
    if end < len(_EVENT_END) or end > MAX_LINE_BYTES:
        return None
    pieces = _chunks(data if end == len(data) else data[:end])
    datas = [each[len(_BEFORE) : -len(_AFTER)] for each in pieces]
    if _BEFORE + (_AFTER + _BEFORE).join(datas) + _AFTER != b"".join(pieces):
        return None
    text = b"".join(datas)
    if b"\n" in text or b"\r" in text:
        return None
    lengths = list(map(len, pieces))
    framed = {each: each + len(b"%x" % each) + _BESIDE_BODY for each in set(lengths)}
    plain = Plain(datas, [framed[each] for each in lengths])
    return plain if plain.size == end else None  # else there is more to a chunk than its length


class _Chunks:
    """Collects HTTP chunks, and nothing else."""

    __slots__ = ("on_body", "pieces")

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.on_body = self.pieces.append


def _chunks(data: bytes) -> list[bytes]:
    """The HTTP chunks of ``data``, none where it is something else."""
    chunks = _Chunks()
    parser = httptools.HttpResponseParser(chunks)
    try:
        parser.feed_data(_ANY_HEAD)
        parser.feed_data(data)
    except httptools.HttpParserError:
        return []
    return chunks.pieces


def may_go_on(data: bytes) -> bool:
    """Whether this may be the beginning of one more plain event, and not the end of a response."""
    return len(data) < _MOST_HELD_BYTES and _EVENT_END not in data and not data.endswith(HEAD_END)


def may_be_head(data: bytes) -> bool:
    """Whether this may be the beginning of a response's head."""
    return len(data) < _MOST_HELD_BYTES
