"""Runs in Otava's own environment: the first look at which each series shows a loss."""

from __future__ import annotations

import importlib
import json
import sys
from importlib import metadata


def first_look(values: list[float], before: int) -> int | None:
    """Counted from 1, the first of ``before + 1``, ``before + 2``, ... values is the first look."""
    series = importlib.import_module("otava.series")
    for count in range(before + 1, len(values) + 1):
        seen = values[:count]
        metric = series.Metric(1, 1.0)
        whole = series.Series("t", None, list(range(count)), {"x": metric}, {"x": seen}, {})
        points = whole.analyze(series.AnalysisOptions()).change_points["x"]
        if any(point.forward_change_percent() < 0 for point in points):
            return count - before
    return None


def main() -> None:
    asked = json.load(sys.stdin)
    first = [first_look(values, asked["before"]) for values in asked["series"]]
    json.dump({"first": first, "version": metadata.version("apache-otava")}, sys.stdout)


if __name__ == "__main__":
    main()
