"""Text of others, safe to show: a terminal, or who reads its lines, obeys nothing in it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

#: Characters of one text: a server's log may be one line of a megabyte.
_LONGEST = 20_000
#: Categories of characters that a terminal, or who reads its lines, would obey.
_OBEYED = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
#: Of those that print nowhere: for use of one's own, or not assigned.
_WITHOUT_SHAPE = frozenset({"Co", "Cn"})
#: Stands for what is not shown.
MARK = "\ufffd"
#: ANSI sequences, as terminals take them.
_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
#: What a CI service takes for a command in a line of a log: GitHub's runner "::name" after the
#: blanks that it begins with, and "##[name]" anywhere [actions/runner,
#: src/Runner.Common/ActionCommand.cs, 2026]; Azure's agent and TeamCity have words before "[".
_COMMAND = re.compile(r"^([^\S\n]*:)(?=:)|##(?=[\w.]*\[)", re.MULTILINE)


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
    return disobeyed(text if text.isprintable() else "".join(map(_harmless, text)))


def disobeyed(text: str) -> str:
    """``text`` with a blank within whatever a CI service would take for a command."""
    return _COMMAND.sub(lambda found: f"{found[1]} " if found[1] else "# #", text)


def _shortened(text: str) -> str:
    return f"{text[:_LONGEST]} ... ({len(text) - _LONGEST:,} more characters)"


def _harmless(letter: str) -> str:
    if letter == "\n" or unicodedata.category(letter) not in _OBEYED:
        return letter
    return " " if letter == "\t" else letter.encode("unicode_escape").decode()


def cleaned(text: str) -> str:
    """``text`` on one line, with ANSI sequences removed, and blanks and marks in place of what does
    not print: controls, surrogates, and what turns the direction of a text around."""
    plain = _ANSI.sub("", text)
    if plain.isascii() and plain.isprintable():
        return plain
    return "".join(_printing(letter) for letter in plain)


def _printing(letter: str) -> str:
    if letter in "\t\n\r\v\f" or unicodedata.category(letter) in ("Zl", "Zp", "Zs"):
        return " "
    return MARK if is_unseen(letter) else letter


def is_unseen(letter: str) -> bool:
    """Whether a character does not print, whatever obeys it."""
    return unicodedata.category(letter) in _OBEYED | _WITHOUT_SHAPE
