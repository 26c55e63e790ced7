"""The shipped rule and its rivals on the very same launches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pytest_llmperf.gates.design import Design

from . import otava_nights, twin
from .cells import Cell, Number, chunks
from .noise import Noise, Rng, abba, correlated
from .rivals import RIVALS, Session
from .twin import FAILED, PASSED

_PAIRS = 12
_RUNS = 5
_REQUESTS = 200
_REQUEST_CV = 0.2
_PHIS = (0.0, 0.5, 0.9)
_LOSSES = (0.0, 0.03, 0.10)
_WISHES = (0.03, 0.10)
_NOISES = {
    "launch CV 1 %": Noise(launch_sigma=0.01, run_sigma=0.01, runs=_RUNS),
    "launch CV 3 %": Noise(launch_sigma=0.03, run_sigma=0.01, runs=_RUNS),
    "launch CV 3 %, two kinds": Noise(
        launch_sigma=0.03, run_sigma=0.01, runs=_RUNS, shape="two kinds, 20 % slow"
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """``phi`` is the correlation of a request with the one before."""

    noise: Noise
    loss: float
    phi: float

    def session(self, rng: Rng, rows: int) -> Session:
        sides = abba(rng, self.noise.values(rng, rows, 2 * _PAIRS))
        fresh = sides.candidate * (1 - self.loss)
        luck = [
            np.exp(_REQUEST_CV * correlated(rng.standard_normal((rows, _REQUESTS)), self.phi))
            for _ in range(2)
        ]
        return Session(
            stored=sides.reference,
            fresh=fresh,
            stored_requests=sides.reference[:, 0, :1] * luck[0],
            fresh_requests=fresh[:, 0, :1] * luck[1],
        )


def play(case: Beside, rng: Rng, repetitions: int) -> Mapping[str, Number]:
    counts: dict[str, float] = {}
    for rows in chunks(repetitions, 5000):
        session = case.session(rng, rows)
        for rival in RIVALS:
            counts[rival.name] = counts.get(rival.name, 0) + float(rival.alarms(session).sum())
        shifts = np.log(session.stored.mean(axis=2)) - np.log(session.fresh.mean(axis=2))
        for wish in _WISHES:
            design = Design(loss_to_catch=wish)
            ends = twin.decide_all(shifts, design)
            twin.check(shifts, design, ends)
            for key, count in (
                ("fail", (ends.words == FAILED).sum()),
                ("pass", (ends.words == PASSED).sum()),
                ("pairs", ends.pairs.sum()),
            ):
                name = f"ours {wish:.0%} {key}"
                counts[name] = counts.get(name, 0) + float(count)
    return {name: count / repetitions for name, count in counts.items()}


def cells() -> Iterator[Cell]:
    for name, noise in _NOISES.items():
        for loss in _LOSSES:
            for phi in _PHIS:
                yield Cell(
                    name=f"rivals: {name}, requests AR(1) {phi:g}, loss {loss:.0%}",
                    table="rivals",
                    repetitions=20_000,
                    play=partial(play, Beside(noise=noise, loss=loss, phi=phi)),
                    settings={"noise": name, "phi": phi, "loss": loss},
                )
        if noise.shape == "normal":
            for loss in _LOSSES:
                yield Cell(
                    name=f"otava: {name}, loss {loss:.0%}",
                    table="otava",
                    repetitions=1000,
                    play=partial(otava_nights.play, noise, loss),
                    settings={"noise": name, "loss": loss},
                )
