"""What the commands print, as a terminal may show it.

Names of tests, models and branches come out of files that others wrote. Nothing of them may move
a terminal's cursor, change its title, or turn the direction of a text around.
"""

from __future__ import annotations

from typing import Any, TextIO

from pytest_llmperf.inert import MARK, disobeyed, is_unseen


class Plain:
    """A text stream that lets through what prints, and line breaks; all else of it is the
    stream's own."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(plain(text, self._stream.encoding or "utf-8"))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def plain(text: str, encoding: str = "utf-8") -> str:
    """``text`` with a mark in place of each character that does not print, or that ``encoding``
    does not have, and nothing that a CI service would take for a command."""
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_shown, text))
    return disobeyed(text.encode(encoding, "replace").decode(encoding))


def _shown(character: str) -> str:
    return MARK if character not in "\n\t" and is_unseen(character) else character
