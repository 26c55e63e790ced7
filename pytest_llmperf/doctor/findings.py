"""What the doctor found, for people as lines and for CI as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from pytest_llmperf.records import Json, Scalar

#: Of the JSON's shape: a number that grows when a name in it changes its meaning or goes.
FORMAT = 1
_COLUMN = 12

Level = Literal["warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing to know before results are believed.

    A ``warning`` spoils results or keeps something from running, a ``note`` is good to know.
    ``code`` is for programs and keeps its meaning; ``what`` it is, ``why`` it matters and what to
    do about it (``remedy``) are for people.
    """

    level: Level
    code: str
    what: str
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.level:<{_COLUMN}} {self.what}: {self.why}; {self.remedy}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """An engine that is installed; ``runs`` is false where it is known not to start here."""

    name: str
    version: str | None
    place: str
    runs: bool = True

    def __str__(self) -> str:
        what = " ".join(part for part in (self.name, self.version) if part)
        return f"{'engine':<{_COLUMN}} {what} ({self.place})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """``facts`` are lines of their own by their name; ``accelerator`` and ``environment`` are for
    programs, empty where the accelerator is unknown; ``no_engine`` says why nothing can run."""

    facts: Mapping[str, str]
    accelerator: Mapping[str, Json]
    environment: Mapping[str, Scalar]
    engines: tuple[Engine, ...]
    found: tuple[Finding, ...]
    no_engine: str = ""

    @property
    def can_run(self) -> bool:
        return any(engine.runs for engine in self.engines)

    @property
    def lines(self) -> tuple[str, ...]:
        """For people: facts, engines, then warnings before notes."""
        told = [f"{name:<{_COLUMN}} {fact}" for name, fact in self.facts.items()]
        told += [str(engine) for engine in self.engines]
        if not self.can_run:
            told.append(f"{'engine':<{_COLUMN}} {self.no_engine}")
        for level in ("warning", "note"):
            told += [str(one) for one in self.found if one.level == level]
        return tuple(told)

    def as_json(self) -> dict[str, Json]:
        """For programs; every name is always there."""
        return {
            "format": FORMAT,
            "can_run": self.can_run,
            "accelerator": dict(self.accelerator) or None,
            "environment": dict(self.environment),
            "engines": [
                {"name": one.name, "version": one.version, "place": one.place, "runs": one.runs}
                for one in self.engines
            ],
            "findings": [
                {
                    "level": one.level,
                    "code": one.code,
                    "what": one.what,
                    "why": one.why,
                    "remedy": one.remedy,
                }
                for one in self.found
            ],
        }
