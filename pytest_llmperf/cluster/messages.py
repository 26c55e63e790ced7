"""What we and a member of a cluster say to each other, and what it tells of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Join:
    address: str
    session: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Joined:
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    function: Callable[..., object]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """``value`` is what was returned, or an error of this package that was raised."""

    value: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An error of somebody else: its class' name, and its text."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterNode:
    """One node. ``id`` is Ray's, ``address`` the one it is reached by. ``resources`` are all that
    it has (``free`` those that nobody holds), such as ``{"CPU": 8.0, "GPU": 2.0}``; ``died`` is
    what Ray says of its end, "" where it says nothing."""

    id: str
    host: str
    address: str
    alive: bool
    head: bool = False
    here: bool = False
    resources: Mapping[str, float] = field(default_factory=dict)
    free: Mapping[str, float] = field(default_factory=dict)
    died: str = ""

    def __str__(self) -> str:
        return f"{self.host} ({self.address})" if self.host != self.address else self.address


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorSeen:
    """One actor that a job made. ``state`` is Ray's word, such as "ALIVE"; ``node`` the id of its
    node, "" before it has one; ``devices`` are the numbers of those it was given there; ``died`` is
    what Ray says of its end."""

    id: str
    name: str
    kind: str
    state: str
    node: str
    pid: int = 0
    devices: tuple[str, ...] = ()
    died: str = ""

    @property
    def alive(self) -> bool:
        return self.state != "DEAD"


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSeen:
    """One placement group; ``nodes`` are those of its bundles, in their order, "" where one has
    not been placed."""

    id: str
    state: str
    nodes: tuple[str, ...]

    @property
    def held(self) -> bool:
        return self.state != "REMOVED"


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSeen:
    """What one driver has in the cluster; ``id`` is ``None`` where it has not joined yet."""

    id: str | None = None
    over: bool = False
    actors: tuple[ActorSeen, ...] = ()
    groups: tuple[GroupSeen, ...] = ()

    @property
    def holds(self) -> tuple[str, ...]:
        """What of it is left in the cluster, in words."""
        actors = [one.name or one.kind for one in self.actors if one.alive]
        groups = [f"placement group {one.id[:8]}" for one in self.groups if one.held]
        return (*actors, *groups)
