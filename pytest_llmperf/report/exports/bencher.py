"""Bencher Metric Format: ``{benchmark: {measure: {value, lower_value, upper_value}}}``.

Source: bencherdev/bencher, services/console/public/bmf.json and
lib/bencher_adapter/src/adapters/json/v0.rs, commit 8d75325 (August 2026); for
``bencher run --adapter json --file PATH``. A benchmark is a measurement, a measure a metric by its
name here; the values are in the units of docs/metrics.md, the bounds are the interval over
launches. Lost: units and directions (a threshold in Bencher says which way is worse: an upper
boundary for latencies, a lower one for rates), single runs, verdicts.
"""

from __future__ import annotations

from pathlib import Path

from .figures import Document, Figure, figures, json_text


def files(document: Document, path: Path) -> dict[Path, str]:
    benchmarks: dict[str, dict[str, dict[str, float]]] = {}
    for figure in figures(document, all_metrics=False):
        benchmarks.setdefault(figure.name, {})[figure.metric] = _metric(figure)
    return {path: json_text(benchmarks)}


def _metric(figure: Figure) -> dict[str, float]:
    said = {"value": figure.value, "lower_value": figure.low, "upper_value": figure.high}
    return {name: number for name, number in said.items() if number is not None}
