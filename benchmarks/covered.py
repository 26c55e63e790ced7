"""Which share of lines and of branches the tests reach, room by room; see ``make coverage``.

    python -m benchmarks.covered .build/coverage/coverage.json [--missing ROOM]

Ends with status 1 where the package as a whole is below the bar by either.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: What is asked of the package, by line and by branch.
BAR = 0.95
PACKAGE = "pytest_llmperf/"


@dataclass(slots=True)
class Covered:
    """Lines and branches there are, and those that were reached."""

    lines: int = 0
    lines_of: int = 0
    branches: int = 0
    branches_of: int = 0

    def add(self, summary: Mapping[str, int]) -> None:
        self.lines += summary["covered_lines"]
        self.lines_of += summary["num_statements"]
        self.branches += summary["covered_branches"]
        self.branches_of += summary["num_branches"]

    @property
    def by_line(self) -> float:
        return self.lines / self.lines_of if self.lines_of else 1.0

    @property
    def by_branch(self) -> float:
        return self.branches / self.branches_of if self.branches_of else 1.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("json", type=Path)
    parser.add_argument("--missing", metavar="ROOM", help="what is not reached of a room")
    chosen = parser.parse_args()
    files = json.loads(chosen.json.read_text())["files"]
    found = rooms(files)
    width = max(map(len, found))
    for room, covered in found.items():
        print(
            f"{room:{width}}  lines {covered.by_line:6.1%} of {covered.lines_of:6,}"
            f"  branches {covered.by_branch:6.1%} of {covered.branches_of:5,}"
        )
    if chosen.missing:
        print("\n".join(missing(files, chosen.missing)))
    whole = found["all"]
    return 0 if min(whole.by_line, whole.by_branch) >= BAR else 1


def rooms(files: Mapping[str, Any]) -> dict[str, Covered]:
    """By the first directory within the package, "." for what lies in none; "all" comes last."""
    found: dict[str, Covered] = {}
    whole = Covered()
    for name, file in sorted(files.items()):
        found.setdefault(room_of(name), Covered()).add(file["summary"])
        whole.add(file["summary"])
    return {**found, "all": whole}


def room_of(name: str) -> str:
    room, within, _ = name.rpartition(PACKAGE)[2].partition("/")
    return room if within else "."


def missing(files: Mapping[str, Any], room: str) -> Iterator[str]:
    for name, file in sorted(files.items()):
        if room_of(name) == room:
            lines = ", ".join(map(str, file["missing_lines"]))
            jumps = ", ".join(f"{begin}->{end}" for begin, end in file["missing_branches"])
            if lines or jumps:
                yield f"{name}: lines {lines or '-'}; branches {jumps or '-'}"


if __name__ == "__main__":
    sys.exit(main())
