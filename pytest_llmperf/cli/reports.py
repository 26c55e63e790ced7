"""Reports read back: what they measured, by launch, ready to be compared."""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import ReportError
from pytest_llmperf.reading import Unreadable
from pytest_llmperf.records import Direction

Document = Mapping[str, Any]
#: Fields of a workload that change how often it is measured, or where its file lies.
_NOT_OF_WORKLOAD = ("runs",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement: its launches in order, and which metrics gates name.

    ``launches`` holds the mean of each metric over a launch's valid runs: ``math.inf`` where
    failed requests made it unbounded, ``None`` where a run lacks it. ``number`` tells apart what
    one test measured several times in the same way.
    """

    test: str
    workload: Mapping[str, Any]
    number: int
    launches: tuple[Mapping[str, float | None], ...]
    gated: frozenset[str]
    subject: Mapping[str, Any]
    simulated: bool
    sent: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str, int]:
        return self.test, json.dumps(self.workload, sort_keys=True), self.number

    @property
    def title(self) -> str:
        again = f" ({self.number + 1})" if self.number else ""
        return f"{self.test} [{self.workload['name']}]{again}"

    def values(self, metric: str) -> list[float] | None:
        """One value per launch, or ``None`` where any launch lacks it."""
        found = [launch.get(metric) for launch in self.launches]
        known = [value for value in found if value is not None]
        return known if known and len(known) == len(found) else None


def problems_of(path: Path) -> list[str]:
    """Everything wrong with the report at ``path``. Raises ReportError when it cannot be read."""
    return _read(path)[1]


def _read(path: Path) -> tuple[Document, list[str]]:
    """The report at ``path``, and everything wrong with it."""
    from pytest_llmperf.report.validate import read_report

    try:
        return read_report(path)
    except Unreadable as why:
        raise ReportError(
            f"{path} {why}. Name a report that pytest wrote with --llmperf-report.", path=path
        ) from why


def load(path: Path) -> Document:
    """A report that matches its schema; raises ReportError for any other."""
    document, problems = _read(path)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise ReportError(
            f"{path} is no valid report: {problems[0]}{more}. `pytest-llmperf validate` tells all.",
            path=path,
        )
    return document


def measured_in(document: Document) -> list[Measured]:
    """What tests measured, in the report's order; not the references that it was compared with."""
    servers = {server["id"]: server for server in document["servers"]}
    references = {entry["reference"] for entry in document["measurements"]}
    seen: Counter[tuple[str, str]] = Counter()
    found = []
    for entry in document["measurements"]:
        if entry["id"] in references:
            continue
        workload = _workload(entry["workload"]["asked"])
        place = entry["test"], json.dumps(workload, sort_keys=True)
        found.append(
            Measured(
                test=entry["test"],
                workload=workload,
                number=seen[place],
                launches=tuple(_launches(entry["runs"])),
                gated=_gated(document, entry),
                subject=_subject(servers[entry["server"]]),
                simulated=entry["simulated"],
                sent=entry["workload"]["sent"],
            )
        )
        seen[place] += 1
    return found


def undecided_gates(document: Document) -> list[str]:
    """Tests whose gates were judged on no measurement at all."""
    names = [gate["test"] for gate in document["gates"] if gate["measurement"] is None]
    return list(dict.fromkeys(names))


def units_in(document: Document) -> dict[str, tuple[str, Direction]]:
    """Unit and direction of every metric that the report has a figure of."""
    return {
        name: (value["unit"], value["direction"])
        for entry in document["measurements"]
        for name, value in entry["summary"].items()
    }


def _workload(asked: Mapping[str, Any]) -> dict[str, Any]:
    said = {name: value for name, value in asked.items() if name not in _NOT_OF_WORKLOAD}
    if said["source"] is not None:
        said["source"] = {name: v for name, v in said["source"].items() if name != "path"}
    return said


def _subject(server: Mapping[str, Any]) -> dict[str, Any]:
    """What really ran, where the report tells; else what the server says it is."""
    told = (launch.get("subject") for launch in reversed(server["launches"]))
    for subject in told:
        if subject:
            return dict(subject)
    return {name: server[name] for name in ("engine", "version", "model")}


def _launches(runs: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, float | None]]:
    by_launch: dict[str, list[Mapping[str, Any]]] = {}
    for run in runs:
        if run["valid"]:
            by_launch.setdefault(run["launch_id"], []).append(run["metrics"])
    for metrics in by_launch.values():
        names = dict.fromkeys(name for run in metrics for name in run)
        yield {name: _launch_mean([run.get(name) for run in metrics]) for name in names}


def _launch_mean(values: Sequence[Any]) -> float | None:
    numbers = [math.inf if isinstance(value, Mapping) else value for value in values]
    known = [float(number) for number in numbers if number is not None]
    return statistics.fmean(known) if len(known) == len(numbers) else None


def _gated(document: Document, entry: Mapping[str, Any]) -> frozenset[str]:
    """Metrics that gates of this measurement name; a gate that was judged on nothing counts for
    what its test declared, which is everything but the points of sweeps."""
    swept = {point["measurement"] for sweep in document["sweeps"] for point in sweep["points"]}
    where = {entry["id"], None} if entry["id"] not in swept else {entry["id"]}
    return frozenset(
        gate["metric"]
        for gate in document["gates"]
        if gate["test"] == entry["test"] and gate["measurement"] in where
    )
