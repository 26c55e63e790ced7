"""What every format selects from: the figures of a report, one by one."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.inert import cleaned
from pytest_llmperf.records import Direction
from pytest_llmperf.report.junit import HEADLINE

Document = Mapping[str, Any]
Entry = Mapping[str, Any]

#: Names longer than this are cut, and told apart by a digest: Bencher takes no more than 1024 bytes
#: [bencherdev/bencher, lib/bencher_valid/src/benchmark_name.rs, August 2026].
_LONGEST = 240
_BEYOND_ASCII = re.compile(r"[^\n\x20-\x7e]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One metric of one measurement, over all launches, in its unit.

    ``name`` is the measurement's, the same in every session that measures the same. The bounds are
    ``None`` with fewer than two launches. ``gates`` are those that name it.
    """

    name: str
    measurement: Entry
    server: Entry
    metric: str
    unit: str
    direction: Direction
    value: float
    low: float | None
    high: float | None
    launches: int
    runs: int
    gates: tuple[Entry, ...]

    @property
    def values(self) -> list[float]:
        """What each valid run says, where it is a number."""
        runs = (run["metrics"].get(self.metric) for run in valid_runs(self.measurement))
        return [float(value) for value in runs if isinstance(value, int | float)]


def figures(document: Document, *, all_metrics: bool) -> Iterator[Figure]:
    """Every figure of what was measured, or those that are usual or gated; not of what it was
    compared with, which another session's report is about."""
    gates: dict[tuple[str, str], list[Entry]] = {}
    for gate in document["gates"]:
        gates.setdefault((gate["measurement"], gate["metric"]), []).append(gate)
    for name, entry in measurements(document):
        server = server_of(document, entry)
        for metric, found in entry["summary"].items():
            own = gates.get((entry["id"], metric), [])
            if found["value"] is None or not (all_metrics or own or metric in HEADLINE):
                continue
            yield Figure(
                name=name,
                measurement=entry,
                server=server,
                metric=metric,
                unit=found["unit"],
                direction=found["direction"],
                value=found["value"],
                low=found["ci_low"],
                high=found["ci_high"],
                launches=found["n_launches"],
                runs=found["n_runs"],
                gates=tuple(own),
            )


def measurements(document: Document) -> Iterator[tuple[str, Entry]]:
    """What was measured, each with its name; no references."""
    references = {entry["reference"] for entry in document["measurements"]}
    entries = [entry for entry in document["measurements"] if entry["id"] not in references]
    yield from zip(_names(entries), entries, strict=True)


def _names(entries: Sequence[Entry]) -> list[str]:
    """The test's name; with its load where the test measured more than one, and a number where
    that is the same again. Figures of the simulator say so, or a chart would mix them up."""
    tests = Counter(entry["test"] for entry in entries)
    seen: Counter[str] = Counter()
    names = []
    for entry in entries:
        name = entry["test"]
        if tests[name] > 1:
            name = f"{name} {load_of(entry)}"
        seen[name] += 1
        again = f" ({seen[name]})" if seen[name] > 1 else ""
        names.append(shortened(f"{name}{again}") + " SIMULATED" * bool(entry["simulated"]))
    return names


def load_of(entry: Entry) -> str:
    """A measurement's workload in a few words: "chat 1024/1024 x16"."""
    asked = entry["workload"]["asked"]
    rate = "" if asked["rate"] is None else f" {asked['rate']:g}/s"
    many = "" if asked["concurrency"] is None else f" x{asked['concurrency']}"
    lengths = (asked["input_tokens"], asked["output_tokens"])
    shape = "" if None in lengths else f" {lengths[0]}/{lengths[1]}"
    return f"{asked['name']}{shape}{rate}{many}"


def valid_runs(entry: Entry) -> list[Entry]:
    return [run for run in entry["runs"] if run["valid"] and run["side"] == "candidate"]


def server_of(document: Document, entry: Entry) -> Entry:
    servers: Sequence[Entry] = document["servers"]
    return next(server for server in servers if server["id"] == entry["server"])


def accelerator_of(document: Document) -> Entry | None:
    """The accelerator, where the report names exactly one kind."""
    known: list[Entry] = document["environment"]["accelerators"]
    return known[0] if len(known) == 1 else None


def shortened(text: str) -> str:
    """``text`` on one line, without anything that a terminal or a text's direction heeds, and not
    longer than a chart's name may be."""
    clean = cleaned(text)
    if len(clean.encode()) <= _LONGEST:
        return clean
    digest = hashlib.sha256(clean.encode()).hexdigest()[:8]
    return f"{clean.encode()[: _LONGEST - 9].decode(errors='ignore')}~{digest}"


def slug(text: str) -> str:
    """A name for a file: letters, digits and dashes, told apart by a digest."""
    words = re.sub(r"[^A-Za-z0-9]+", "-", text).strip("-")[-60:].strip("-")
    return f"{words or 'measurement'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def json_text(value: object, indent: int | None = 1) -> str:
    """``value`` as JSON, a line feed at its end. What does not print in a text of others (marks
    that turn its direction, joiners) is escaped: it reads the same, and shows."""
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    return _BEYOND_ASCII.sub(_escaped, text) + "\n"


def _escaped(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]
