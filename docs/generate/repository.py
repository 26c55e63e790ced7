"""What lies beside docs/ and is linked from there, as pages of the site.

So links that leave docs/ lead to the same place on a git host and on the site, which knows no
address of the repository: README and its kind are pages, a directory of examples is a page with
its files, and any other file that is linked is one too.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from .links import between, led_to, relink, targets
from .page import Page, code

#: Pages that the site's contents name.
ALWAYS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples")
_LANGUAGES = {
    ".py": "python",
    ".md": "markdown",
    ".sh": "sh",
    ".yml": "yaml",
    ".toml": "toml",
    ".ini": "ini",
    ".json": "json",
}
_SCHEMA = ".schema.json"
_DATA = ("", ".json", ".pyc")


def repository_pages(root: Path) -> list[Page]:
    """A page for everything outside of docs/ that a page links to, directly or in steps."""
    waiting = [*ALWAYS, *_linked_from_docs(root)]
    made: dict[str, Page] = {}
    while waiting:
        path = waiting.pop()
        if path in made or _of_docs(path) or path.endswith(_SCHEMA):
            continue
        made[path] = _page(root, path)
        waiting += _linked_from(root, path)
    return list(made.values())


def place(root: Path, path: str) -> str:
    """Where on the site, below docs/, a file or directory of the checkout is found."""
    if _of_docs(path):
        return path.removeprefix("docs/")
    if path.endswith(_SCHEMA):
        return f"reference/schema-{PurePosixPath(path).name.removesuffix(_SCHEMA)}.md"
    if (root / path).is_dir():
        return f"repository/{path}/index.md"
    return f"repository/{path.removesuffix('.md')}.md"


def moved(root: Path, folder: str, page: str, target: str) -> str:
    """A link of a page, which lies in ``folder`` of the checkout and at ``page`` on the site, as
    it must be there; what leads nowhere stays as it is, for the build to complain of."""
    path = led_to(root, folder, target)
    return between(page, place(root, path)) if path else target


def _of_docs(path: str) -> bool:
    return path.startswith("docs/")


def _linked_from_docs(root: Path) -> Iterator[str]:
    for file in hand_written(root):
        folder = file.parent.relative_to(root).as_posix()
        yield from _leading(root, folder, file.read_text(encoding="utf-8"))


def hand_written(root: Path) -> list[Path]:
    """The pages of docs/ that people write."""
    docs = root / "docs"
    made = (docs / "reference", docs / "repository")
    found = sorted(docs.rglob("*.md"))
    return [file for file in found if not any(file.is_relative_to(folder) for folder in made)]


def _linked_from(root: Path, path: str) -> Iterator[str]:
    source = root / path
    if source.is_dir():
        yield from (f"{path}/{below.name}" for below in _children(source) if below.is_dir())
        path, source = f"{path}/README.md", source / "README.md"
    if source.suffix == ".md" and source.is_file():
        folder = PurePosixPath(path).parent.as_posix()
        yield from _leading(root, folder, source.read_text(encoding="utf-8"))


def _leading(root: Path, folder: str, markdown: str) -> Iterator[str]:
    found = (led_to(root, folder, target) for target in targets(markdown))
    yield from (path for path in found if path)


def _page(root: Path, path: str) -> Page:
    source, name = root / path, place(root, path)
    if source.is_dir():
        title, body = f"{path}/", "\n".join(_directory(root, path, name))
    elif source.suffix == ".md":
        title, body = _markdown(root, path, name)
    else:
        title, body = path, _literal(source)
    return Page(name=name.removesuffix(".md"), title=title, body=body, orphan=True)


def _directory(root: Path, path: str, name: str) -> Iterator[str]:
    children = _children(root / path)
    readme = f"{path}/README.md"
    if (root / readme).is_file():
        title, body = _markdown(root, readme, name)
        yield f"**{title}**\n\n{body}\n"
    folders = [each.name for each in children if each.is_dir()]
    if folders:
        yield "```{toctree}\n:maxdepth: 1\n"
        yield from (f"{folder}/index" for folder in folders)
        yield "```\n"
    for child in children:
        if child.is_file() and child.name != "README.md":
            yield f"## {child.name}\n\n{_literal(child)}"


def _children(folder: Path) -> list[Path]:
    """What belongs to the checkout, and not what tools leave there."""
    found = sorted(folder.iterdir())
    kept = [each for each in found if not each.name.startswith(("__", ".gitignore"))]
    return [each for each in kept if each.is_file() or _is_shown(each)]


def _is_shown(folder: Path) -> bool:
    """Whether there is more in it than data or what tools have left."""
    files = (each for each in folder.rglob("*") if each.is_file())
    return not folder.name.startswith(".") and any(each.suffix not in _DATA for each in files)


def _markdown(root: Path, path: str, name: str) -> tuple[str, str]:
    """The title and the rest of a page that is somewhere else in the checkout."""
    text = (root / path).read_text(encoding="utf-8")
    first, _, body = text.partition("\n")
    folder = PurePosixPath(path).parent.as_posix()
    return first.removeprefix("# "), relink(body, partial(moved, root, folder, name))


def _literal(file: Path) -> str:
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return f"{file.stat().st_size:,} bytes that are no text.\n"
    return code(text, _LANGUAGES.get(file.suffix, "text"))
