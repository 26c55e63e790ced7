"""Which gates of a suite none of the merged sessions judged, and how that is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pytest_llmperf.metrics.units import spoken

Part = Mapping[str, Any]
_MOST = 5


def holes(parts: Sequence[Part], gates: Sequence[Mapping[str, Any]], scope: str) -> list[str]:
    """A sentence for each test of ``scope`` with a gate that no session has a verdict of, or one
    for all where none was decided. ``gates`` are those of the merged report with their tests by
    node id; ``scope`` is a node id or the beginning of some, "" for all."""
    given = f"--require {scope or '.'}"
    judged = [gate for gate in gates if within(gate["test"], scope)]
    known = _known(parts, scope)
    if not known:
        return [
            f"{given}: no session has collected a gate there; name the place as node ids begin, "
            f"such as {_example(parts) or 'tests/perf'}"
        ]
    seen = {(gate["test"], gate["kind"], gate["metric"]) for gate in judged if gate["covered"]}
    missing: dict[str, list[str]] = {}
    for test, _, metric in sorted(known.keys() - seen):
        missing.setdefault(test, []).append(metric)
    sentences = [_sentence(test, names, known, given) for test, names in missing.items()]
    return sentences or list(nothing_decided(judged, given))


def within(test: str, scope: str) -> bool:
    """Whether a test is below a directory, in a file or class, or of any parameters."""
    ends = ("/", "::", "[")
    return not scope or test == scope or test.startswith(tuple(scope + end for end in ends))


def _known(parts: Sequence[Part], scope: str) -> dict[tuple[str, str, str], bool]:
    """Gates that were collected, and whether any session was to run them."""
    found: dict[tuple[str, str, str], bool] = {}
    for part in parts:
        for gate in (part["suite"] or {}).get("gates", ()):
            if within(gate["test"], scope):
                key = gate["test"], gate["kind"], gate["metric"]
                found[key] = found.get(key, False) or gate["selected"]
    return found


def _sentence(
    test: str, metrics: Sequence[str], known: Mapping[tuple[str, str, str], bool], given: str
) -> str:
    selected = any(chosen for (name, _, metric), chosen in known.items() if name == test)
    why = (
        "no session that was to run it came to a verdict"
        if selected
        else "every session deselected it"
    )
    return (
        f"{test}: nobody judged its {gates_on(metrics)}: {why}; run it in one of the sessions, "
        f"or name less in {given}"
    )


def gates_on(metrics: Sequence[str]) -> str:
    """Gates of a test, each told by its metric."""
    names = " and ".join(dict.fromkeys(spoken(metric) for metric in metrics))
    return f"gate{'s' * (len(metrics) > 1)} on {names}"


def nothing_decided(judged: Sequence[Mapping[str, Any]], given: str) -> Iterator[str]:
    """A sentence where none of the gates ``judged`` was decided; ``given`` is the option, with its
    value, that wants one to be."""
    if any(gate["verdict"] != "inconclusive" for gate in judged):
        return
    codes = Counter(gate["reason_code"] for gate in judged)
    shown = ", ".join(f"{number} {code}" for code, number in codes.most_common(_MOST))
    yield (
        f"{given}: not one gate was decided ({shown or 'none was judged'}); give them more "
        "launches or pairs, or remember more sessions"
    )


def _example(parts: Sequence[Part]) -> str:
    tests = sorted(
        gate["test"] for part in parts for gate in (part["suite"] or {}).get("gates", ())
    )
    return str(tests[0]).partition("::")[0] if tests else ""
