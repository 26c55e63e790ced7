"""Profiles of what failed, as the terminal and the page tell of them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .columns import PLAIN, Look, wrapped
from .words import short

Document = Mapping[str, Any]
#: Where traces of PyTorch's profiler can be looked at.
HOW_TO_OPEN = "open a trace at ui.perfetto.dev, or in Chrome at chrome://tracing"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileView:
    """One pass of one test: its files with their addresses, or why there are none."""

    test: str
    name: str
    side: str
    workload: str
    traces: Sequence[tuple[str, str]]
    reason: str


def profile_views(document: Document) -> list[ProfileView]:
    """Of every test whose gate failed, by test and side; none in reports before version 1.2."""
    return [
        ProfileView(
            test=entry["test"],
            name=short(entry["test"]),
            side=entry["side"],
            workload=entry["workload"],
            traces=[(Path(path).name, _address(path)) for path in entry["traces"]],
            reason=entry["reason"],
        )
        for entry in document.get("profiles", ())
    ]


def profile_lines(document: Document, look: Look = PLAIN) -> Iterator[str]:
    """The traces of each pass, or why it left none. A path is never broken."""
    entries = document.get("profiles", ())
    made = any(entry["traces"] for entry in entries)
    if entries:
        yield from wrapped(f"profiles ({HOW_TO_OPEN}):" if made else "profiles:", look, indent="")
    for entry in entries:
        whose = f"{short(entry['test'])}, {entry['side']}:"
        why = f" none, for {entry['reason']}" if entry["reason"] else ""
        yield from wrapped(whose + why, look)
        for path in entry["traces"]:
            yield f"    {path}"


def seen_from(document: Document, there: Path, here: Path) -> Document:
    """The report with ways to traces that begin in directory ``here``, where they began in
    ``there``."""
    if not document.get("profiles") or there.resolve() == here.resolve():
        return document
    profiles = [
        {**entry, "traces": [_way(there / path, here) for path in entry["traces"]]}
        for entry in document["profiles"]
    ]
    return {**document, "profiles": profiles}


def _address(path: str) -> str:
    """For a link to a file and nothing else: a scheme is quoted, a host becomes a directory."""
    return quote(re.sub(r"^/+", "/", path))


def _way(path: Path, here: Path) -> str:
    return Path(os.path.relpath(path.resolve(), here.resolve())).as_posix()
