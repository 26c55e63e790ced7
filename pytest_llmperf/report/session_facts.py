"""What is said of all sessions of a merged report, worked out of the facts of each.

A session's facts are an entry of ``merged.parts``: see the schema for the words.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .document import Entry
from .words import count, percent

Part = Mapping[str, Any]
#: Statuses of pytest's own for a session that came to no end, the worst first.
_NO_SESSION = (3, 4, 2)
_FAILED, _NOTHING_COLLECTED = 1, 5
#: Beside pytest's own: only gates failed; something could not be measured.
EXIT_GATE, EXIT_UNMEASURED = 10, 11
#: Of a session that could not tell; of one whose report does not know how it ended.
_UNMEASURED = frozenset({EXIT_UNMEASURED, None})
#: What tests decide. Any other is that of pytest, a hook or a test that ended the session.
_OF_TESTS = frozenset({0, _FAILED, _NOTHING_COLLECTED, EXIT_GATE, EXIT_UNMEASURED, None})
_BROKEN = frozenset({"broken", "could_not_measure"})
#: What sums of shares may be off by in floating point.
_SLACK = 1e-9


def with_names(parts: Sequence[Entry]) -> None:
    """Name each by its label and its shard, and by its machine and its time as far as it takes."""
    for part in parts:
        part["name"] = part["label"] + _shard(part)
    for more in (_host, _time):
        names = Counter(part["name"] for part in parts)
        for part in parts:
            part["name"] += more(part) if names[part["name"]] > 1 else ""


def _shard(part: Part) -> str:
    suite = part["suite"] or {}
    return f", shard {suite['shard']} of {suite['shards']}" if suite.get("shards") else ""


def _host(part: Part) -> str:
    host = part["environment"]["host"].get("hostname")
    return f", {host}" if host else ""


def _time(part: Part) -> str:
    return f", {part['created']}"


def gone(part: Part) -> bool:
    """Whether other sessions took the place of all that a session had."""
    return not part["tests"] and bool(part["superseded"])


# --- the false-alarm rate ----------------------------------------------------------------------


def shared(parts: Sequence[Part]) -> Entry:
    """``alpha``: the most that the false-alarm rates of all gates add up to; ``share``: of the rate
    that is meant for all of them, which is that of one session without shards. Comparisons with a
    named release have a rate of their own. ``None`` where no session judged anything."""
    spent: dict[float, float] = {}
    for part in parts:
        if part["suite"]:
            alpha = part["suite"]["alpha"]
            spent[alpha] = spent.get(alpha, 0.0) + _spent(part["suite"])
    return {
        "alpha": sum(alpha * share for alpha, share in sorted(spent.items())) if spent else None,
        "share": max(spent.values()) if spent else None,
    }


def _spent(suite: Mapping[str, Any]) -> float:
    """Of the whole suite's rate what the gates that were to run here may use."""
    gates = sum(gate["selected"] for gate in suite["gates"])
    spent: float = suite["share"] * gates / suite["family"]
    return spent


def missing_shards(parts: Sequence[Part]) -> list[str]:
    """Shards of which there is no report, "shard 3 of 8"."""
    found: dict[int, set[int]] = {}
    for part in parts:
        suite = part["suite"] or {}
        if suite.get("shards"):
            found.setdefault(suite["shards"], set()).add(suite["shard"])
    return [
        f"shard {index} of {of}"
        for of, known in sorted(found.items())
        for index in range(1, of + 1)
        if index not in known
    ]


# --- words -------------------------------------------------------------------------------------


def problems_of(parts: Sequence[Part]) -> list[str]:
    """What made sessions red beside their tests, and what is missing altogether."""
    several = len(parts) > 1
    found = [
        f"{part['name']}: {problem}" if several else problem
        for part in parts
        if not gone(part)
        for problem in part["problems"]
    ]
    lost = missing_shards(parts)
    if lost:
        found.append(
            f"there is no report of {', '.join(lost)}: merge that too, or run it first; what it "
            "was to judge nobody has judged"
        )
    return list(dict.fromkeys(found))


def notes_of(parts: Sequence[Part]) -> list[str]:
    """What to know of the whole, a sentence each."""
    return [
        *_alarms(parts),
        *_mixed(parts),
        *_incomplete(parts),
        *_ended_otherwise(parts),
        *_again(parts),
    ]


def _alarms(parts: Sequence[Part]) -> Iterator[str]:
    share, alpha = shared(parts)["share"], shared(parts)["alpha"]
    if share is None or share <= 1 + _SLACK:
        return
    meant = percent(max(part["suite"]["alpha"] for part in parts if part["suite"]))
    yield (
        f"the shares of these sessions add up to {share:.3g} times the false-alarm rate that is "
        f"meant for all of them: where nothing has changed, a gate fails in up to {percent(alpha)} "
        f"of such nights rather than {meant}; give each session its share with --llmperf-shard I/N"
    )


def _mixed(parts: Sequence[Part]) -> Iterator[str]:
    versions = sorted({part["tool_version"] for part in parts})
    if len(versions) > 1:
        yield (
            f"sessions ran with pytest-llmperf {' and '.join(versions)}; use one version, so that "
            "all are measured and judged in the same way"
        )
    commits = sorted({commit for part in parts if (commit := _commit(part))})
    if len(commits) > 1:
        yield (
            f"sessions ran the suite at different commits ({', '.join(commits)}), so the verdict "
            "is not about one of them; check out one commit everywhere"
        )
    unknown = [part["name"] for part in parts if not _commit(part)]
    if commits and unknown:
        yield (
            f"nobody knows at which commit these sessions ran the suite: {'; '.join(unknown)}; run "
            "them in a checkout with git, so that the verdict is known to be about one commit"
        )


def _commit(part: Part) -> str:
    return (part["environment"]["git"]["commit"] or "")[:10]


def _incomplete(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        if not part["complete"] and not gone(part):
            yield f"{part['name']}: the session was interrupted, or results were lost"


def _ended_otherwise(parts: Sequence[Part]) -> Iterator[str]:
    """What a session ended with beside its gates: that others measured again does not undo it."""
    for part in parts:
        status = part["exit_status"]
        if not part["superseded"] or gone(part):
            continue
        if status == _FAILED or status not in _OF_TESTS:
            yield (
                f"{part['name']}: the session of {part['created']} ended with {status}, which need "
                "not be about the tests that were measured again, so it counts as before; leave "
                "its report out if it was about nothing else"
            )


def _again(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        for entry in part["superseded"]:
            word = entry["verdict"] or entry["outcome"] or "nothing"
            yield (
                f"{entry['test']} on {part['label']} was measured again: the newest session "
                f"counts, and that of {part['created']} said {word}"
            )


def title_of(part: Part) -> str:
    """A session in one line."""
    status = "" if part["exit_status"] is None else f", exit status {part['exit_status']}"
    again = f", {count(len(part['superseded']), 'test')} superseded" if part["superseded"] else ""
    lost = "" if part["complete"] else ", INCOMPLETE"
    return f"{part['name']}: {count(part['tests'], 'test')}{again}{status}{lost}"


# --- the exit status ---------------------------------------------------------------------------


def status_of(
    parts: Sequence[Part], tests: Sequence[Mapping[str, Any]], problems: Sequence[str]
) -> int:
    """That of one session with all these tests, as :class:`pytest_llmperf.session.collect.Results`
    has it: a session that never was goes first, then a plain failure, a status that is nobody's
    here, lost results, slow, broken. One that ``-x`` stopped at a slow test is a slow one.
    """
    there = [part for part in parts if not gone(part)]
    statuses = [_status(part, tests) for part in there]
    foreign = sorted(filter(None, set(statuses) - _OF_TESTS), reverse=True)
    for status in (*_NO_SESSION, _FAILED, *foreign):
        if status in statuses:
            return status
    cut = {status for part, status in zip(there, statuses, strict=True) if not part["complete"]}
    if missing_shards(parts) or cut - {EXIT_GATE}:
        return EXIT_UNMEASURED
    if EXIT_GATE in statuses:
        return EXIT_GATE
    if problems or _UNMEASURED.intersection(statuses):
        return EXIT_UNMEASURED
    return _NOTHING_COLLECTED if set(statuses) == {_NOTHING_COLLECTED} else 0


def _status(part: Part, tests: Sequence[Mapping[str, Any]]) -> int | None:
    """A session's own status, without what other sessions have taken the place of."""
    status: int | None = part["exit_status"]
    if not part["superseded"] or status not in (EXIT_GATE, EXIT_UNMEASURED):
        return status
    outcomes = {test["outcome"] for test in tests if test.get("part") == part["id"]}
    if "slow" in outcomes:
        return EXIT_GATE
    return EXIT_UNMEASURED if part["problems"] or outcomes & _BROKEN else 0
