"""Gates on an accepted level: sessions that are each a draw of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pytest_llmperf.gates.history import judge_history
from pytest_llmperf.records import MetricValue, RegressionGate, Verdict

from . import twin_history
from .ab import FAMILY, HARDEST
from .cells import Cell, Number, chunks
from .noise import MORE_SHAPES, SHAPES, Floats, Noise, Rng, correlated
from .twin import FAILED, PASSED, UNDECIDED, WORDS
from .twin_history import HistoryEnds

ALPHA = 0.01
SESSION_CV = 0.03
_LAUNCHES = 3
_REPETITIONS = 100_000
_RARER = 4  # times as many, to see a rate of 0.05 %
_SAMPLE = 300
_WITHIN = Noise(launch_sigma=0.01, run_sigma=0.01)
_PHIS = (0.5, 0.9)
_STORED = (8, 20)
_WISH = 0.15
_LOSSES = (0.05, 0.10, 0.20, 0.25)
_WIDE = 2 * SESSION_CV
_RARE = "two kinds far apart, 5 % slow"
_DEPENDENT = ("neighbours alike (0.5)", "linear drift", "linear drift to the good side")
_DRAWS = {**SHAPES, **MORE_SHAPES}
#: The shapes for which losses are tried.
LOST_SHAPES = tuple(shape for shape in _DRAWS if shape != _RARE)


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """One session against ``stored`` ones; ``shape`` is how sessions differ, ``session_cv`` how
    much."""

    stored: int
    loss_to_catch: float
    shape: str = "normal"
    phi: float = 0.0
    loss: float = 0.0
    family: int = 1
    session_cv: float = SESSION_CV

    def settings(self) -> dict[str, Number]:
        return {
            "shape": self.shape,
            "phi": self.phi,
            "stored": self.stored,
            "session_cv": self.session_cv,
            "launches": _LAUNCHES,
            "loss_to_catch": self.loss_to_catch,
            "loss": self.loss,
            "alpha": ALPHA / self.family,
        }

    @property
    def gate(self) -> RegressionGate:
        return RegressionGate(
            metric="output_throughput",
            loss_to_catch=self.loss_to_catch,
            allow=0.0,
            source="simulation",
        )

    def launches(self, rng: Rng, rows: int) -> Floats:
        """Launch means: rows x sessions x launches, the fresh session last."""
        sessions = self.stored + 1
        luck = self.session_cv * _DRAWS[self.shape](rng, rows, sessions)[:, :, None, None]
        own = rng.standard_normal((rows, sessions, _LAUNCHES, _WITHIN.runs))
        runs = _WITHIN.run_sigma * correlated(own, self.phi)
        starts = _WITHIN.launch_sigma * rng.standard_normal((rows, sessions, _LAUNCHES))
        found: Floats = np.exp(luck + starts[..., None] + runs).mean(axis=3)
        found[:, -1] *= 1 - self.loss
        return found


def play(case: History, rng: Rng, repetitions: int) -> Mapping[str, Number]:
    words = np.zeros(3, dtype=np.int64)
    two_kinds = suspected = 0
    printed: list[float] = []
    for rows in chunks(repetitions):
        sessions = case.launches(rng, rows)
        ends = twin_history.judge_all(np.log(sessions), case.gate, ALPHA / case.family)
        printed = printed or _checked(case, sessions, ends)
        words += np.bincount(ends.words, minlength=3)
        two_kinds += int(ends.two_kinds.sum())
        suspected += int(ends.suspected.sum())
    return {
        "alarms": int(words[FAILED]),
        "fail": words[FAILED] / repetitions,
        "pass": words[PASSED] / repetitions,
        "inconclusive": words[UNDECIDED] / repetitions,
        "suspected": suspected / repetitions,
        "two_kinds": two_kinds / repetitions,
        "detectable_median": float(np.median(printed)),
        "checked": len(printed),
    }


def _checked(case: History, sessions: Floats, ends: HistoryEnds) -> list[float]:
    """The detectable losses that the shipped function prints for the first rows.

    Raises :class:`AssertionError` where it says anything else than its twin.
    """
    printed = []
    for row, one in enumerate(sessions[:_SAMPLE].tolist()):
        verdict = _judge(case, one)
        said = [verdict.reason_code == code for code in ("bimodal_history", "loss_suspected")]
        twin = int(ends.words[row]), [bool(ends.two_kinds[row]), bool(ends.suspected[row])]
        if (WORDS[verdict.verdict], said) != twin or verdict.detectable_loss is None:
            raise AssertionError(f"judge_history says {verdict}, its twin {twin}")
        printed.append(verdict.detectable_loss)
    return printed


def _judge(case: History, sessions: list[list[float]]) -> Verdict:
    *stored, fresh = sessions
    return judge_history(
        case.gate,
        [[MetricValue(value=value)] for value in fresh],
        stored,
        alpha=ALPHA,
        family=case.family,
        device="simulation",
        against="simulation",
    )


def cells() -> Iterator[Cell]:
    yield from _alarms()
    yield from _wide()
    yield from _losses()


def _shapes() -> list[tuple[str, float]]:
    return [(shape, 0.0) for shape in SHAPES] + [("normal", phi) for phi in _PHIS]


def _alarms() -> Iterator[Cell]:
    for stored in _STORED:
        for shape, phi in _shapes():
            for family in (1, FAMILY):
                case = History(
                    stored=stored, loss_to_catch=HARDEST, shape=shape, phi=phi, family=family
                )
                yield _cell("false alarms, history", case, _broken(shape))


def _wide() -> Iterator[Cell]:
    """Sessions that differ more than is assumed, and a kind that is further off than that."""
    for stored in _STORED:
        for shape, phi in _shapes():
            case = History(
                stored=stored, loss_to_catch=HARDEST, shape=shape, phi=phi, session_cv=_WIDE
            )
            broken = "; ".join(
                filter(None, ["sessions differ more than is assumed", _broken(shape)])
            )
            yield _cell("false alarms, history wide", case, broken)
        case = History(stored=stored, loss_to_catch=HARDEST, shape=_RARE)
        yield _cell("false alarms, history wide", case, "a kind that the level never saw")


def _losses() -> Iterator[Cell]:
    for stored in _STORED:
        for shape in LOST_SHAPES:
            for loss in (0.0, _WISH, *(_LOSSES if shape == "normal" else ())):
                case = History(stored=stored, loss_to_catch=_WISH, shape=shape, loss=loss)
                yield _cell("power, history", case, _broken(shape))


def _cell(table: str, case: History, broken: str | None) -> Cell:
    phi = f", runs AR(1) {case.phi:g}" if case.phi else ""
    name = (
        f"{table}: {case.stored} sessions, {case.shape}{phi}, loss {case.loss:.0%} of "
        f"{case.loss_to_catch:.1%}, family {case.family}"
    )
    if case.session_cv != SESSION_CV:
        name += f", CV {case.session_cv:.0%}"
    return Cell(
        name=name,
        table=table,
        repetitions=_REPETITIONS * (_RARER if case.family > 1 else 1),
        play=partial(play, case),
        settings=case.settings(),
        nominal=None if case.loss else ALPHA / case.family,
        broken=broken,
    )


def _broken(shape: str) -> str | None:
    if shape in _DEPENDENT:
        return "sessions are not independent of the ones before"
    if shape != "normal":
        return "session means are not normal"
    return None
