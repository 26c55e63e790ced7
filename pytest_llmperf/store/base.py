"""What a store offers, and what a place to keep documents in must offer for that."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from pytest_llmperf.errors import LlmPerfError
from pytest_llmperf.records import Level, NoiseProfile, Observation

Kind = Literal["observation", "level", "profile"]
#: What a shelf is opened for; "alone" writes, and keeps out everybody else who is alone.
Mode = Literal["read", "write", "alone"]
Record = Observation | Level | NoiseProfile


class StoreError(LlmPerfError):
    """A store that cannot be opened, read or written, or holds what it should not; says where."""


class Store(Protocol):
    """The remembered past of a suite. Every method raises :class:`StoreError`.

    Nothing is ever changed in place: what is appended twice with equal content is kept once, and
    an id that is taken by other content is an error. Several processes may write at once.
    """

    def append(self, observation: Observation) -> None:
        """Keep one observation; what was kept as a part of it is then no longer needed, and goes.

        The id of a part begins with that of the whole and a dot."""

    def observations(self, key: str | None = None) -> list[Observation]:
        """Those of ``key``, or all; the oldest first. Parts whose whole was never kept are one."""

    def accept(self, level: Level) -> None:
        """Keep an acceptance, which from now on holds for its key.

        Its observations must be kept already, under the same key, and it must be dated later than
        the key's other levels: else it would not be the one that holds.
        """

    def levels(self, key: str | None = None) -> list[Level]:
        """The oldest first; of each key the last one holds."""

    def save_profile(self, profile: NoiseProfile) -> None:
        """Keep a calibration's profile; dated later than the key's others, as with levels."""

    def profile(self, key: str) -> NoiseProfile | None:
        """The newest of ``key``."""

    def keys(self) -> list[str]:
        """Every key under which anything is kept, sorted."""

    def prune(self, keep: Callable[[Observation], bool]) -> int:
        """Remove the observations that ``keep`` refuses and no level, old or new, rests on.

        Returns how many are gone. Nothing is removed from a store that cannot be read whole.
        """

    def close(self) -> None:
        """Let go of what is open; closing twice does no harm."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slip:
    """A record ready to be kept: its text, and what it is filed by."""

    kind: Kind
    id: str
    key: str
    created: str
    text: str
    #: For a file's name: readable, unique with the id, without a suffix.
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A text that was kept. ``where`` is for people, ``at`` for the shelf to find it again;
    ``under`` is what it was filed under."""

    where: str
    at: str
    under: str
    text: str


class Shelf(Protocol):
    """Documents of three kinds, open for reading and writing."""

    def put(self, slip: Slip) -> Found | None:
        """Keep a slip; returns what already has its id, in which case nothing was written."""

    def read(self, kind: Kind, key: str | None) -> Iterable[Found]:
        """Everything of a kind, of one key or of all, in any order."""

    def beginning(self, start: str, key: str) -> Iterable[Found]:
        """Observations of ``key`` whose ids begin with ``start``."""

    def under(self, key: str) -> str:
        """What documents of ``key`` are filed under."""

    def keys(self) -> Iterable[str]:
        """Every key under which anything is kept, in any order."""

    def remove(self, found: Iterable[Found]) -> None:
        """Remove these observations."""


class Cabinet(Protocol):
    """A place that holds a shelf."""

    def open(self, mode: Mode = "read") -> AbstractContextManager[Shelf]:
        """The shelf, for as long as the context lasts."""

    def close(self) -> None:
        """Let go of what is open."""
