"""github-action-benchmark: a list of ``{name, unit, value, range, extra}``, in two files.

Source: benchmark-action/github-action-benchmark, src/extract.ts (``BenchmarkResult``), commit
c38cce9 (March 2026). The action is told one direction for a whole file, so ``PATH`` with ".bigger"
before its suffix is for ``tool: customBiggerIsBetter``, with ".smaller" for
``customSmallerIsBetter``. Both are written, an empty list where there is nothing. ``range`` is half
of the interval over launches as the action shows it, "± 12.5", or the two ends where the value does
not lie in the middle. Lost: verdicts; the action's alerts compare single values.
"""

from __future__ import annotations

import math
from pathlib import Path

from .figures import Document, Figure, figures, json_text, load_of, shortened


def files(document: Document, path: Path) -> dict[Path, str]:
    found = list(figures(document, all_metrics=False))
    return {
        path.with_name(f"{path.stem}.{word}{path.suffix or '.json'}"): json_text(
            [_entry(figure) for figure in found if figure.direction == direction]
        )
        for word, direction in (("bigger", "higher"), ("smaller", "lower"))
    }


def _entry(figure: Figure) -> dict[str, str | float]:
    entry: dict[str, str | float] = {
        "name": f"{figure.name} {figure.metric}",
        "unit": figure.unit,
        "value": figure.value,
    }
    if figure.low is not None and figure.high is not None:
        entry["range"] = _range(figure.value, figure.low, figure.high)
    return {**entry, "extra": _extra(figure)}


def _range(value: float, low: float, high: float) -> str:
    if math.isclose(high - value, value - low, rel_tol=1e-6, abs_tol=1e-12):
        return f"± {high - value:.6g}"
    return f"{low:.6g} to {high:.6g}"


def _extra(figure: Figure) -> str:
    server = figure.server
    lines = [
        f"{server['engine']} {server['version'] or ''}".strip(),
        server["model"] or "model unknown",
        load_of(figure.measurement),
        f"{figure.launches} launches, {figure.runs} runs",
    ]
    simulated = ["SIMULATED: describes no hardware"] * bool(figure.measurement["simulated"])
    return "\n".join(shortened(line) for line in (*lines, *simulated))
