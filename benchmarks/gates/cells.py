"""What a cell of the simulation is: a name, how it is played, and the rate it may alarm at."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from .noise import Rng

Number = float | int | str | None
Play = Callable[[Rng, int], Mapping[str, Number]]
#: Sequences that are drawn at once.
CHUNK = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One simulation. ``play`` takes a seeded generator and a number of repetitions.

    ``nominal`` is the rate at which ``alarms`` may be raised, where the cell is about that.
    ``broken`` says which assumption of the rule the simulated launches do not keep.
    """

    name: str
    table: str
    repetitions: int
    play: Play
    settings: Mapping[str, Number] = field(default_factory=dict)
    nominal: float | None = None
    broken: str | None = None


def chunks(repetitions: int, most: int = CHUNK) -> list[int]:
    """``repetitions`` in parts of at most ``most``."""
    whole, rest = divmod(repetitions, most)
    return [most] * whole + ([rest] if rest else [])
