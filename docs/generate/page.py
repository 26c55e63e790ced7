"""A generated page, and the pieces of MyST Markdown that it is made of."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

#: What Markdown or HTML would read as its own where plain text is meant.
_SPECIAL = re.compile(r"([\\`*_{}\[\]<>#|~$])")
#: Words that are written so in code: options, names with underscores, calls of markers.
_NAME = re.compile(r"(--[a-z][a-z0-9-]+|\b[A-Za-z]\w*_\w+(?:\([^()`]*\)|=\S+\w)?)")
_ROLE = re.compile(r":[a-z:]+:`~?([^`]+)`")
_LITERAL = re.compile(r"``([^`]+)``")
_FENCE = re.compile(r"^`{3,}", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """One page: ``name`` below docs/ without a suffix, ``about`` what it holds in a few words."""

    name: str
    title: str
    body: str
    about: str = ""
    orphan: bool = False

    @property
    def text(self) -> str:
        front = "---\norphan: true\n---\n\n" if self.orphan else ""
        return f"{front}# {self.title}\n\n{self.body.strip()}\n"


def put(docs: Path, folder: str, pages: Iterable[Page]) -> None:
    """Write ``pages``, all below ``folder`` of ``docs``, and remove what else lies there."""
    wanted = {docs / f"{page.name}.md": page.text for page in pages}
    for old in (docs / folder).rglob("*.md"):
        if old not in wanted:
            old.unlink()
    for file, text in wanted.items():
        if not file.is_file() or file.read_text(encoding="utf-8") != text:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
    for left in sorted((docs / folder).rglob("*"), reverse=True):
        if left.is_dir() and not any(left.iterdir()):
            shutil.rmtree(left)


def escaped(text: str) -> str:
    """Plain text as Markdown shows it unchanged."""
    return _SPECIAL.sub(r"\\\1", text)


def told(text: str) -> str:
    """Plain text as Markdown, with what is a name in code set as code."""
    parts = _NAME.split(text)
    parts[::2] = map(escaped, parts[::2])
    parts[1::2] = (f"`{name}`" for name in parts[1::2])
    return "".join(parts)


def sentence(text: str) -> str:
    """A phrase as a sentence; what begins with a value that it explains keeps its first letter."""
    explains = text.split(maxsplit=1)[0].endswith(":")
    first = text[0] if explains else text[0].upper()
    return f"{first}{text[1:].rstrip('.')}."


def prose(docstring: str) -> str:
    """A docstring as Markdown: literals and roles become code; the rest of it is alike."""
    text = _ROLE.sub(lambda role: f"`{role[1].removeprefix('pytest_llmperf.')}`", docstring)
    return _LITERAL.sub(r"`\1`", text).strip()


def described(directive: str, signature: str, *paragraphs: str) -> str:
    """Something with a name of its own: a permalink, a place in the index and in the search."""
    body = "\n\n".join(part.strip() for part in paragraphs if part.strip())
    fence = _fence(body, 4)
    return f"{fence}{{{directive}}} {signature}\n{body}\n{fence}\n"


def code(text: str, language: str = "text") -> str:
    """Literal text in a fence that nothing in it closes."""
    fence = _fence(text, 3)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}\n"


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table of cells that are Markdown already."""
    lines = [list(headings), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _fence(text: str, least: int) -> str:
    longest = max((len(found[0]) for found in _FENCE.finditer(text)), default=0)
    return "`" * max(least, longest + 1)
