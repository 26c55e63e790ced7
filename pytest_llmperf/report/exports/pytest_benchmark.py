"""pytest-benchmark's JSON, as ``--benchmark-json`` writes it, for ``pytest-benchmark compare``.

Source: pytest-benchmark 5.3.1, ``pytest_benchmark/storage/file.py``, ``table.py``, ``stats.py``.
It knows times in seconds only, less is better, and ``ops``, their inverse. So latencies are in
seconds, and rates are told as seconds per token or request: their ``ops`` is the rate. The figures
of its statistics are those of valid runs; it demands least, greatest, median and quartiles, which
are therefore taken here. ``mean`` is that of the report. Lost: metrics that are neither a time nor
a rate, intervals over launches, verdicts.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_llmperf.report.words import short

from .figures import (
    Document,
    Entry,
    Figure,
    accelerator_of,
    figures,
    json_text,
    load_of,
    shortened,
)

_VERSION = "5.3.1"
#: Seconds in one of the unit.
_SECONDS = {"ms": 1e-3, "s": 1.0}
_RATES = ("tok/s", "req/s")


def files(document: Document, path: Path) -> dict[Path, str]:
    found = figures(document, all_metrics=False)
    benchmarks = [_benchmark(figure) for figure in found if _times(figure)]
    git = document["environment"]["git"]
    return {
        path: json_text(
            {
                "machine_info": _machine(document),
                "commit_info": {
                    "id": git["commit"] or "unknown",
                    "time": None,
                    "author_time": None,
                    "dirty": bool(git["dirty"]),
                    "branch": git["branch"] or "(unknown)",
                },
                "benchmarks": benchmarks,
                "datetime": document["created"],
                "version": _VERSION,
            }
        )
    }


def _machine(document: Document) -> dict[str, object]:
    accelerator, host = accelerator_of(document), document["environment"]["host"]
    return {
        "node": host.get("hostname"),
        "python_version": document["environment"]["python"],
        "system": host.get("os"),
        "accelerator": accelerator and f"{accelerator['product']} x{accelerator['count']}",
    }


def _benchmark(figure: Figure) -> dict[str, Any]:
    asked: Entry = figure.measurement["workload"]["asked"]
    server = figure.server
    return {
        "group": figure.metric,
        "name": f"{short(figure.name)}:{figure.metric}",
        "fullname": f"{figure.name}:{figure.metric}",
        "params": None,
        "param": None,
        "extra_info": {
            "unit": figure.unit,
            "direction": figure.direction,
            "workload": shortened(load_of(figure.measurement)),
            "engine": server["engine"],
            "engine_version": server["version"],
            "model": server["model"],
            "simulated": bool(figure.measurement["simulated"]),
        },
        "options": {"warmup": bool(asked["warmup_requests"]), "timer": "pytest-llmperf"},
        "stats": _stats(_times(figure), _seconds(figure.value, figure.unit)),
    }


def _times(figure: Figure) -> list[float]:
    times = [_seconds(value, figure.unit) for value in figure.values]
    known = [time for time in times if time is not None]
    return known if len(known) == len(times) and figure.value > 0 else []


def _seconds(value: float, unit: str) -> float | None:
    if unit in _RATES:
        return 1 / value if value else None
    return value * _SECONDS[unit] if unit in _SECONDS and value else None


def _stats(times: Sequence[float], mean: float | None) -> dict[str, Any]:
    first, median, third = _quartiles(times)
    spread = statistics.stdev(times) if len(times) > 1 else 0.0
    centre = statistics.fmean(times) if mean is None else mean
    return {
        "min": min(times),
        "max": max(times),
        "mean": centre,
        "stddev": spread,
        "rounds": len(times),
        "median": median,
        "iqr": third - first,
        "q1": first,
        "q3": third,
        "iqr_outliers": 0,
        "stddev_outliers": 0,
        "outliers": "0;0",
        "ld15iqr": min(times),
        "hd15iqr": max(times),
        "ops": 1 / centre,
        "total": sum(times),
        "data": list(times),
        "iterations": 1,
    }


def _quartiles(times: Sequence[float]) -> tuple[float, float, float]:
    if len(times) == 1:
        return times[0], times[0], times[0]
    first, median, third = statistics.quantiles(times, n=4, method="inclusive")
    return first, median, third
