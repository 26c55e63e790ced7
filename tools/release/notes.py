"""What a release says of itself, if tag, package and changelog agree.

    python -m tools.release.notes v1.2.3 --output notes.md

A tag is the version with a ``v`` before it. The changelog's first section is ``[Unreleased]`` and
has nothing in it; the one after it is ``[1.2.3] - YYYY-MM-DD``, and its text is the notes.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

ROOT = Path(__file__).parents[2]
_SECTION = re.compile(r"^## \[(?P<name>[^\]]+)\](?P<rest>.*)$", re.MULTILINE)
_DATED = re.compile(r" - (\d{4}-\d{2}-\d{2})")


class NotReady(Exception):
    """What keeps this from being released, in one sentence."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One version of a changelog: ``rest`` stands behind its name, ``text`` below it."""

    name: str
    rest: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version, the day that the changelog gives it, and its notes (Markdown)."""

    version: str
    day: date
    notes: str


def release_of(tag: str, pyproject: str, changelog: str) -> Release:
    """The release that ``tag`` is. Raises :class:`NotReady`."""
    version = str(tomllib.loads(pyproject)["project"]["version"])
    if tag != f"v{version}":
        raise NotReady(
            f"the tag is {tag} and the package v{version}: set the version in pyproject.toml, "
            "commit, and tag that commit."
        )
    unreleased, newest = _top(sections(changelog))
    if unreleased.text:
        raise NotReady(
            f"CHANGELOG.md still has entries under [Unreleased]: move them to [{version}]."
        )
    if newest.name != version:
        raise NotReady(
            f"the top entry of CHANGELOG.md is [{newest.name}], not [{version}]: write "
            f"`## [{version}] - YYYY-MM-DD` below [Unreleased]."
        )
    if not newest.text:
        raise NotReady(f"CHANGELOG.md says nothing about [{version}].")
    return Release(version=version, day=_day(newest), notes=f"{newest.text}\n")


def sections(changelog: str) -> list[Section]:
    """Every section of second order, from the top."""
    heads = list(_SECTION.finditer(changelog))
    ends = [*(head.start() for head in heads[1:]), len(changelog)]
    return [
        Section(
            name=head["name"],
            rest=head["rest"],
            text=changelog[head.end() : end].strip(),
        )
        for head, end in zip(heads, ends, strict=True)
    ]


def _top(found: list[Section]) -> tuple[Section, Section]:
    if len(found) < 2 or found[0].name != "Unreleased":
        raise NotReady(
            "CHANGELOG.md must begin with `## [Unreleased]`, and have a version below it."
        )
    return found[0], found[1]


def _day(section: Section) -> date:
    dated = _DATED.fullmatch(section.rest)
    try:
        return date.fromisoformat(dated[1] if dated else "")
    except ValueError as error:
        raise NotReady(
            f"[{section.name}] in CHANGELOG.md has no date: write "
            f"`## [{section.name}] - YYYY-MM-DD`."
        ) from error


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tag")
    parser.add_argument("--output", type=Path, help="where the notes go (default: shown)")
    asked = parser.parse_args()
    try:
        release = release_of(
            asked.tag,
            (ROOT / "pyproject.toml").read_text(encoding="utf-8"),
            (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"),
        )
    except NotReady as error:
        print(f"not ready: {error}", file=sys.stderr)
        return 1
    if asked.output:
        asked.output.write_text(release.notes, encoding="utf-8")
    else:
        print(release.notes, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
