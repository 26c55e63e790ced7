"""SGLang's metrics of its own CI: JSON lines as ``dump_metric`` writes them, schema v1.

Source: SGLang 0.5.23, ``sglang/test/test_utils.py`` (``dump_metric``, ``_get_test_context``):
``filename``, ``test_case`` with dots between class and function, ``metric_name``, ``value``, ``ts``
in seconds since the epoch, ``labels``. The value is the mean over launches; unit, direction and
interval are labels. Lost: single runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from .figures import Document, Figure, figures, json_text, load_of, shortened


def files(document: Document, path: Path) -> dict[Path, str]:
    return {path: "".join(json_text(record, indent=None) for record in _records(document))}


def _records(document: Document) -> Iterator[dict[str, Any]]:
    created = datetime.fromisoformat(document["created"]).timestamp()
    for figure in figures(document, all_metrics=True):
        filename, _, inside = shortened(figure.measurement["test"]).partition("::")
        yield {
            "filename": filename,
            "test_case": inside.replace("::", "."),
            "metric_name": figure.metric,
            "value": figure.value,
            "ts": created,
            "labels": _labels(figure),
        }
    yield from _verdicts(document, created)


def _labels(figure: Figure) -> dict[str, Any]:
    server = figure.server
    return {
        "unit": figure.unit,
        "direction": figure.direction,
        "ci_low": figure.low,
        "ci_high": figure.high,
        "launches": figure.launches,
        "workload": shortened(load_of(figure.measurement)),
        "engine": server["engine"],
        "engine_version": server["version"],
        "model": server["model"],
        "simulated": bool(figure.measurement["simulated"]),
    }


def _verdicts(document: Document, created: float) -> Iterator[dict[str, Any]]:
    """Its values may be texts: the verdict of each gate, beside the figures."""
    for gate in document["gates"]:
        filename, _, inside = shortened(gate["test"]).partition("::")
        yield {
            "filename": filename,
            "test_case": inside.replace("::", "."),
            "metric_name": f"verdict.{gate['kind']}.{gate['metric']}",
            "value": gate["verdict"],
            "ts": created,
            "labels": {"mode": gate["mode"], "reason_code": gate["reason_code"]},
        }
