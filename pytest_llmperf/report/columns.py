"""Lines and tables that fit a terminal: widths in columns, not characters, and nothing in a name
or a message that a terminal would obey."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.inert import disobeyed, inert

WIDTH = 80
_LEAST_NAME = 10
#: Longer lines of prose are hard to read, however wide the terminal.
_PROSE = 110
#: Colours as a terminal is told them.
_COLOURS = re.compile("\x1b\\[[0-9;]*m")
#: Where characters that are not one column wide wait while a table is aligned: private use.
_STAND_INS = 0xF0000
_FILLER = chr(0x10FFFD)
_TOGETHER = chr(0x10FFFC)


def plain(text: str, *_marks: str) -> str:
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How lines may look: ``width`` in columns; ``paint(text, "red", "bold")`` colours text where
    the terminal takes colours, and gives it back as it is where not."""

    width: int = WIDTH
    paint: Callable[..., str] = plain

    @property
    def prose(self) -> int:
        return min(self.width, _PROSE)


PLAIN = Look()


# --- characters ------------------------------------------------------------------------------


def cells(text: str) -> int:
    """How many columns ``text`` takes: East Asian wide characters two, combining ones none."""
    if text.isascii() and "\x1b" not in text:
        return len(text)
    return sum(map(_cells, _COLOURS.sub("", text)))


def _cells(letter: str) -> int:
    if unicodedata.category(letter) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in ("W", "F") else 1


def inert_report(document: Mapping[str, Any]) -> Any:
    """A whole report made :func:`inert`, without the curves of its runs: thousands of numbers that
    no terminal shows."""
    measurements = [
        {**entry, "runs": [{**run, "curves": None} for run in entry["runs"]]}
        for entry in document["measurements"]
    ]
    return inert({**document, "measurements": measurements})


def clip(text: str, width: int) -> str:
    """One line of ``text`` cut to ``width`` columns; parameters at its end tell tests apart, so
    they stay where there is room."""
    if cells(text) <= width:
        return text
    tail = text[text.rfind("[") :] if text.endswith("]") else ""
    tail = tail if cells(tail) <= width // 2 else ""
    return f"{start(text, width - 2 - cells(tail))}..{tail}"


def start(text: str, width: int) -> str:
    """As much of the beginning of ``text`` as ``width`` columns hold."""
    taken = 0
    for index, letter in enumerate(text):
        taken += _cells(letter)
        if taken > width:
            return text[:index]
    return text


# --- lines -----------------------------------------------------------------------------------


def wrapped(text: str, look: Look = PLAIN, indent: str = "  ") -> list[str]:
    """``text`` as a paragraph, its first line less indented than the others."""
    known: dict[str, str] = {}
    lines = textwrap.wrap(
        _stood_in(text, known),
        look.prose,
        initial_indent=indent,
        subsequent_indent=indent + "  ",
        break_on_hyphens=False,
    )
    return [disobeyed(_restored(line, known)) for line in lines]


# --- tables ----------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]], headers: Sequence[str], look: Look = PLAIN) -> list[str]:
    """An aligned table, its first column clipped to fit; in a terminal too narrow for that, a
    paragraph for each row."""
    if not rows:
        return []
    lines = _aligned(rows, headers)
    excess = max(map(cells, lines)) - look.width
    if excess > 0:
        widest = max(cells(line) for row in rows for line in row[0].splitlines())
        width = max(_LEAST_NAME, widest - excess)
        lines = _aligned([[_clipped(row[0], width), *row[1:]] for row in rows], headers)
    if max(map(cells, lines)) > look.width:
        return [line for row in rows for line in _paragraph(row, headers, look)]
    return [disobeyed(line) for line in lines]


def fits(rows: Sequence[Sequence[str]], headers: Sequence[str], look: Look) -> bool:
    """Whether a table with these rows is no wider than the terminal, nothing clipped."""
    return not rows or max(map(cells, _aligned(rows, headers))) <= look.width


def _clipped(text: str, width: int) -> str:
    """A cell whose first line, a name, is cut to ``width``, and whose others go on below."""
    name, *others = text.splitlines()
    below = (line for other in others for line in textwrap.wrap(other, width))
    return "\n".join((clip(name, width), *below))


def _paragraph(row: Sequence[str], headers: Sequence[str], look: Look) -> list[str]:
    said = [
        f"{header} {' '.join(cell.split())}".strip()
        for cell, header in zip(row[1:], headers[1:], strict=True)
        if cell not in ("", "-")
    ]
    name = ", ".join(row[0].splitlines())
    # A number and its unit stay together.
    lines = wrapped("; ".join(each.replace(" ", _TOGETHER) for each in said), look)
    return [*wrapped(name, look, indent=""), *(line.replace(_TOGETHER, " ") for line in lines)]


def _aligned(rows: Sequence[Sequence[str]], headers: Sequence[str]) -> list[str]:
    from tabulate import tabulate

    # Numbers are formatted already; tabulate must not read "1,612" or "8" anew. It pads columns
    # that have a heading, which costs a column's worth of width: the heading goes in as a row.
    align = ["left", *["right"] * (len(headers) - 2), "left"]
    known: dict[str, str] = {}
    texts = [[_stood_in(cell, known) for cell in row] for row in (headers, *rows)]
    aligned = tabulate(texts, tablefmt="plain", disable_numparse=True, colalign=align)
    head, *body = (line.rstrip() for line in aligned.splitlines())
    rule = "-" * max(map(cells, (head, *body)))
    return [_restored(line, known) for line in (head, rule, *body)]


def _stood_in(text: str, known: dict[str, str]) -> str:
    """``text`` with one character for each column: tabulate and textwrap count characters, the
    former only where wcwidth is absent. ``known`` takes what stands for what."""
    if text.isascii():
        return text
    shown: list[str] = []
    for cluster in _clusters(text):
        if cells(cluster) == len(cluster) == 1:
            shown.append(cluster)
            continue
        stand_in = known.setdefault(cluster, chr(_STAND_INS + len(known)))
        shown.append(stand_in + _FILLER * (cells(cluster) - 1))
    return "".join(shown)


def _clusters(text: str) -> list[str]:
    """Characters, each with the marks that combine with it."""
    found: list[str] = []
    for letter in text:
        if found and _cells(letter) == 0 and letter != "\x1b":
            found[-1] += letter
        else:
            found.append(letter)
    return found


def _restored(text: str, known: Mapping[str, str]) -> str:
    if not known:
        return text
    back = {ord(stand_in): cluster for cluster, stand_in in known.items()}
    return text.translate({**back, ord(_FILLER): None})
