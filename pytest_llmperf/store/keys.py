"""Which observations may be compared: equal test, workload and environment have equal keys."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from hashlib import sha256
from pathlib import PurePosixPath

from pytest_llmperf.records import Observation, Scalar

from .base import Store
from .documents import canonical, moment

_DIGITS = 10
_LONGEST_SLUG = 60
_KEY = re.compile(r"(?P<stem>.+\.[0-9a-f]{10})\.[0-9a-f]{10}")


def key_of(
    test: str, workload_digest: str, environment: Mapping[str, Scalar], gate_version: int
) -> str:
    """ "test_chat-test_speed.3f2a9c1b07.7d0e11aa42": the test, to be read by people, then digests.

    The first digest is that of test and workload, the second that of the environment's facts and
    of ``gate_version``, which changes when gates begin to judge otherwise. Numbers that are equal
    count as equal: 80 and 80.0. Raises :class:`StoreError` for a fact that is no finite scalar.
    """
    facts = {name: _plain(value) for name, value in environment.items()}
    what = _digest(canonical([test, workload_digest]))
    return f"{slug(_last_part(test))}.{what}.{_digest(canonical([facts, gate_version]))}"


def without_environment(key: str) -> str | None:
    """The part of a key that stands for test and workload; ``None`` of one not made here."""
    match = _KEY.fullmatch(key)
    return match["stem"] if match else None


def near(store: Store, key: str) -> list[Observation]:
    """What was observed of the same test and workload in other environments, the newest first.

    One observation of each other key, its newest: enough to name the facts that differ.
    """
    stem = without_environment(key)
    if stem is None:
        return []
    every = store.keys()
    others = [other for other in every if other != key and without_environment(other) == stem]
    newest = [kept[-1] for other in others if (kept := store.observations(other))]
    return sorted(newest, key=lambda observation: moment(observation.created), reverse=True)


def slug(text: str, longest: int = _LONGEST_SLUG) -> str:
    """``text`` in small letters, digits, "_" and "-" between them, for names; never empty."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9_]+", "-", plain).strip("-_")[:longest].strip("-_") or "x"


def _last_part(test: str) -> str:
    """The file's name and what is in it; directories are in the digest only."""
    file, _, inside = test.partition("::")
    return f"{PurePosixPath(file).name.removesuffix('.py')}-{inside}"


def _plain(value: Scalar) -> Scalar:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()[:_DIGITS]
