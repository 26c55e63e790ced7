"""What the page shows before its script runs, in words and places: nothing is judged here."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pytest_llmperf.metrics import units

from .page_gates import GateView, gate_loss, gate_view
from .page_history import HistoryView, histories
from .page_measured import HEALTH_HEADINGS, RUN_HEADINGS, MeasurementView, measurements
from .page_servers import servers
from .page_sessions import HEADINGS as SESSION_HEADINGS
from .page_sessions import notes, session_rows
from .profiles import HOW_TO_OPEN, ProfileView, profile_views
from .told import told_gates
from .words import count, percent, rounded, short

Entry = Mapping[str, Any]

_VERDICTS = {
    "fail": "Fail",
    "inconclusive": "Inconclusive",
    "pass": "Pass",
    "none": "No gates",
}
_RANKS = ("fail", "inconclusive", "expected", "pass")
#: Gates that are told at length before the others are folded.
_MOST_STORIES = 10
#: Gates that the table has before somebody reads on.
_MOST_ROWS = 100
_TROUBLED = {
    "broken": "Broken",
    "could_not_measure": "Could not be measured",
    "failed": "Failed otherwise",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """Everything that the template prints."""

    title: str
    verdict: str
    word: str
    sentence: str
    facts: Sequence[tuple[str, str]]
    warnings: Sequence[str]
    failed: Sequence[GateView]
    undecided: Sequence[GateView]
    expected: Sequence[GateView]
    gates: Sequence[GateView]
    histories: Sequence[HistoryView]
    troubles: Sequence[tuple[str, str, str]]
    measurements: Sequence[MeasurementView]
    sweeps: Sequence[Entry]
    servers: Sequence[Entry]
    sessions: Sequence[Sequence[str]]
    environment: Sequence[tuple[str, str]]
    devices: Sequence[Entry]
    packages: Sequence[tuple[str, str]]
    quality: Sequence[str]
    profiles: Sequence[ProfileView]
    names: Mapping[str, tuple[str, str, str]]
    profiled: Collection[str]
    how_to_open: str = HOW_TO_OPEN
    session_headings: Sequence[str] = SESSION_HEADINGS
    run_headings: Sequence[str] = RUN_HEADINGS
    health_headings: Sequence[str] = HEALTH_HEADINGS
    most_stories: int = _MOST_STORIES
    most_rows: int = _MOST_ROWS


def view_of(document: Entry) -> View:
    """The view of a report."""
    kept = histories(document["gates"])
    gates = [
        gate_view(
            gate,
            history=known.anchor if (known := kept.get((gate["test"], gate["metric"]))) else "",
        )
        for gate in told_gates(document)
    ]
    losses = [gate_loss(gate) for gate in document["gates"]]
    ranked = [gate for _, gate in sorted(zip(losses, gates, strict=True), key=_rank)]
    return View(
        title=f"{_VERDICTS[document['verdict']]} · {_what(document)}",
        verdict=document["verdict"],
        word=_VERDICTS[document["verdict"]],
        sentence=_sentence(document),
        facts=_facts(document),
        warnings=_warnings(document),
        failed=[gate for gate in ranked if gate.verdict == "fail"],
        undecided=[gate for gate in ranked if gate.verdict == "inconclusive"],
        expected=[gate for gate in ranked if gate.verdict == "expected"],
        gates=ranked,
        histories=sorted(kept.values(), key=lambda each: not each.opened),
        troubles=[
            (_TROUBLED[test["outcome"]], test["test"], test["message"])
            for test in document["tests"]
            if test["outcome"] in _TROUBLED
        ],
        measurements=measurements(document),
        sweeps=[_sweep(sweep) for sweep in document["sweeps"]],
        servers=servers(document),
        sessions=session_rows(document),
        environment=_environment(document["environment"]),
        devices=[
            device
            for accelerator in document["environment"]["accelerators"]
            for device in accelerator["devices"]
        ],
        packages=sorted(document["environment"]["packages"].items()),
        quality=[
            f"{short(entry['test'])}: {line}"
            for entry in document["quality"]
            for line in entry["lines"]
        ],
        profiles=profile_views(document),
        profiled={each.test for each in profile_views(document) if each.traces},
        names=_names(document),
    )


def _rank(row: tuple[float, GateView]) -> tuple[int, float]:
    """What failed comes first, of that the largest loss; the others stay in their order."""
    loss, gate = row
    return _RANKS.index(gate.verdict), -loss if gate.verdict == "fail" else 0.0


# --- the head ----------------------------------------------------------------------------------


def _what(document: Entry) -> str:
    engines = dict.fromkeys(
        " ".join(str(word) for word in (server["engine"], server["version"]) if word)
        for server in document["servers"]
    )
    return f"{', '.join(engines) or 'no server'} on {_where(document)}"


def _where(document: Entry) -> str:
    found = document["environment"]["accelerators"]
    return ", ".join(
        f"{each['count']} × {each['product']}" if each["count"] > 1 else str(each["product"])
        for each in found
    ) or "nothing"  # fmt: skip


def _sentence(document: Entry) -> str:
    counts = document["counts"]["gates"]
    total = sum(counts.values())
    if not total:
        return f"No gate was judged.{_other_trouble(document)}"
    expected = sum(gate["expected"] for gate in told_gates(document))
    shown = {
        "failed": counts["fail"] - expected,
        "failed as expected": expected,
        "not covered": counts["not_covered"],
        "inconclusive": counts["inconclusive"],
    }
    parts = [f"{number} {word}" for word, number in shown.items() if number]
    passed = f"{counts['pass']} of {count(total, 'gate')} passed"
    return f"{', '.join([passed, *parts])}.{_other_trouble(document)}"


def _other_trouble(document: Entry) -> str:
    """Tests that are red for something else than a gate."""
    tests = document["counts"]["tests"]
    words = {"broken": "broken", "could_not_measure": "not measured", "failed": "failed otherwise"}
    found = [f"{count(tests[key], 'test')} {word}" for key, word in words.items() if tests[key]]
    return f" {', '.join(found)}." if found else ""


def _facts(document: Entry) -> list[tuple[str, str]]:
    git, counts = document["environment"]["git"], document["counts"]
    made = datetime.fromisoformat(document["created"]).astimezone(UTC)
    commit = (git["commit"] or "")[:12] + (" with changes" if git["dirty"] else "")
    facts = [
        ("Servers", _what(document)),
        ("Made", f"{made:%Y-%m-%d %H:%M} UTC"),
        ("Commit", " · ".join(part for part in (commit, git["branch"]) if part)),
        (
            "Measured",
            f"{count(counts['launches'], 'launch', 'launches')}, "
            f"{count(counts['valid_runs'], 'valid run')}"
            + (f", {counts['invalid_runs']} invalid" if counts["invalid_runs"] else ""),
        ),
        ("Exit status", "" if document["exit_status"] is None else str(document["exit_status"])),
    ]
    return [(name, value) for name, value in facts if value]


def _warnings(document: Entry) -> list[str]:
    found = []
    if document["simulated"]:
        found.append("Simulated: figures come from the simulator and describe no hardware.")
    if document.get("foreign"):
        found.append("Foreign: made from another tool's results; what it does not tell is missing.")
    if not document["complete"]:
        found.append("Incomplete: the session was interrupted, or results were lost.")
    return [*found, *document["problems"], *notes(document)]


def _names(document: Entry) -> dict[str, tuple[str, str, str]]:
    """How the script is to call each metric that is gated, its unit, and its better direction."""
    used = dict.fromkeys(("output_throughput", *(gate["metric"] for gate in document["gates"])))
    rows = {name: units.row_of(name) for name in used}
    return {name: (units.spoken(name), row.unit, row.direction) for name, row in rows.items()}


# --- sweeps, surroundings ----------------------------------------------------------------------


def _sweep(sweep: Entry) -> Entry:
    """A sweep with its rows in words."""
    rows = [
        [
            rounded(point["load"]),
            "-" if point["throughput"] is None else rounded(point["throughput"]),
            "-" if point["per_user"] is None else rounded(point["per_user"]),
            percent(point["attainment"]),
            {True: "yes", False: "no", None: ""}[point["within"]],
        ]
        for point in sweep["points"]
    ]
    return {**sweep, "name": short(sweep["test"]), "rows": rows}


def _environment(environment: Entry) -> list[tuple[str, str]]:
    match = environment["fingerprint"]["match"]
    host = {key: value for key, value in environment["host"].items() if key not in match}
    facts = [*match.items(), *host.items(), ("key", environment["fingerprint"]["key"])]
    return [(name.replace("_", " "), str(value)) for name, value in facts if value is not None]
