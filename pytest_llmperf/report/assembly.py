"""Fragments of all tests become one document."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_llmperf.redact import redact_argv, redact_text

from .document import OUTCOMES, SIMULATORS, Entry, plain

SCHEMA_VERSION = "1.3"
TOOL = "pytest-llmperf"
_OF_SERVER = ("server", "engine", "model", "version", "recipe")
#: Of verdicts, the worst the largest.
SEVERITY = {"fail": 2, "inconclusive": 1, "pass": 0}


def assemble(
    fragments: Iterable[Mapping[str, Any]],
    *,
    environment: Mapping[str, Any],
    command: Sequence[str],
    seed: int | None,
    created: str,
    complete: bool,
    exit_status: int | None,
    tool_version: str,
    problems: Sequence[str] = (),
    suite: Mapping[str, Any] | None = None,
) -> Entry:
    """The whole document from the fragments of every test, in any order, also repeated.

    A launch, measurement or test that arrives twice is kept as it came last; a gate as it was
    decided worst, so that a re-run cannot launder it. ``suite`` says which gates there are, and of
    which false-alarm rate those here have which share.
    """
    parts = list(fragments)
    servers = _servers(_last(parts, "launches", "id"))
    simulated = {server["id"] for server in servers if server["simulated"]}
    measurements = [
        {**entry, "simulated": entry["server"] in simulated}
        for entry in _last(parts, "measurements", "id")
    ]
    tests = _last(parts, "tests", "test")
    gates = _worst_gates(parts)
    sweeps = _last(parts, "sweeps", "id")
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": TOOL, "version": tool_version},
        "created": created,
        "seed": seed,
        "command": list(redact_argv(command)),
        "environment": plain(environment),
        "simulated": any(entry["simulated"] for entry in measurements),
        "servers": servers,
        "measurements": measurements,
        "sweeps": sweeps,
        "tests": tests,
        "gates": gates,
        "noise": _last(parts, "noise", "test"),
        "quality": _last(parts, "quality", "test"),
        "profiles": _profiles(parts),
        "problems": [redact_text(problem) for problem in problems],
        "verdict": overall(gates, tests, problems),
        "counts": counts(servers, measurements, tests, gates),
        "exit_status": plain(exit_status),
        "complete": complete,
        "suite": plain(suite),
        "merged": None,
    }


def overall(
    gates: Sequence[Mapping[str, Any]],
    tests: Sequence[Mapping[str, Any]],
    problems: Sequence[str] = (),
) -> str:
    """ "fail" if any gate failed whose test was not expected to, else "inconclusive" if any is, if
    a test broke or could not measure or there are ``problems``, else "pass", or "none" without
    gates."""
    outcomes = {test["test"]: test["outcome"] for test in tests}
    words = {gate["verdict"] for gate in gates if outcomes.get(gate["test"]) != "xfailed"}
    if "fail" in words:
        return "fail"
    broken = {"broken", "could_not_measure"} & set(outcomes.values())
    if "inconclusive" in words or broken or problems:
        return "inconclusive"
    return "pass" if gates else "none"


def _last(parts: Iterable[Mapping[str, Any]], kind: str, key: str) -> list[Entry]:
    found: dict[str, Entry] = {}
    for part in parts:
        for entry in part.get(kind, ()):
            found[entry[key]] = dict(entry)
    return list(found.values())


def _profiles(parts: Iterable[Mapping[str, Any]]) -> list[Entry]:
    entries = [dict(entry) for part in parts for entry in part.get("profiles", ())]
    return list({(entry["test"], entry["side"]): entry for entry in entries}.values())


def _worst_gates(parts: Iterable[Mapping[str, Any]]) -> list[Entry]:
    worst: dict[tuple[Any, ...], Entry] = {}
    for part in parts:
        for gate in part.get("gates", ()):
            key = tuple(gate[name] for name in ("test", "measurement", "kind", "mode", "metric"))
            known = worst.get(key)
            if known is None or SEVERITY[gate["verdict"]] > SEVERITY[known["verdict"]]:
                worst[key] = dict(gate)
    return list(worst.values())


def _servers(launches: Sequence[Entry]) -> list[Entry]:
    servers: dict[str, Entry] = {}
    for launch in launches:
        server = servers.setdefault(
            launch["server"],
            {
                "id": launch["server"],
                "engine": launch["engine"],
                "model": None,
                "version": None,
                "recipe": None,
                "simulated": launch["engine"] in SIMULATORS,
                "launches": [],
            },
        )
        for name in ("model", "version", "recipe"):  # a launch that never came up knows no version
            server[name] = server[name] or launch.get(name)
        own = {name: value for name, value in launch.items() if name not in _OF_SERVER}
        server["launches"].append(own)
    return list(servers.values())


def counts(
    servers: Sequence[Entry],
    measurements: Sequence[Entry],
    tests: Sequence[Entry],
    gates: Sequence[Entry],
) -> Entry:
    """How many there are of each."""
    outcomes = Counter(test["outcome"] for test in tests)
    verdicts = Counter(gate["verdict"] if gate["covered"] else "not_covered" for gate in gates)
    valid = [run["valid"] for entry in measurements for run in entry["runs"]]
    return {
        "tests": {outcome: outcomes[outcome] for outcome in OUTCOMES},
        "gates": {word: verdicts[word] for word in ("pass", "fail", "inconclusive", "not_covered")},
        "servers": len(servers),
        "launches": sum(len(server["launches"]) for server in servers),
        "valid_runs": sum(valid),
        "invalid_runs": len(valid) - sum(valid),
    }
