"""Floors and ceilings: false alarms of a metric that lies exactly on its limit, losses seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pytest_llmperf.gates.limits import judge_limit
from pytest_llmperf.records import Limit, MetricValue, Verdict

from .ab import FAMILY
from .cells import Cell, Number, chunks
from .noise import SHAPES, Noise, Rng

ALPHA = 0.01
ASSUMED_CV = 0.03
RUN_CV = 0.01
LAUNCHES = (1, 2, 3, 6)
_TRUE_CVS = (0.03, 0.06)
_LOSSES = (0.05, 0.10, 0.15, 0.20)
_FAMILY_SHAPES = ("normal", "heavy tails (t3)", "two kinds, 20 % slow")
_PHIS = (0.5, 0.9)


@dataclass(frozen=True, slots=True, kw_only=True)
class OnTheLimit:
    """A session of so many launches whose true value is ``loss`` below a floor."""

    launches: int
    true_cv: float
    shape: str = "normal"
    phi: float = 0.0
    loss: float = 0.0
    family: int = 1

    def settings(self) -> dict[str, Number]:
        return {
            "shape": self.shape,
            "phi": self.phi,
            "launches": self.launches,
            "true_cv": self.true_cv,
            "assumed_cv": ASSUMED_CV,
            "loss": self.loss,
            "alpha": ALPHA / self.family,
        }

    @property
    def noise(self) -> Noise:
        """With runs that go together more of the spread is theirs: the total stays."""
        runs = RUN_CV if not self.phi else self.true_cv / math.sqrt(2)
        launch = math.sqrt(self.true_cv**2 - runs**2) if self.phi else self.true_cv
        return Noise(launch_sigma=launch, run_sigma=runs, shape=self.shape, phi=self.phi)


def play(case: OnTheLimit, rng: Rng, repetitions: int) -> Mapping[str, Number]:
    words: Counter[str] = Counter()
    printed = []
    for rows in chunks(repetitions):
        values = case.noise.values(rng, rows, case.launches) * (1 - case.loss)
        for session in values.tolist():
            verdict = _judge(session, case.family)
            words[verdict.verdict] += 1
            if verdict.detectable_loss is not None:
                printed.append(verdict.detectable_loss)
    return {
        "alarms": words["fail"],
        **{word: words[word] / repetitions for word in ("fail", "pass", "inconclusive")},
        "detectable_median": float(np.median(printed)),
    }


def _judge(session: list[list[float]], family: int) -> Verdict:
    limit = Limit(kind="floor", metric="output_throughput", limit=1.0, on=None, source="simulation")
    return judge_limit(
        limit,
        [[MetricValue(value=value) for value in launch] for launch in session],
        alpha=ALPHA,
        family=family,
        launch_cv=ASSUMED_CV,
        device="simulation",
    )


def cells() -> Iterator[Cell]:
    shapes = [(shape, 0.0) for shape in SHAPES] + [("normal", phi) for phi in _PHIS]
    for launches in LAUNCHES:
        for cv in _TRUE_CVS:
            for shape, phi in shapes:
                yield _cell(OnTheLimit(launches=launches, true_cv=cv, shape=shape, phi=phi))
            for loss in _LOSSES:
                yield _cell(OnTheLimit(launches=launches, true_cv=cv, loss=loss))
        for shape in _FAMILY_SHAPES:
            yield _cell(OnTheLimit(launches=launches, true_cv=0.03, shape=shape, family=FAMILY))


def _cell(case: OnTheLimit) -> Cell:
    table = "power, limits" if case.loss else "false alarms, limits"
    phi = f", runs AR(1) {case.phi:g}" if case.phi else ""
    name = (
        f"{table}: {case.launches} launches, CV {case.true_cv:.0%}, {case.shape}{phi}, "
        f"loss {case.loss:.0%}, family {case.family}"
    )
    return Cell(
        name=name,
        table=table,
        repetitions=20_000,
        play=partial(play, case),
        settings=case.settings(),
        nominal=None if case.loss else ALPHA / case.family,
        broken=_broken(case),
    )


def _broken(case: OnTheLimit) -> str | None:
    broken = []
    if case.true_cv > ASSUMED_CV:
        broken.append("launches differ more than is assumed")
    if case.shape in ("neighbours alike (0.5)", "linear drift"):
        broken.append("launches are not independent of their neighbours")
    elif case.shape != "normal":
        broken.append("launches are not normal")
    return "; ".join(broken) or None
