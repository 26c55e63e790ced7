"""The reference, made of the code: what the site needs beside the pages that people write.

``write(root)`` makes ``docs/reference/`` and ``docs/repository/`` anew; neither is in git. It needs
this package and nothing of Sphinx.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from . import (
    api,
    causes,
    commands,
    declared,
    engines,
    messages,
    metrics,
    options,
    reasons,
    schemas,
    statuses,
    workloads,
)
from .page import Page, put
from .repository import repository_pages

#: The modules that each make one page of the reference, in the order of its contents.
_CHAPTERS = (
    *(options, declared, metrics, workloads, engines, statuses),
    *(reasons, messages, causes, commands, api),
)


def reference_pages() -> list[Page]:
    """Every page of the reference, its front page first."""
    chapters = [chapter.page() for chapter in _CHAPTERS]
    pages = [*chapters, *schemas.pages()]
    return [_contents(pages), *pages]


def write(root: Path) -> None:
    """Write all generated pages of the checkout at ``root``; what is unchanged stays untouched."""
    put(root / "docs", "reference", reference_pages())
    put(root / "docs", "repository", repository_pages(root))


def _contents(pages: list[Page]) -> Page:
    return Page(
        name="reference/index",
        title="Generated reference",
        body="\n".join(_listed(pages)),
    )


def _listed(pages: list[Page]) -> Iterator[str]:
    yield "All of this is made of the code when the site is built.\n"
    for page in pages:
        yield f"- [{page.title}]({page.name.removeprefix('reference/')}.md): {page.about}"
    yield "\n```{toctree}\n:hidden:\n"
    yield from (page.name.removeprefix("reference/") for page in pages)
    yield "```"
