"""Environments of several sessions: what they are called, and what they have in common."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .document import Entry

Environment = Mapping[str, Any]
_NOTHING = "not told"


def fingerprint_key(match: Mapping[str, Any]) -> str:
    """A short name for an environment: equal facts have equal keys."""
    text = json.dumps(dict(match), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def labels(environments: Iterable[Environment]) -> dict[str, str]:
    """What to call each of them, by its fingerprint's key: the accelerator, and where several are
    called alike what tells them apart."""
    found = {each["fingerprint"]["key"]: each for each in environments}
    names: dict[str, list[str]] = {}
    for key in sorted(found):
        names.setdefault(_accelerators(found[key]), []).append(key)
    told = {}
    for name, keys in names.items():
        facts = [found[key]["fingerprint"]["match"] for key in keys]
        apart = _differing(facts)
        for key, own in zip(keys, facts, strict=True):
            more = ", ".join(f"{_words(fact)} {_text(own.get(fact))}" for fact in apart)
            told[key] = (
                f"{name} ({more})" if more else name if len(keys) == 1 else f"{name} ({key})"
            )
    return told


def _accelerators(environment: Environment) -> str:
    found = (
        f"{each['count']}x {each['product']}" if each["count"] > 1 else str(each["product"])
        for each in environment["accelerators"]
    )
    return " and ".join(found) or "nothing"


def _differing(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    names = dict.fromkeys(name for each in facts for name in each)
    return [name for name in names if len({_text(each.get(name)) for each in facts}) > 1]


def _words(fact: str) -> str:
    return fact.replace("_", " ")


def _text(value: Any) -> str:
    return _NOTHING if value is None else str(value)


def common_environment(environments: Sequence[Environment]) -> Entry:
    """One environment of all: every accelerator, and facts with the values of all, joined where
    they differ; of hosts and checkouts only what holds of all."""
    match = _joined([each["fingerprint"]["match"] for each in environments])
    keys = {each["fingerprint"]["key"] for each in environments}
    context = _joined([each["fingerprint"]["context"] for each in environments])
    pythons = sorted({each["python"] for each in environments if each["python"]})
    return {
        "accelerators": _distinct(
            accelerator for each in environments for accelerator in each["accelerators"]
        ),
        "fingerprint": {
            "key": keys.pop() if len(keys) == 1 else fingerprint_key(match),
            "match": match,
            "context": context,
        },
        "host": _shared([each["host"] for each in environments]),
        "python": "; ".join(pythons) or None,
        "packages": {
            name: value
            for name, value in _joined([each["packages"] for each in environments]).items()
            if isinstance(value, str)
        },
        "git": _git([each["git"] for each in environments]),
    }


def _distinct(entries: Iterable[Mapping[str, Any]]) -> list[Entry]:
    found = {json.dumps(each, sort_keys=True): dict(each) for each in entries}
    return [found[text] for text in sorted(found)]


def _joined(facts: Sequence[Mapping[str, Any]]) -> Entry:
    """Each fact as all have it; where they differ, the different values as one text."""
    found: Entry = {}
    for name in sorted({name for each in facts for name in each}):
        values = {json.dumps(each.get(name)): each.get(name) for each in facts}
        if len(values) == 1:
            found[name] = next(iter(values.values()))
        else:
            found[name] = "; ".join(sorted(_text(value) for value in values.values()))
    return found


def _shared(facts: Sequence[Mapping[str, Any]]) -> Entry:
    return {
        name: value
        for name, value in sorted(facts[0].items())
        if all(name in each and each[name] == value for each in facts)
    }


def _git(states: Sequence[Mapping[str, Any]]) -> Entry:
    found: Entry = {}
    for name in ("commit", "branch", "dirty", "dirty_digest"):
        values = {state[name] for state in states}
        found[name] = values.pop() if len(values) == 1 else None
    if any(state["dirty"] for state in states):
        found["dirty"] = True
    return found
