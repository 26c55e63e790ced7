"""OpenMetrics text, for Prometheus and whatever reads its format.

Source: the OpenMetrics specification 1.0, checked with ``prometheus_client.openmetrics.parser``
0.26. Base units, as it asks: seconds, bytes, ratios. A gauge for each metric, named
``llmperf_<metric>_<unit>``, and ``..._low_...`` and ``..._high_...`` for the interval over
launches; ``llmperf_gate`` is a state set of verdicts. Directions are in the help texts. There are
no time stamps, which node_exporter's textfile collector refuses; ``llmperf_report_created_seconds``
says when. Lost: single runs, reasons.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from .figures import (
    Document,
    Figure,
    accelerator_of,
    figures,
    load_of,
    measurements,
    shortened,
)

#: Of each unit here: the base unit, and how many of it one is.
_UNITS: Mapping[str, tuple[str, float]] = {
    "ms": ("seconds", 1e-3),
    "s": ("seconds", 1.0),
    "tok/s": ("tokens_per_second", 1.0),
    "req/s": ("requests_per_second", 1.0),
    "tok": ("tokens", 1.0),
    "J/tok": ("joules_per_token", 1.0),
    "tok/J": ("tokens_per_joule", 1.0),
    "$": ("dollars", 1.0),
    "GiB": ("bytes", float(2**30)),
    "1": ("ratio", 1.0),
}
_VERDICTS = ("pass", "fail", "inconclusive")


@dataclass(slots=True)
class _Family:
    kind: str
    help: str
    unit: str = ""
    samples: list[str] = field(default_factory=list)


def files(document: Document, path: Path) -> dict[Path, str]:
    return {path: render(document)}


def render(document: Document) -> str:
    """The whole exposition, with its end marker."""
    families: dict[str, _Family] = {}
    for figure in figures(document, all_metrics=True):
        _add_figure(families, document, figure)
    _add_gates(families, document)
    _add_report(families, document)
    lines = [line for name, family in families.items() for line in _lines(name, family)]
    return "\n".join([*lines, "# EOF"]) + "\n"


def _add_figure(families: dict[str, _Family], document: Document, figure: Figure) -> None:
    unit, scale = _UNITS[figure.unit]
    labels = _labels(_about(document, figure))
    better = f"{figure.direction} is better"
    for word, value in (("", figure.value), ("_low", figure.low), ("_high", figure.high)):
        if value is not None:
            what = {"": "mean over launches", "_low": "lower bound of it", "_high": "upper bound"}
            name = f"llmperf_{figure.metric}{word}_{unit}"
            family = families.setdefault(
                name, _Family("gauge", f"{figure.metric}: {what[word]}; {better}.", unit)
            )
            family.samples.append(f"{name}{labels} {value * scale!r}")


def _about(document: Document, figure: Figure) -> dict[str, str]:
    server, accelerator = figure.server, accelerator_of(document)
    return {
        "benchmark": figure.name,
        "workload": load_of(figure.measurement),
        "engine": server["engine"],
        "engine_version": server["version"] or "",
        "model": server["model"] or "",
        "accelerator": f"{accelerator['product']} x{accelerator['count']}" if accelerator else "",
        "simulated": "true" if figure.measurement["simulated"] else "false",
    }


def _add_gates(families: dict[str, _Family], document: Document) -> None:
    names = {entry["id"]: name for name, entry in measurements(document)}
    if document["gates"]:
        families["llmperf_gate"] = _Family("stateset", "Verdict of each gate.")
    for gate in document["gates"]:
        about = {
            "test": shortened(gate["test"]),
            "benchmark": names.get(gate["measurement"], ""),
            **{name: gate[name] for name in ("kind", "mode", "metric")},
        }
        for verdict in _VERDICTS:
            labels = _labels({**about, "llmperf_gate": verdict})
            sample = f"llmperf_gate{labels} {int(gate['verdict'] == verdict)}"
            families["llmperf_gate"].samples.append(sample)


def _add_report(families: dict[str, _Family], document: Document) -> None:
    created = datetime.fromisoformat(document["created"]).timestamp()
    families["llmperf_report_created_seconds"] = _Family(
        "gauge",
        "When the report was made, since the epoch.",
        "seconds",
        [f"llmperf_report_created_seconds {created!r}"],
    )
    about = {
        "version": document["tool"]["version"],
        "verdict": document["verdict"],
        "complete": "true" if document["complete"] else "false",
        "commit": document["environment"]["git"]["commit"] or "",
    }
    families["llmperf_report"] = _Family(
        "info", "The report.", "", [f"llmperf_report_info{_labels(about)} 1"]
    )


def _lines(name: str, family: _Family) -> Iterator[str]:
    yield f"# TYPE {name} {family.kind}"
    if family.unit:
        yield f"# UNIT {name} {family.unit}"
    yield f"# HELP {name} {family.help}"
    yield from _once(family.samples)


def _once(samples: Iterable[str]) -> Iterator[str]:
    yield from dict.fromkeys(samples)


def _labels(labels: Mapping[str, str]) -> str:
    told = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{told}}}"


def _escaped(value: str) -> str:
    clean = shortened(value)
    return clean.replace("\\", r"\\").replace('"', r"\"")
