"""Reports of several sessions become one: of one suite over machines, or on several accelerators.

The result depends on the sessions alone, neither on the order of the reports nor on whether some
were merged before: each session is told apart by a digest of its report, keeps its facts, and what
is said of all is worked out of these anew each time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from pytest_llmperf.errors import LlmPerfError

from .assembly import SCHEMA_VERSION, SEVERITY, TOOL, counts, overall
from .document import Entry
from .environments import common_environment, labels
from .required import holes
from .session_facts import (
    gone,
    missing_shards,
    notes_of,
    problems_of,
    shared,
    status_of,
    with_names,
)
from .words import node_id, with_place

Document = Mapping[str, Any]
#: What belongs to one test, by the name of the report's list.
_OF_TEST = ("measurements", "sweeps", "tests", "gates", "noise", "quality", "profiles")
_DIGITS = 12


@dataclass(slots=True, kw_only=True)
class Session:
    """One session: its facts as ``merged.parts`` has them, its servers by id, and by test what it
    has of it. Ids are its own from here on, tests are node ids."""

    facts: Entry
    servers: dict[str, Entry]
    tests: dict[str, dict[str, list[Entry]]] = field(default_factory=dict)

    @property
    def environment(self) -> str:
        key: str = self.facts["environment"]["fingerprint"]["key"]
        return key

    @property
    def age(self) -> tuple[datetime, str]:
        """What sorts sessions, the newest last."""
        return datetime.fromisoformat(self.facts["created"]), self.facts["id"]


def merge(
    documents: Sequence[Document],
    *,
    latest: bool = False,
    required: Sequence[str] = (),
    version: str,
) -> Entry:
    """One report of all sessions in ``documents``, which are valid reports.

    A test that two sessions measured on the same environment counts as the newest has it if
    ``latest``. ``required`` are node ids or what they begin with, whose gates must all have been
    judged. Raises :class:`~pytest_llmperf.errors.LlmPerfError` for a test measured twice otherwise.
    ``version`` is that of pytest-llmperf.
    """
    sessions = _distinct(documents)
    for session, test in _repeated(sessions):
        if not latest:
            raise LlmPerfError(_twice(session, test, sessions))
        _supersede(session, test)
    named = labels(session.facts["environment"] for session in sessions)
    for session in sessions:
        session.facts |= {"label": named[session.environment], "tests": len(session.tests)}
    sessions.sort(key=_place)
    with_names([session.facts for session in sessions])
    several = len(named) > 1
    parts = [session.facts for session in sessions]
    gates = _gathered(sessions, "gates", several=False)
    missing = [hole for scope in required for hole in holes(parts, gates, scope)]
    lists = {kind: _gathered(sessions, kind, several=several) for kind in _OF_TEST}
    servers = [
        server | _on(session, several)
        for session in sessions
        for server in session.servers.values()
    ]
    return _document(parts, servers, lists, [*problems_of(parts), *missing], version)


def _document(
    parts: list[Entry],
    servers: list[Entry],
    lists: dict[str, list[Entry]],
    problems: list[str],
    version: str,
) -> Entry:
    seeds = {part["seed"] for part in parts}
    tests, gates, measurements = (lists[kind] for kind in ("tests", "gates", "measurements"))
    return {
        "schema_version": SCHEMA_VERSION,
        "tool": {"name": TOOL, "version": version},
        "created": max(parts, key=lambda part: datetime.fromisoformat(part["created"]))["created"],
        "seed": seeds.pop() if len(seeds) == 1 else None,
        "command": ["pytest-llmperf", "merge"],
        "environment": common_environment([part["environment"] for part in parts]),
        "simulated": any(entry["simulated"] for entry in measurements),
        "servers": servers,
        **lists,
        "problems": problems,
        "verdict": overall(gates, tests, problems),
        "counts": counts(servers, measurements, tests, gates),
        "exit_status": status_of(parts, tests, problems),
        "complete": all(part["complete"] or gone(part) for part in parts)
        and not missing_shards(parts),
        "suite": None,
        "merged": {"parts": parts, **shared(parts), "notes": notes_of(parts)},
    }


def _gathered(sessions: Sequence[Session], kind: str, *, several: bool) -> list[Entry]:
    """The entries of all sessions, one test's next to each other, named by what they ran on."""
    return [
        {**entry, **_on(session, several), "test": _called(test, session, several)}
        for test in sorted({test for session in sessions for test in session.tests})
        for session in sessions
        for entry in session.tests.get(test, {}).get(kind, ())
    ]


def _on(session: Session, several: bool) -> Entry:
    return {"on": session.facts["label"]} if several else {}


def _called(test: str, session: Session, several: bool) -> str:
    return with_place(test, session.facts["label"]) if several else test


def _place(session: Session) -> tuple[Any, ...]:
    suite = session.facts["suite"] or {}
    shard = suite.get("shards") or 0, suite.get("shard") or 0
    return session.facts["label"], *shard, *session.age


# --- one report as sessions --------------------------------------------------------------------


def _distinct(documents: Iterable[Document]) -> list[Session]:
    found: dict[str, Session] = {}
    for document in documents:
        for session in _sessions(document):
            known = found.setdefault(session.facts["id"], session)
            # Where one was merged with other sessions before, it may lack what those took over.
            known.tests |= session.tests
            known.servers |= session.servers
            _note_superseded(known.facts, session.facts["superseded"])
    for session in found.values():
        for entry in session.facts["superseded"]:
            if entry["test"] in session.tests:
                _supersede(session, entry["test"])
    return sorted(found.values(), key=lambda session: session.age)


def _sessions(document: Document) -> Iterator[Session]:
    merged = document.get("merged")
    if merged is None:
        yield _single(document)
        return
    for part in merged["parts"]:
        own = {kind: _of_part(document, kind, part["id"]) for kind in ("servers", *_OF_TEST)}
        servers = {server["id"]: _placeless(server) for server in own.pop("servers")}
        session = Session(facts=_facts_again(part), servers=servers)
        for kind, entries in own.items():
            for entry in entries:
                _add(session, kind, _placeless(entry) | {"test": node_id(entry)})
        yield session


def _placeless(entry: Mapping[str, Any]) -> Entry:
    """What it ran on is told anew: it may be the same everywhere now, or called otherwise."""
    return {name: value for name, value in entry.items() if name != "on"}


def _facts_again(part: Mapping[str, Any]) -> Entry:
    return {**part, "superseded": list(part["superseded"])}


def _of_part(document: Document, kind: str, part: str) -> list[Entry]:
    return [entry for entry in document.get(kind, ()) if entry.get("part") == part]


def _single(document: Document) -> Session:
    part = _digest(document)
    servers = (_server(server, part) for server in document["servers"])
    session = Session(
        facts=_facts(document, part), servers={server["id"]: server for server in servers}
    )
    for kind in _OF_TEST:
        for entry in document.get(kind, ()):
            _add(session, kind, {**_renamed(entry, kind, part), "part": part})
    return session


def _add(session: Session, kind: str, entry: Entry) -> None:
    session.tests.setdefault(entry["test"], {}).setdefault(kind, []).append(entry)


def _digest(document: Document) -> str:
    # Ways to profiles depend on where the report is seen from.
    own = {name: value for name, value in document.items() if name != "profiles"}
    text = json.dumps(own, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _facts(document: Document, part: str) -> Entry:
    names = ("created", "seed", "command", "exit_status", "complete", "problems", "environment")
    return {
        "id": part,
        "name": "",
        "label": "",
        **{name: document[name] for name in names},
        "tool_version": document["tool"]["version"],
        "suite": document.get("suite") or _guessed(document["gates"]),
        "tests": 0,
        "superseded": [],
    }


def _guessed(gates: Sequence[Mapping[str, Any]]) -> Entry | None:
    """Reports before version 1.3 do not tell their suite: what was judged stands for it."""
    judged = [gate for gate in gates if gate["alpha"] is not None]
    if not judged:
        return None
    found = dict.fromkeys((gate["test"], gate["kind"], gate["metric"]) for gate in gates)
    return {
        "shard": None,
        "shards": None,
        # A second attempt is judged with half of it.
        "alpha": max(gate["alpha"] for gate in judged),
        "share": 1.0,
        "family": max(gate["family"] for gate in judged),
        "gates": [
            {"test": test, "kind": kind, "metric": metric, "selected": True}
            for test, kind, metric in found
        ],
    }


def _server(server: Mapping[str, Any], part: str) -> Entry:
    launches = [{**launch, "id": _own(launch["id"], part)} for launch in server["launches"]]
    return {**server, "id": _own(server["id"], part), "launches": launches, "part": part}


def _renamed(entry: Mapping[str, Any], kind: str, part: str) -> Entry:
    """An entry in whose ids no other session's can be mistaken for its own."""
    found = dict(entry)
    # A gate's reference is a figure.
    for name in ("measurement",) if kind == "gates" else ("id", "server", "reference"):
        if name in entry:
            found[name] = _own(entry[name], part)
    if kind == "measurements":
        found["runs"] = [
            {**run, "launch_id": _own(run["launch_id"], part)} for run in entry["runs"]
        ]
    if kind == "sweeps":
        found["points"] = [
            {**point, "measurement": _own(point["measurement"], part)} for point in entry["points"]
        ]
    return found


def _own(name: str | None, part: str) -> str | None:
    return name and f"{part}-{name}"


# --- the same test twice -----------------------------------------------------------------------


def _repeated(sessions: Sequence[Session]) -> list[tuple[Session, str]]:
    """Tests of which a newer session has a result on the same environment, the oldest first."""
    newest = {
        (session.environment, test): session for session in sessions for test in session.tests
    }
    return [
        (session, test)
        for session in sessions
        for test in session.tests
        if newest[session.environment, test] is not session
    ]


def _twice(session: Session, test: str, sessions: Sequence[Session]) -> str:
    also = [
        other.facts["created"]
        for other in sessions
        if test in other.tests and other.environment == session.environment
    ]
    return (
        f"{test} was measured by {len(also)} sessions on the same environment "
        f"(those of {' and '.join(also)}), and one report has room for one result of it; give "
        "--latest to let the newest count, or leave the others out."
    )


def _supersede(session: Session, test: str) -> None:
    """Take a test out of a session, and with it the servers that nothing else was measured on."""
    before = _measured_on(session)
    unit = session.tests.pop(test)
    lost = before - _measured_on(session)
    session.servers = {name: each for name, each in session.servers.items() if name not in lost}
    words = [gate["verdict"] for gate in unit.get("gates", ())]
    outcome = next((each["outcome"] for each in unit.get("tests", ())), None)
    worst = max(words, key=SEVERITY.__getitem__, default=None)
    _note_superseded(session.facts, [{"test": test, "outcome": outcome, "verdict": worst}])


def _note_superseded(facts: Entry, more: Iterable[Mapping[str, Any]]) -> None:
    known = {entry["test"]: entry for entry in facts["superseded"]}
    known |= {entry["test"]: dict(entry) for entry in more}
    facts["superseded"] = [known[test] for test in sorted(known)]


def _measured_on(session: Session) -> set[str]:
    return {
        entry["server"] for unit in session.tests.values() for entry in unit.get("measurements", ())
    }
