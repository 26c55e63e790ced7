"""A loss that comes in small steps, and a hundred nights on which nothing happens."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from pytest_llmperf.gates.design import Design
from pytest_llmperf.gates.sequential import decide

from . import twin
from .cells import Cell, Number
from .noise import Floats, Noise, Rng, shifts
from .twin import FAILED

NIGHTS = 100
STEPS, STEP = 10, 0.01
_AFTER = 20  # nights that follow the last step
_SHARE = 0.10  # of the family's false alarms
_FAMILY_ALPHA = 0.01
_NOISE = Noise(launch_sigma=0.03, run_sigma=0.01)
_ALLOWED = 0.05  # the chance of any alarm in a quiet stretch of NIGHTS

How = Literal["fresh each night", "kept over nights", "against the night before"]

# Sequences that are kept go through the shipped rule night by night, and that takes its time.
_REPETITIONS: Mapping[How, int] = {
    "fresh each night": 10_000,
    "kept over nights": 2000,
    "against the night before": 10_000,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Nights:
    """How a nightly comparison goes on, and what is lost in the meantime.

    Fresh: a whole comparison with the named release each night. Kept: one block of four launches a
    night, whose pairs are added until they decide; then the next sequence begins.
    """

    design: Design
    how: How
    creeping: bool

    @property
    def nights(self) -> int:
        return NIGHTS + (_AFTER if self.creeping else 0)

    def shifts(self) -> Floats:
        """The true shift on each night, against what that night is compared with."""
        night = np.arange(self.nights)
        between = NIGHTS // STEPS
        steps = np.minimum(STEPS, night // between + 1)
        if self.how == "against the night before":
            steps = np.where((night % between == 0) & (night < NIGHTS), 1, 0)
        return np.asarray(steps * -np.log1p(-STEP) * self.creeping, dtype=np.float64)


def play(case: Nights, rng: Rng, repetitions: int) -> Mapping[str, Number]:
    played = _kept if case.how == "kept over nights" else _fresh
    first, pairs = played(case, rng, repetitions)
    alarmed = first < case.nights
    late = np.median(first[alarmed]) if alarmed.any() else None
    return {
        "alarms": int(alarmed.sum()),
        "any_alarm": float(alarmed.mean()),
        "first_night_median": None if late is None else float(late) + 1,
        "pairs_a_night": pairs,
    }


def _fresh(case: Nights, rng: Rng, repetitions: int) -> tuple[Floats, float]:
    """The first night with an alarm, the number of nights where there is none."""
    first = np.full(repetitions, float(case.nights))
    pairs = []
    for night in range(case.nights - 1, -1, -1):
        seen = shifts(rng, _NOISE, repetitions, case.design.most_pairs) + case.shifts()[night]
        ends = twin.decide_all(seen, case.design)
        first[ends.words == FAILED] = night
        pairs.append(float(ends.pairs.mean()))
    return first, float(np.mean(pairs))


def _kept(case: Nights, rng: Rng, repetitions: int) -> tuple[Floats, float]:
    seen = np.stack([shifts(rng, _NOISE, repetitions, 2) for _ in range(case.nights)], axis=1)
    seen += case.shifts()[None, :, None]
    return np.array([_first_alarm(nights, case.design) for nights in seen.tolist()]), 2.0


def _first_alarm(nights: Sequence[Sequence[float]], design: Design) -> float:
    """By the shipped function, night by night."""
    sequence: list[float] = []
    for night, pairs in enumerate(nights):
        sequence += pairs
        word = decide(sequence, design).word
        if word == "fail":
            return night
        if word is not None:
            sequence = []
    return len(nights)


def cells() -> Iterator[Cell]:
    a_night = _FAMILY_ALPHA * _SHARE
    for wish in (0.05, 0.10):
        for name, alpha in (("a tenth of 1 % each night", a_night), ("spread", a_night / NIGHTS)):
            for how in ("fresh each night", "kept over nights", "against the night before"):
                if how == "against the night before" and name == "spread":
                    continue
                yield from _both(wish, name, alpha, how)


def _both(wish: float, name: str, alpha: float, how: How) -> Iterator[Cell]:
    for creeping in (False, True):
        design = Design(loss_to_catch=wish, alpha=alpha)
        what = "10 x 1 % lost" if creeping else "nothing lost"
        yield Cell(
            name=f"creep: {wish:.0%}, {how}, alpha {name}, {what}",
            table="creep",
            repetitions=_REPETITIONS[how],
            play=partial(play, Nights(design=design, how=how, creeping=creeping)),
            settings={
                "loss_to_catch": wish,
                "how": how,
                "alpha": alpha,
                "creeping": creeping,
                "launch_cv": _NOISE.launch_sigma,
                "nights": NIGHTS,
            },
            nominal=None if creeping or how == "against the night before" else _ALLOWED,
        )
