"""What others published, as lines beside the tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.units import format_number, format_value


def published_lines(document: Mapping[str, Any]) -> list[str]:
    """A line for each measured metric that somebody published a comparable figure of; nothing where
    nobody did."""
    return [
        _line(entry["test"], row)
        for entry in document["measurements"]
        for row in entry.get("published") or ()
    ]


def _line(test: str, row: Mapping[str, Any]) -> str:
    share = format_number(row["ratio"] * 100, digits=3)
    value = format_value(row["value"], row["unit"])
    doubt = "" if row["verified"] else ", not read at its source"
    return (
        f"published: {test}: {units.spoken(row['metric'])} is {share} % of {value} "
        f"({row['source']}, {row['date']}{doubt})"
    )
