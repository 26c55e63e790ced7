"""The table of docs/reliability.md, out of what the fault tests and the series of kills noted.

LLMPERF_FAULT_ROWS=/tmp/rows.jsonl pytest tests/faults
LLMPERF_FAULT_ROWS=/tmp/rows.jsonl python benchmarks/kills.py --kills 200
python tests/faults/table.py /tmp/rows.jsonl docs/reliability.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- faults: begin -->", "<!-- faults: end -->"
PARTS = {"server": "The server", "machine": "The machine", "sharing": "Sharing"}
HEADING = "| fault | times tried | outcome | lost |\n|---|---|---|---|"

Row = Mapping[str, Any]


def tables(rows: Iterable[Row]) -> str:
    """A table for each part, faults in the order in which they were first met; the times add up."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        known = found.setdefault((row["part"], row["fault"]), {**row, "times": 0})
        known["times"] += row["times"]
        if row["lost"] != "nothing":
            known["lost"] = row["lost"]
    lines: list[str] = []
    for part, title in PARTS.items():
        lines += [f"**{title}**", "", HEADING]
        lines += [_line(row) for (of, _), row in found.items() if of == part]
        lines.append("")
    return "\n".join(lines)


def _line(row: Row) -> str:
    return f"| {row['fault']} | {row['times']} | {row['outcome']} | {row['lost']} |"


def written_into(text: str, tables: str) -> str:
    """``text`` with ``tables`` between its two marks."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def main(rows: str, page: str) -> int:
    found = [json.loads(line) for line in Path(rows).read_text(encoding="utf-8").splitlines()]
    path = Path(page)
    path.write_text(written_into(path.read_text(encoding="utf-8"), tables(found)), encoding="utf-8")
    lost = [row["fault"] for row in found if row["lost"] != "nothing"]
    for fault in lost:
        print(f"something is lost: {fault}", file=sys.stderr)
    return 1 if lost else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
