"""The fenced code blocks of Markdown pages, and the commands in them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,}|~{3,})(?P<info>[^`]*)$")
#: Written above a block that cannot be checked, with the reason.
_EXEMPT = re.compile(r"^ *<!-- unchecked: (?P<why>.+?) -->$")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=.*", re.DOTALL)
_PROMPT = re.compile(r"^(\$|>) ")
#: Words that come before a command and are none of its own.
_BEFORE = frozenset({"env", "time", "nice", "exec", "sudo", "then", "do", "else"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Fenced:
    """A block: ``line`` is that of its fence, ``unchecked`` the reason why it is exempt."""

    page: Path
    line: int
    language: str
    text: str
    unchecked: str = ""


def fenced_blocks(page: Path) -> Iterator[Fenced]:
    """Every block of a page, in order; one that is never closed ends with the page."""
    lines = page.read_text(encoding="utf-8").splitlines()
    number = 0
    while number < len(lines):
        opening = _FENCE.match(lines[number])
        if opening is None:
            number += 1
            continue
        closing = re.compile(rf" *{opening['marks']}{opening['marks'][0]}* *")
        ends = (at for at in range(number + 1, len(lines)) if closing.fullmatch(lines[at]))
        end = next(ends, len(lines))
        exempt = _EXEMPT.match(lines[number - 1]) if number else None
        yield Fenced(
            page=page,
            line=number + 1,
            language=opening["info"].strip().partition(" ")[0],
            text="\n".join(
                line.removeprefix(opening["indent"]) for line in lines[number + 1 : end]
            ),
            unchecked=exempt["why"] if exempt else "",
        )
        number = end + 1


def commands(text: str) -> Iterator[list[str]]:
    """The simple commands of a script or a console, as words: comments, prompts and assignments
    are gone, and what is joined by operators is several. A line that is no shell is none."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(_PROMPT.sub("", line.strip()), posix=True, punctuation_chars="();&|<>")
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            continue
        yield from filter(None, map(_without_assignments, _simple(words)))


def _simple(words: list[str]) -> Iterator[list[str]]:
    command: list[str] = []
    skip = False
    for word in words:
        if skip:
            skip = False
        elif re.fullmatch(r"[<>]+&?", word):
            skip = True
        elif re.fullmatch(r"[();&|]+", word):
            yield command
            command = []
        else:
            command.append(word)
    yield command


def _without_assignments(words: list[str]) -> list[str]:
    at = 0
    while at < len(words) and (_ASSIGNMENT.fullmatch(words[at]) or words[at] in _BEFORE):
        at += 1
    return words[at:]
