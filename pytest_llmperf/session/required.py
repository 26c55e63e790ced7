"""What --llmperf-require demands: in a part of the suite every gate ran, and one was decided.

The gates that should have run are those collected, also where they were deselected afterwards, and
those that the store knows of earlier sessions, until somebody retires them.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from pytest_llmperf.expectations import Expectation
from pytest_llmperf.judging_options import Scope, Shard
from pytest_llmperf.records import Level, Observation
from pytest_llmperf.report.required import gates_on, nothing_decided

#: The group of xdist's that every test with a server is put into.
GROUP = "llmperf"
#: Outcomes of tests that are red already and tell why themselves.
_RED = frozenset({"failed", "slow", "broken", "could_not_measure"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A gate by name. ``kind`` is "" where an old store does not tell."""

    test: str
    kind: str
    metric: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A gate that the store knows, and the day on which it was last judged."""

    gate: Gate
    on: str


@dataclass(slots=True, kw_only=True)
class Roll:
    """What a session set out to judge: every gate collected, and the tests that were to run."""

    declared: set[Gate] = field(default_factory=set)
    selected: set[str] = field(default_factory=set)

    def select(self, ids: Iterable[str]) -> None:
        """Note the tests that are to run."""
        self.selected |= {without_group(nodeid) for nodeid in ids}

    def declare(self, expectations: Iterable[Expectation]) -> None:
        """Note the gates of collected tests."""
        for each in expectations:
            kinds: list[tuple[str, str]] = [(limit.kind, limit.metric) for limit in each.limits]
            kinds += [("regression", gate.metric) for gate in each.regressions]
            self.declared |= {Gate(test=each.nodeid, kind=k, metric=m) for k, m in kinds}

    def entry(self, *, alpha: float, family: int, shard: Shard | None) -> dict[str, Any]:
        """The report's ``suite``: ``alpha`` is the false-alarm rate of this session's gates, and
        ``family`` is their number where the ini file fixes it, else 0."""
        gates = sorted(self.declared, key=lambda gate: (gate.test, gate.kind, gate.metric))
        # Of a shard, what it deselects is not its own.
        counted = [gate for gate in gates if shard is None or gate.test in self.selected]
        shards = shard.of if shard else 1
        return {
            "shard": shard and shard.index,
            "shards": shard and shards,
            "alpha": alpha * shards,
            "share": 1 / shards,
            "family": family or max(1, len(counted)),
            "gates": [{**asdict(gate), "selected": gate.test in self.selected} for gate in gates],
        }

    def packed(self) -> list[list[str]]:
        """What is declared, as xdist can carry it."""
        return [[gate.test, gate.kind, gate.metric] for gate in self.declared]

    def unpack(self, packed: Iterable[Sequence[str]]) -> None:
        self.declared |= {Gate(test=t, kind=k, metric=m) for t, k, m in packed}


def without_group(nodeid: str) -> str:
    """xdist writes the group of a test behind its name; ours are all in one."""
    head, _, group = nodeid.rpartition("@")
    return head if GROUP in group.split("_") else nodeid


def known_gates(observations: Iterable[Observation], levels: Iterable[Level]) -> list[Known]:
    """Every gate that was observed and not retired since."""
    retired: dict[tuple[str, str], str] = {}
    for level in levels:
        for metric in level.retired:
            retired[level.key, metric] = max(level.created, retired.get((level.key, metric), ""))
    found: dict[Gate, str] = {}
    for each in observations:
        for kind, metric in _gates_of(each):
            if each.created > retired.get((each.key, metric), ""):
                gate = Gate(test=each.test, kind=kind, metric=metric)
                found[gate] = max(each.created[:10], found.get(gate, ""))
    return [Known(gate=gate, on=on) for gate, on in found.items()]


def _gates_of(observation: Observation) -> list[tuple[str, str]]:
    if observation.judged:
        return [(gate.kind, gate.metric) for gate in observation.judged]
    return [("", metric) for metric in observation.gates]


def shortcomings(
    scope: Scope,
    roll: Roll,
    known: Sequence[Known],
    fragments: Sequence[Mapping[str, Any]],
    endings: Mapping[str, str],
    store: str,
) -> list[str]:
    """A sentence for each test of ``scope`` whose gates did not all run, or one for all of them.

    ``fragments`` are what the tests that ran handed over; ``endings`` is how each test ended in
    pytest's own words.
    """
    judged = [gate for gate in _last_gates(fragments) if scope.covers(gate["test"])]
    declared = {gate for gate in roll.declared if scope.covers(gate.test)}
    remembered = {each.gate: each.on for each in known if scope.covers(each.gate.test)}
    if not declared and not remembered:
        return [
            f"--llmperf-require {scope.given}: no gate was collected there; name the place of "
            "tests with llm_floor, llm_ceiling or llm_no_regression, and see that pytest is "
            "called with it"
        ]
    absent = _absent(declared | remembered.keys(), judged)
    outcomes = {**_plain(endings), **_outcomes(fragments)}
    sentences = [
        _sentence(test, gates, roll, remembered, outcomes.get(test, ""), scope, store)
        for test, gates in absent.items()
        if outcomes.get(test) not in _RED
    ]
    return sentences or list(nothing_decided(judged, f"--llmperf-require {scope.given}"))


def shortcomings_of_shard(
    scope: Scope,
    roll: Roll,
    fragments: Sequence[Mapping[str, Any]],
    endings: Mapping[str, str],
    store: str,
) -> list[str]:
    """The same for one session of several: tests that were to run here and came to no verdict. What
    it lacks beside those, others may have; ``pytest-llmperf merge --require`` sees."""
    judged = [gate for gate in _last_gates(fragments) if scope.covers(gate["test"])]
    outcomes = {**_plain(endings), **_outcomes(fragments)}
    left_to_others = {test for test, outcome in outcomes.items() if outcome == "skipped"}
    mine = roll.selected - left_to_others
    wanted = {gate for gate in roll.declared if gate.test in mine and scope.covers(gate.test)}
    return [
        _sentence(test, gates, roll, {}, outcomes.get(test, ""), scope, store)
        for test, gates in _absent(wanted, judged).items()
        if outcomes.get(test) not in _RED
    ]


def _absent(wanted: Iterable[Gate], judged: Sequence[Mapping[str, Any]]) -> dict[str, list[Gate]]:
    """Gates of which no verdict is there, by test."""
    exactly = {(gate["test"], gate["kind"], gate["metric"]) for gate in judged if gate["covered"]}
    roughly = {(test, "", metric) for test, _, metric in exactly}
    found: dict[str, list[Gate]] = {}
    for gate in sorted(wanted, key=lambda each: (each.test, each.metric, each.kind)):
        if (gate.test, gate.kind, gate.metric) not in exactly | roughly:
            found.setdefault(gate.test, []).append(gate)
    return found


def _sentence(
    test: str,
    gates: Sequence[Gate],
    roll: Roll,
    remembered: Mapping[Gate, str],
    outcome: str,
    scope: Scope,
    store: str,
) -> str:
    many = gates_on([gate.metric for gate in gates])
    if not set(gates) & roll.declared:
        on = max(remembered[gate] for gate in gates)
        collected = test in {gate.test for gate in roll.declared} | roll.selected
        why = "is not declared any more" if collected else "was not collected"
        retire = f"pytest-llmperf baseline retire {shlex.quote(test)} --store {shlex.quote(store)}"
        return (
            f"{test}: its {many}, judged on {on}, {why}; run the test, and if it was renamed or "
            f"taken away on purpose: {retire} --reason TEXT"
        )
    return (
        f"{test}: its {many} did not run, {_why(test, roll, outcome)}; run it, or name less in "
        f"--llmperf-require {scope.given}"
    )


def _why(test: str, roll: Roll, outcome: str) -> str:
    if test not in roll.selected:
        return "the test was deselected"
    if outcome in ("skipped", "xfailed"):
        return f"the test was {'skipped' if outcome == 'skipped' else 'expected to fail'}"
    return "the test never came to its end" if not outcome else "the test measured nothing"


def _last_gates(fragments: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    found = {
        (gate["test"], gate["kind"], gate["metric"]): gate
        for fragment in fragments
        for gate in fragment.get("gates", ())
    }
    return list(found.values())


def _plain(endings: Mapping[str, str]) -> dict[str, str]:
    return {without_group(nodeid): outcome for nodeid, outcome in endings.items()}


def _outcomes(fragments: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    return {
        test["test"]: test["outcome"]
        for fragment in fragments
        for test in fragment.get("tests", ())
    }
