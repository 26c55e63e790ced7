"""Sessions of a merged report as the page tells them, one row each."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .words import percent

Entry = Mapping[str, Any]
HEADINGS = ("Session", "Tests", "Exit status", "Made", "Machine", "Share of false alarms")


def session_rows(document: Entry) -> list[list[str]]:
    """Empty for a report of one session that was never merged."""
    merged = document.get("merged") or {"parts": []}
    return [_row(part) for part in merged["parts"]]


def _row(part: Entry) -> list[str]:
    made = datetime.fromisoformat(part["created"]).astimezone(UTC)
    status = "" if part["exit_status"] is None else str(part["exit_status"])
    suite = part["suite"]
    return [
        part["name"],
        str(part["tests"]),
        status if part["complete"] else f"{status} (incomplete)".strip(),
        f"{made:%Y-%m-%d %H:%M} UTC",
        str(part["environment"]["host"].get("hostname") or ""),
        "" if suite is None else f"{percent(suite['share'])} of {percent(suite['alpha'])}",
    ]


def notes(document: Entry) -> list[str]:
    """What to know of a merged report as a whole."""
    merged = document.get("merged")
    return list(merged["notes"]) if merged else []
