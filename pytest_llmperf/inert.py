"""Text of others, safe to show: a terminal, or who reads its lines, obeys nothing in it."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import Any

#: Characters of one text: a server's log may be one line of a megabyte.
_LONGEST = 20_000
#: Categories of characters that a terminal, or who reads its lines, would obey.
_OBEYED = ("Cc", "Cf", "Cs", "Zl", "Zp")


def inert(value: Any) -> Any:
    """``value`` (a text, a report, or a part of one) with what a terminal would obey written out:
    escape sequences, other control characters, marks that turn the direction of writing or end a
    line. Of a text that is very long the end is left out, which is told."""
    if isinstance(value, str):
        return inert_text(value)
    if isinstance(value, Mapping):
        return {inert(name): inert(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [inert(each) for each in value]
    return value


def inert_text(text: str) -> str:
    """:func:`inert` of a text; its line feeds stay."""
    text = text if len(text) <= _LONGEST else _shortened(text)
    return text if text.isprintable() else "".join(map(_harmless, text))


def _shortened(text: str) -> str:
    return f"{text[:_LONGEST]} ... ({len(text) - _LONGEST:,} more characters)"


def _harmless(letter: str) -> str:
    if letter == "\n" or unicodedata.category(letter) not in _OBEYED:
        return letter
    return " " if letter == "\t" else letter.encode("unicode_escape").decode()
