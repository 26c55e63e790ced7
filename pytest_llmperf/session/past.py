"""What is known of a test from the sessions before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pytest_llmperf.records import Json, Level, Observation, RegressionGate
from pytest_llmperf.redact import redact_mapping

from .comparison import Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Past:
    """What is known of one test on one workload in one environment.

    ``observations`` are the sessions before, the oldest first, ``accepted`` those that the accepted
    ``level`` rests on. ``refused`` says why a level of another environment does not hold here.
    ``changed`` is what differs from the newest accepted one, in words.
    """

    key: str
    observations: tuple[Observation, ...]
    level: Level | None
    accepted: tuple[Observation, ...]
    refused: str | None
    changed: tuple[str, ...]

    @property
    def sessions(self) -> int:
        """How many sessions there were before."""
        return len(self.observations)

    def launches(self, metric: str) -> list[list[float]]:
        """Launch means of ``metric``, for each accepted session that has it."""
        found = [
            [launch.metrics[metric] for launch in each.launches if metric in launch.metrics]
            for each in self.accepted
        ]
        return [launches for launches in found if launches]

    def held(self, gate: RegressionGate, subject: Mapping[str, Json]) -> Refusal | None:
        """What the gate's test holds fixed and some session of the level did not have."""
        plain = redact_mapping(subject, repeated=False)  # as it is kept
        found = (
            Refusal.held(gate, plain, each.subject, self.against, "history")
            for each in reversed(self.accepted)
        )
        return next((why for why in found if why is not None), None)

    @property
    def against(self) -> str:
        """The accepted level in words."""
        return in_words(self.level, self.accepted)


def in_words(level: Level | None, accepted: Sequence[Observation]) -> str:
    """A level and what is left of the sessions that it rests on, the oldest first."""
    if level is None:
        return "no accepted level"
    on = f"the level accepted on {level.created[:10]}"
    if not accepted:
        return on
    newest = accepted[-1]
    version = newest.subject.get("version")
    commit = f", {newest.commit[:7]}" if newest.commit else ""
    of = f" of {newest.subject.get('engine')} {version}" if version else ""
    return f"{on}{of}{commit}"
