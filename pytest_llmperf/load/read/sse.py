"""Server-sent events, parsed as bytes arrive: pure, incremental, no I/O.

Any split of the same bytes gives the same events. Stricter than the standard in one way: a field
that it does not define is an error here, because a measuring client must not skip what it cannot
read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"[\r\n]")
#: A line longer than this is taken for garbage rather than kept without end.
MAX_LINE_BYTES = 16 * 1024 * 1024


class SseEvent(NamedTuple):
    """One event: its data lines joined by a line feed, and its name ("" for the default)."""

    data: bytes
    event: str = ""


class SseError(ValueError):
    """These bytes are not server-sent events. ``before`` are the events that the same call
    completed before it came upon them."""

    def __init__(self, problem: str, before: Sequence[SseEvent] = ()) -> None:
        super().__init__(problem)
        self.before = before


class SseParser:
    """Feed it bytes, get the events they complete."""

    __slots__ = ("_buffer", "_data", "_event", "_searched", "_skip_lf", "begun")

    def __init__(self) -> None:
        #: Whether the stream has begun, so that a byte order mark cannot come any more.
        self.begun = False
        self._buffer = bytearray()
        self._searched = 0
        self._skip_lf = False
        self._data: list[bytes] = []
        self._event = ""

    @property
    def pending(self) -> bool:
        """Whether an event has begun that is not complete."""
        return bool(self._data or self._event or self._buffer)

    @property
    def between_events(self) -> bool:
        """Whether nothing that came so far says anything about what comes next."""
        return not (self.pending or self._skip_lf)

    def feed(self, data: bytes) -> list[SseEvent]:
        """The events that ``data`` completes. Raises :class:`SseError` on anything else."""
        if self.begun and self.between_events and (whole := _plain(data)) is not None:
            return whole
        self._buffer += data
        if not (self.begun or self._begin()):
            return []
        events: list[SseEvent] = []
        try:
            while (line := self._take_line()) is not None:
                self._accept(line, events)
        except SseError as error:
            raise SseError(str(error), events) from None
        return events

    def _begin(self) -> bool:
        """Drop a byte order mark; false while too few bytes have come to tell."""
        if len(self._buffer) < len(_BOM) and _BOM.startswith(self._buffer):
            return False
        if self._buffer.startswith(_BOM):
            del self._buffer[: len(_BOM)]
        self.begun = True
        return True

    def _take_line(self) -> bytes | None:
        buffer = self._buffer
        if self._skip_lf and buffer:
            self._skip_lf = False
            if buffer[0] == 0x0A:
                del buffer[0]
        end = _LINE_END.search(buffer, self._searched)
        at = len(buffer) if end is None else end.start()
        if at > MAX_LINE_BYTES:
            raise SseError(f"a line of more than {MAX_LINE_BYTES} bytes")
        if end is None:
            self._searched = at
            return None
        line = bytes(buffer[:at])
        self._skip_lf = buffer[at] == 0x0D
        del end  # a match holds the buffer, and a held buffer cannot shrink
        del buffer[: at + 1]
        self._searched = 0
        return line

    def _accept(self, line: bytes, events: list[SseEvent]) -> None:
        if line:
            self._accept_field(line)
        elif self._data:
            events.append(SseEvent(b"\n".join(self._data), self._event))
            self._data, self._event = [], ""
        else:
            self._event = ""

    def _accept_field(self, line: bytes) -> None:
        name, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if name == b"data":
            self._data.append(value)
        elif name == b"event":
            self._event = value.decode("utf-8", "replace")
        elif name not in (b"", b"id", b"retry"):
            raise SseError(f"not a field of server-sent events: {line[:80]!r}")


def _plain(data: bytes) -> list[SseEvent] | None:
    """The events of ``data``, if it is nothing but whole ones of one data line each."""
    if not data.startswith(b"data: ") or not data.endswith(b"\n\n") or b"\r" in data:
        return None
    lines = data[6:-2].split(b"\n\ndata: ")
    if data.count(b"\n") != 2 * len(lines) or len(data) > MAX_LINE_BYTES:
        return None
    return [SseEvent(line) for line in lines]
