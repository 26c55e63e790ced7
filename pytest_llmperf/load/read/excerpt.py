"""The beginning of a response's text, looked at once it is whole: does it only repeat itself?"""

from __future__ import annotations

import zlib
from hashlib import blake2b

#: Responses of a pass whose text is looked at: the first ones, by their numbers.
SAMPLED = 8
#: Characters that are kept of each.
_KEPT = 2000
#: A shorter text says nothing about repetition: what compressing adds outweighs what it saves.
_LEAST_BYTES = 64
_DIGEST_BYTES = 8
#: 2 KiB without a header, and tables to match.
_WINDOW_BITS, _MEMORY_LEVEL = -11, 5


class Excerpt:
    """Told all text in order, keeps the beginning."""

    __slots__ = ("_parts", "_room")

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._room = _KEPT

    def take(self, text: str) -> None:
        """Keep of the next piece what there is room for."""
        if self._room > 0 and text:
            self._parts.append(text[: self._room])
            self._room -= len(text)

    def examined(self) -> tuple[float | None, str | None]:
        """The share of the text that compressing it saves, and a digest of it; ``None`` for a
        text that is too short to tell, or empty."""
        data = "".join(self._parts).encode("utf-8", "replace")
        if not data:
            return None, None
        digest = blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
        if len(data) < _LEAST_BYTES:
            return None, digest
        return max(0.0, 1 - _compressed(data) / len(data)), digest


def _compressed(data: bytes) -> int:
    """Bytes that are left; a window no larger than the text makes it ten times as fast."""
    press = zlib.compressobj(1, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL)
    return len(press.compress(data)) + len(press.flush())
