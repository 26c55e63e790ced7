"""What is told of a whole card where a device is a part of one: a partition, a die, some tiles.

Each part that tells such a figure tells that of the card. Where the server has all parts, each is
given its share, so that the sum over devices is the card's; where it has some of them, nobody knows
what those drew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pytest_llmperf.records import Device

from .conditions import Condition

#: What a card may tell only as a whole: a field of a condition, and its name in words.
POWER = {"power_w": "power", "energy_j": "energy"}
POWER_AND_MEMORY = {**POWER, "memory_used_bytes": "memory"}

Look = Callable[[], Sequence[Condition]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A device that is ``here`` of the ``of`` parts of ``card``."""

    card: str
    here: int = 1
    of: int


PartOf = Callable[[Device], Part | None]


def counted_once(
    look: Look, devices: Sequence[Device], part_of: PartOf, names: dict[str, str]
) -> Look:
    """``look`` with the figures ``names`` of each card shared among its parts; ``None`` with a
    reason where parts of it are missing. ``part_of`` gives ``None`` for a device that is a card."""
    parts = {device.uuid: part for device in devices if (part := part_of(device))}
    here = _here(devices, part_of)

    def share(one: Condition, seen: Sequence[Condition]) -> Condition:
        part = parts.get(one.uuid)
        if part is None:
            return one
        if here[part.card] < part.of:
            nothing: dict[str, Any] = dict.fromkeys(names)
            return replace(
                one,
                **nothing,
                untold=f"the server has {here[part.card]} of the {part.of} parts of a card, and "
                f"{' and '.join(names.values())} are told of the whole card",
            )
        mine = [other for other in seen if (at := parts.get(other.uuid)) and at.card == part.card]
        return replace(one, **{name: _share(mine, name, part) for name in names})

    def shared() -> list[Condition]:
        seen = look()
        return [share(one, seen) for one in seen]

    return shared if parts else look


def _share(seen: Sequence[Condition], name: str, part: Part) -> Any:
    known = (getattr(one, name) for one in seen)
    value = next((each for each in known if each is not None), None)
    if value is None:
        return None
    share = value * part.here / part.of
    return round(share) if isinstance(value, int) else share


def one_each(devices: Sequence[Device], part_of: PartOf) -> list[Device] | None:
    """One device for each card; ``None`` where parts of a card are missing."""
    here = _here(devices, part_of)
    first: dict[str, Device] = {}
    for device in sorted(devices, key=lambda each: each.index):
        part = part_of(device)
        if part and here[part.card] < part.of:
            return None
        first.setdefault(part.card if part else device.uuid, device)
    return list(first.values())


def _here(devices: Sequence[Device], part_of: PartOf) -> Counter[str]:
    here: Counter[str] = Counter()
    for device in devices:
        if part := part_of(device):
            here[part.card] += part.here
    return here
