"""Links of the pages lead somewhere, anchors included, on a git host as on the site."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from docs.generate.links import anchors, led_to, local_anchors, relink, slug, targets
from docs.generate.repository import hand_written, moved, place

ROOT = Path(__file__).parents[2]
#: Made when the site is built.
GENERATED = ("docs/reference/", "docs/repository/")
PAGES = [
    *sorted(ROOT.glob("*.md")),
    *hand_written(ROOT),
    *sorted((ROOT / "examples").rglob("*.md")),
]


def _named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", PAGES, ids=_named)
def test_links_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    folder = page.parent.relative_to(ROOT).as_posix()
    lost = [target for target in targets(text) if not _leads(folder, target)]
    lost += [f"#{anchor}" for anchor in local_anchors(text) if anchor not in anchors(text)]
    assert lost == [], f"{_named(page)}: links that lead nowhere"


def _leads(folder: str, target: str) -> bool:
    path = led_to(ROOT, folder, target)
    anchor = target.partition("#")[2]
    if not path:
        return (Path(folder) / target).as_posix().startswith(GENERATED)
    if not anchor or not path.endswith(".md"):
        return not anchor
    return anchor in anchors((ROOT / path).read_text(encoding="utf-8"))


def test_a_broken_link_and_a_broken_anchor_are_seen() -> None:
    assert not _leads("docs", "no-such-page.md")
    assert not _leads("docs", "gating.md#no-such-part")
    assert _leads("docs", "gating.md#how-often-it-errs")
    assert _leads("docs", "../examples/ab-flags/")


@pytest.mark.parametrize(
    ("path", "on_the_site"),
    [
        ("docs/gating.md", "gating.md"),
        ("README.md", "repository/README.md"),
        ("examples/ab-flags", "repository/examples/ab-flags/index.md"),
        ("examples/ci/github/comment.yml", "repository/examples/ci/github/comment.yml.md"),
        ("schemas/report-v1.schema.json", "reference/schema-report-v1.md"),
    ],
)
def test_places_on_the_site(path: str, on_the_site: str) -> None:
    assert place(ROOT, path) == on_the_site


def test_links_are_moved_and_code_is_left_alone() -> None:
    text = (
        "[a](docs/ab.md#creep) ![b](docs/img/report.png) [c](https://example.org) [d](#here)\n"
        "```\n[e](docs/ab.md)\n```\n[f](nowhere.md)\n"
    )
    found = relink(text, partial(moved, ROOT, ".", "repository/README.md"))
    assert found == (
        "[a](../ab.md#creep) ![b](../img/report.png) [c](https://example.org) [d](#here)\n"
        "```\n[e](docs/ab.md)\n```\n[f](nowhere.md)\n"
    )


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("How often it errs", "how-often-it-errs"),
        ("A/B: is it slower than before?", "ab-is-it-slower-than-before"),
        ("`--llmperf-require PATH|NODEID`", "--llmperf-require-pathnodeid"),
        ("[Linked](page.md) and *stressed*", "linked-and-stressed"),
    ],
)
def test_anchors_of_headings(heading: str, anchor: str) -> None:
    assert slug(heading) == anchor


def test_equal_headings_are_counted() -> None:
    assert anchors("# One\n\n## One\n\n(other)=\n## Two\n") == {"one", "one-1", "other", "two"}
