"""Asking again does not launder: which attempt at the same question a session is.

Every session that decides about the same commit, subject and reference anew has another chance of
a false alarm, so the n-th is judged at alpha / 2^(n-1); and what failed once is not cleared by a
session that decides nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from pytest_llmperf.records import Json, Observation, RegressionGate, Verdict, VerdictWord

#: Sessions that are no farther apart are re-runs.
RERUN_HOURS = 20
_DIGITS = 16
_DECIDED = ("pass", "fail")
_SAID = {"pass": "passed", "fail": "failed"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """Pairs that earlier sessions left: means of the candidate's and of the reference's launch, in
    the metric's unit. ``most_pairs`` end the sequence. ``since`` is the day of the first, ""
    without any; ``missing`` counts pairs that the store had once."""

    most_pairs: int
    pairs: tuple[tuple[float, float], ...] = ()
    since: str = ""
    missing: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One more session that judges a gate, the ``number``-th to decide its ``sequence``.

    ``last`` is the newest earlier decision and ``on`` the day of it, where there is one. ``nights``
    is what sessions before left of a sequence that goes on over sessions.
    """

    sequence: str = ""
    number: int = 1
    last: VerdictWord | None = None
    on: str = ""
    nights: Nights | None = None

    def share(self, alpha: float) -> float:
        """What this attempt may use of ``alpha``: all attempts together at most twice of it."""
        return float(alpha / 2 ** (self.number - 1))

    def told(self, verdict: Verdict) -> Verdict:
        """``verdict`` with the attempt in it; a failure stands until a session passes."""
        numbered = replace(verdict, attempt=self.number)
        if self.last is None or not verdict.covered:
            return numbered
        if verdict.verdict == "inconclusive" and self.last == "fail":
            return replace(
                numbered,
                verdict="fail",
                reason_code="failed_before",
                reason=f"failed before, on {self.on}, and this session does not clear it: "
                f"{verdict.reason}",
            )
        if self.number == 1:
            return numbered
        part = f"1/{2 ** (self.number - 1)} of the false alarms"
        how = f"attempt {self.number} on this commit, which {_SAID[self.last]} on {self.on}"
        return replace(numbered, reason=f"{verdict.reason}; {how}: judged with {part}")


def attempt_at(
    sequence: str, observations: Iterable[Observation], now: datetime | None = None
) -> Attempt:
    """The attempt that follows those in ``observations``, the oldest first.

    Only those of the last :data:`RERUN_HOURS` count: a nightly session of an unchanged commit is
    not the same question asked again, and would go blind. A failure stands however old it is.
    """
    since = (now or datetime.now(UTC)) - timedelta(hours=RERUN_HOURS)
    earlier = [
        (gate.verdict, observation.created)
        for observation in observations
        for gate in observation.judged
        if sequence and gate.sequence == sequence and gate.verdict in _DECIDED
    ]
    if not earlier:
        return Attempt(sequence=sequence)
    last, at = earlier[-1]
    again = sum(datetime.fromisoformat(created) >= since for _, created in earlier)
    return Attempt(sequence=sequence, number=again + 1, last=last, on=at[:10])


def sequence_of(
    gate: RegressionGate, git: Mapping[str, Any], subject: Mapping[str, Json], against: str
) -> str:
    """A digest of what is asked; "" where nothing would tell the next candidate from this one."""
    if git.get("commit") is None and not _tells(subject):
        return ""
    asked = [
        [gate.metric, gate.loss_to_catch, gate.allow],
        [git.get("commit"), git.get("dirty_digest")],
        lasting(subject),
        against,
    ]
    text = json.dumps(asked, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


def _tells(subject: Mapping[str, Json]) -> bool:
    """Whether anything is known of what runs; not behind an address that is only attached to."""
    return bool(subject) and not subject.get("url")


def lasting(subject: Mapping[str, Json]) -> dict[str, Json]:
    """Without what a commit or a new file beside the code changes though the code is the same."""
    code = subject.get("code")
    if not isinstance(code, dict):
        return dict(subject)
    digests = {name: root.get("digest") for name, root in code.items() if isinstance(root, dict)}
    return {**subject, "code": digests}
