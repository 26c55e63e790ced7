"""Links of Markdown pages: where they are, where they lead, and where that is on the site."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator
from pathlib import Path

_FENCED = re.compile(r"(^ *(`{3,}|~{3,}).*?^ *\2`*[ \t]*$)", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"(`+)[^`].*?\1")
_LINK = re.compile(r"\]\((?P<target>[^)\s]+)(?P<title>\s+\"[^\"]*\")?\)")
_ELSEWHERE = re.compile(r"^(?:[a-z][a-z0-9+.-]*:|//|#)", re.IGNORECASE)
_HEADING = re.compile(r"^#{1,6}[ \t]+(.*?)[ \t]*#*$", re.MULTILINE)
_TARGET = re.compile(r"^\(([\w-]+)\)=$|\{#([\w-]+)\}", re.MULTILINE)
_LINKED = re.compile(r"!?\[([^\]]*)\]\([^)]*\)")


def text_parts(markdown: str) -> Iterator[tuple[str, bool]]:
    """The text in parts, each with whether it is prose; what is code is none."""
    parts = _FENCED.split(markdown)
    for index in range(0, len(parts), 3):
        yield parts[index], True
        if index + 1 < len(parts):
            yield parts[index + 1], False


def targets(markdown: str) -> Iterator[str]:
    """Where the page's relative links lead, as they are written; ``page.md#anchor`` whole."""
    for text, is_prose in text_parts(markdown):
        if is_prose:
            for link in _LINK.finditer(_CODE.sub("", text)):
                if not _ELSEWHERE.match(link["target"]):
                    yield link["target"]


def local_anchors(markdown: str) -> Iterator[str]:
    """Anchors of the page itself that its links name."""
    for text, is_prose in text_parts(markdown):
        if is_prose:
            found = _LINK.finditer(_CODE.sub("", text))
            yield from (link["target"][1:] for link in found if link["target"].startswith("#"))


def anchors(markdown: str) -> set[str]:
    """What a link may name behind ``#``: headings as git hosts make them, and targets."""
    found: set[str] = set()
    for text, is_prose in text_parts(markdown):
        if is_prose:
            found |= {name for pair in _TARGET.findall(text) for name in pair if name}
            for heading in _HEADING.findall(text):
                found.add(_free(slug(heading), found))
    return found


def slug(heading: str) -> str:
    """A heading's anchor, as git hosts and MyST make it."""
    plain = _LINKED.sub(r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")


def relink(markdown: str, moved: Callable[[str], str]) -> str:
    """The page with every relative link's target, without its anchor, given to ``moved``."""

    def replace(link: re.Match[str]) -> str:
        target, title = link["target"], link["title"] or ""
        if _ELSEWHERE.match(target):
            return link[0]
        path, mark, anchor = target.partition("#")
        return f"]({moved(path)}{mark}{anchor}{title})"

    return "".join(
        _LINK.sub(replace, text) if is_prose else text for text, is_prose in text_parts(markdown)
    )


def between(page: str, other: str) -> str:
    """The link from one place of the site to another."""
    return posixpath.relpath(other, posixpath.dirname(page) or ".")


def led_to(root: Path, folder: str, target: str) -> str:
    """Where in the checkout a link leads that is written in a page of ``folder``."""
    path = posixpath.normpath(posixpath.join(folder, target.partition("#")[0]))
    return path if (root / path).exists() else ""


def _free(name: str, taken: set[str]) -> str:
    number, wanted = 0, name
    while wanted in taken:
        number += 1
        wanted = f"{name}-{number}"
    return wanted
