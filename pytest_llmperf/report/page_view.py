"""What the page shows before its script runs, in words and places: nothing is judged here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pytest_llmperf.metrics import units

from .intervals import Strip, strip_of
from .page_measured import RUN_HEADINGS, MeasurementView, measurements
from .words import anchor, count, percent, quantity, rounded, short

Entry = Mapping[str, Any]

_VERDICTS = {
    "fail": "Fail",
    "inconclusive": "Inconclusive",
    "pass": "Pass",
    "none": "No gates",
}
_TROUBLED = {
    "broken": "Broken",
    "could_not_measure": "Could not be measured",
    "failed": "Failed otherwise",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GateView:
    """One gate as a row and as a sentence."""

    test: str
    name: str
    metric: str
    word: str
    verdict: str
    wanted: str
    value: str
    change: str
    detects: str
    reason: str
    source: str
    anchor: str
    strip: Strip | None
    simulated: bool


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
    gates: Sequence[GateView]
    troubles: Sequence[tuple[str, str, str]]
    measurements: Sequence[MeasurementView]
    sweeps: Sequence[Entry]
    servers: Sequence[Entry]
    environment: Sequence[tuple[str, str]]
    devices: Sequence[Entry]
    packages: Sequence[tuple[str, str]]
    quality: Sequence[str]
    names: Mapping[str, tuple[str, str, str]]
    run_headings: Sequence[str] = RUN_HEADINGS


def view_of(document: Entry) -> View:
    """The view of a report."""
    gates = [_gate(gate, document) for gate in document["gates"]]
    ranked = sorted(gates, key=lambda gate: ("fail", "inconclusive", "pass").index(gate.verdict))
    return View(
        title=f"{_VERDICTS[document['verdict']]} · {_what(document)}",
        verdict=document["verdict"],
        word=_VERDICTS[document["verdict"]],
        sentence=_sentence(document),
        facts=_facts(document),
        warnings=_warnings(document),
        failed=[gate for gate in gates if gate.verdict == "fail"],
        undecided=[gate for gate in gates if gate.verdict == "inconclusive"],
        gates=ranked,
        troubles=[
            (_TROUBLED[test["outcome"]], test["test"], test["message"])
            for test in document["tests"]
            if test["outcome"] in _TROUBLED
        ],
        measurements=measurements(document),
        sweeps=[_sweep(sweep) for sweep in document["sweeps"]],
        servers=[_server(server) for server in document["servers"]],
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
        names=_names(document),
    )


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
    expected = _expected_failures(document)
    shown = {
        "failed": counts["fail"] - expected,
        "failed as expected": expected,
        "not covered": counts["not_covered"],
        "inconclusive": counts["inconclusive"],
    }
    parts = [f"{number} {word}" for word, number in shown.items() if number]
    passed = f"{counts['pass']} of {count(total, 'gate')} passed"
    return f"{', '.join([passed, *parts])}.{_other_trouble(document)}"


def _expected_failures(document: Entry) -> int:
    """Gates that failed in tests that are marked to (``xfail``)."""
    marked = {test["test"] for test in document["tests"] if test["outcome"] == "xfailed"}
    failed = [gate for gate in document["gates"] if gate["verdict"] == "fail" and gate["covered"]]
    return sum(gate["test"] in marked for gate in failed)


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
    return [*found, *document["problems"]]


# --- gates -------------------------------------------------------------------------------------


def _gate(gate: Entry, document: Entry) -> GateView:
    measured = gate["measurement"]
    simulated = {each["id"] for each in document["measurements"] if each["simulated"]}
    return GateView(
        test=gate["test"],
        name=short(gate["test"]),
        metric=units.spoken(gate["metric"]),
        word=_word(gate),
        verdict=gate["verdict"],
        wanted=_wanted(gate),
        value=quantity(gate["observed"], gate["unit"]),
        change=_change(gate),
        detects=percent(gate["detectable_loss"]),
        reason=gate["reason"],
        source=gate["source"],
        anchor=anchor(measured) if measured else "",
        strip=strip_of(gate),
        simulated=measured in simulated,
    )


def _word(gate: Entry) -> str:
    if not gate["covered"]:
        return f"not covered: {gate['reason_code'].replace('_', ' ')}"
    return str(gate["verdict"])


def _wanted(gate: Entry) -> str:
    if gate["kind"] == "regression":
        tolerated = f", {percent(gate['allow'])} allowed" if gate["allow"] else ""
        return f"no loss of {percent(gate['loss_to_catch'])}{tolerated}"
    sign = "≥" if gate["kind"] == "floor" else "≤"
    return f"{sign} {quantity(gate['limit'], gate['unit'])}"


def _change(gate: Entry) -> str:
    if gate["kind"] == "regression":
        if gate["loss"] is None:
            return "-"
        return f"{percent(abs(gate['loss']))} {'worse' if gate['loss'] > 0 else 'better'}"
    return percent(gate["difference"], signed=True)


def _names(document: Entry) -> dict[str, tuple[str, str, str]]:
    """How the script is to call each metric that is gated, its unit, and its better direction."""
    used = dict.fromkeys(("output_throughput", *(gate["metric"] for gate in document["gates"])))
    rows = {name: units.row_of(name) for name in used}
    return {name: (units.spoken(name), row.unit, row.direction) for name, row in rows.items()}


# --- sweeps, servers, surroundings -------------------------------------------------------------


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


def _server(server: Entry) -> Entry:
    """A server with the newest of its launches' facts, which all share but for port and log."""
    launches = server["launches"]
    last = launches[-1]
    took = [each["startup_time_s"] for each in launches if each["startup_time_s"] is not None]
    sides = sorted({each.get("side") or "candidate" for each in launches})
    return {
        "name": " ".join(str(word) for word in (server["engine"], server["version"]) if word),
        "model": server["model"] or "model unknown",
        "sides": ", ".join(sides),
        "command": _command(last["argv"]) or f"attached at {last['url']}",
        "notes": last["notes"],
        "env": sorted(last["env"].items()),
        "launches": len(launches),
        "startup": ", ".join(f"{rounded(each, 3)} s" for each in took[:8]),
        "failures": [each["failure"] for each in launches if each["failure"]],
        "log": last["log"],
    }


def _command(argv: Sequence[str]) -> str:
    import shlex

    return shlex.join(argv)


def _environment(environment: Entry) -> list[tuple[str, str]]:
    match = environment["fingerprint"]["match"]
    host = {key: value for key, value in environment["host"].items() if key not in match}
    facts = [*match.items(), *host.items(), ("key", environment["fingerprint"]["key"])]
    return [(name.replace("_", " "), str(value)) for name, value in facts if value is not None]
