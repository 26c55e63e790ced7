"""Comparisons with a reference: false alarms, losses caught, pairs that it takes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from pytest_llmperf.gates.design import Design

from . import twin
from .cells import Cell, Number, chunks
from .noise import SHAPES, Floats, Rng, abba, noise_of_pairs, shifts
from .twin import FAILED, PASSED, UNDECIDED, Priors

FAMILY = 20
ALPHAS = (0.01, 0.01 / FAMILY)
QUIET, USUAL = 0.0141, 0.045  # standard deviations of a pair's log ratio
#: A loss to catch that is small beside the noise: the rule that an estimate must lie above half of
#: it is no help against false alarms then, and nothing is decided before the last look.
HARDEST = 0.001
_LOSSES = (0.0, 0.01, 0.02, 0.03, 0.05, 0.10)
_PAIR_SIGMAS = (0.007, 0.014, 0.028, 0.045)
_PHIS = (0.5, 0.9)
_PROFILES = (12, 85)
_TOO_SMALL = (1.0, 1.5, 2.0, 3.0)
_ALIKE = (0.0, 0.5, 0.9)  # how much gates that share launches go together
_SUITE_SHAPES = ("normal", "heavy tails (t3)", "two kinds, 20 % slow")
_SUITE_CHUNK = 4000
_STEADY = {0.01: 100_000, 0.01 / FAMILY: 400_000}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ab:
    """One gate: launches of this ``shape``, a true ``loss``, maybe a profile of ``profile_df``
    degrees of freedom that takes the spread to be ``too_small`` times smaller than it is."""

    design: Design
    pair_sigma: float
    shape: str = "normal"
    phi: float = 0.0
    loss: float = 0.0
    profile_df: int | None = None
    too_small: float = 1.0

    def settings(self) -> dict[str, Number]:
        return {
            "shape": self.shape,
            "phi": self.phi,
            "pair_sigma": self.pair_sigma,
            "alpha": self.design.alpha,
            "loss_to_catch": self.design.loss_to_catch,
            "loss": self.loss,
            "profile_df": self.profile_df,
            "too_small": self.too_small,
        }


def play(case: Ab, rng: Rng, repetitions: int) -> Mapping[str, Number]:
    words = np.zeros(3, dtype=np.int64)
    pairs = squares = 0.0
    checked = 0
    noise = noise_of_pairs(case.pair_sigma, case.shape, case.phi)
    for rows in chunks(repetitions):
        seen = shifts(rng, noise, rows, case.design.most_pairs) + case.design.shift(case.loss)
        priors = _priors(case, rng, rows)
        ends = twin.decide_all(seen, case.design, priors)
        checked = checked or twin.check(seen, case.design, ends, priors)
        words += np.bincount(ends.words, minlength=3)
        pairs += float(ends.pairs.sum())
        squares += float((ends.pairs**2).sum())
    mean = pairs / repetitions
    return {
        "alarms": int(words[FAILED]),
        "fail": words[FAILED] / repetitions,
        "pass": words[PASSED] / repetitions,
        "inconclusive": words[UNDECIDED] / repetitions,
        "pairs": mean,
        "pairs_error": math.sqrt(max(0.0, squares / repetitions - mean**2) / repetitions),
        "checked": checked,
    }


def _priors(case: Ab, rng: Rng, rows: int) -> Priors | None:
    """A calibration of its own for each row, as it would have turned out."""
    if case.profile_df is None:
        return None
    seen = np.sqrt(rng.chisquare(case.profile_df, rows) / case.profile_df)
    return Priors(sigma=seen * case.pair_sigma / case.too_small, df=case.profile_df)


# --- a suite that shares its launches ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """:data:`FAMILY` gates on the same launches, of which the first truly loses ``loss``.

    ``alike`` is the correlation of the gates' launch luck.
    """

    design: Design
    pair_sigma: float
    alike: float = 0.5
    shape: str = "normal"
    loss: float = 0.0

    def settings(self) -> dict[str, Number]:
        return {
            "shape": self.shape,
            "alike": self.alike,
            "pair_sigma": self.pair_sigma,
            "alpha": self.design.alpha,
            "loss_to_catch": self.design.loss_to_catch,
            "loss": self.loss,
            "gates": FAMILY,
        }

    def shifts(self, rng: Rng, rows: int) -> Floats:
        """Rows x gates x pairs."""
        launches = 2 * self.design.most_pairs
        draw = SHAPES[self.shape]
        common = draw(rng, rows, launches)[:, :, None]
        own = draw(rng, rows * FAMILY, launches).reshape(rows, FAMILY, launches).transpose(0, 2, 1)
        luck = math.sqrt(self.alike) * common + math.sqrt(1 - self.alike) * own
        sides = abba(rng, luck * self.pair_sigma / math.sqrt(2))
        found = (sides.reference - sides.candidate).transpose(0, 2, 1).copy()
        found[:, 0] += self.design.shift(self.loss)
        return found


def play_suite(case: Suite, rng: Rng, repetitions: int) -> Mapping[str, Number]:
    alarms = caught = all_pass = gates_pass = checked = 0
    pairs = 0.0
    for rows in chunks(repetitions, _SUITE_CHUNK):
        seen = case.shifts(rng, rows).reshape(rows * FAMILY, -1)
        ends = twin.decide_all(seen, case.design)
        checked = checked or twin.check(seen, case.design, ends)
        words = ends.words.reshape(rows, FAMILY)
        alarms += int((words[:, 1 if case.loss else 0 :] == FAILED).any(axis=1).sum())
        caught += int((words[:, 0] == FAILED).sum())
        all_pass += int((words == PASSED).all(axis=1).sum())
        gates_pass += int((words == PASSED).sum())
        pairs += float(ends.pairs.reshape(rows, FAMILY).max(axis=1).sum())
    return {
        "alarms": alarms,
        "false_alarm": alarms / repetitions,
        "caught": caught / repetitions,
        "all_pass": all_pass / repetitions,
        "gate_pass": gates_pass / repetitions / FAMILY,
        "pairs": pairs / repetitions,
        "checked": checked,
    }


# --- which cells there are --------------------------------------------------------------------


def cells() -> Iterator[Cell]:
    yield from _false_alarms()
    yield from _as_used()
    yield from _with_profiles()
    yield from _pairs()
    yield from _suites()


def _cell(table: str, name: str, case: Ab, repetitions: int = 40_000, alarm: bool = False) -> Cell:
    return Cell(
        name=f"{table}: {name}",
        table=table,
        repetitions=repetitions,
        play=partial(play, case),
        settings=case.settings(),
        nominal=case.design.alpha if alarm else None,
        broken=_broken(case) if alarm else None,
    )


def _broken(case: Ab) -> str | None:
    if case.profile_df is not None and case.too_small > 1:
        return f"the profile takes the spread to be {case.too_small:g} times smaller than it is"
    if case.shape.startswith("neighbours"):
        return "launches are not independent of their neighbours"
    return None


def _false_alarms() -> Iterator[Cell]:
    """No loss at all, and a gate that nothing but its bound protects."""
    shapes = [(shape, 0.0) for shape in SHAPES] + [("normal", phi) for phi in _PHIS]
    for alpha in ALPHAS:
        design = Design(loss_to_catch=HARDEST, alpha=alpha)
        for shape, phi in shapes:
            case = Ab(design=design, pair_sigma=QUIET, shape=shape, phi=phi)
            name = f"{shape}{f', runs AR(1) {phi:g}' if phi else ''}, alpha {alpha:g}"
            yield _cell("false alarms, ab", name, case, _STEADY[alpha], alarm=True)


def _as_used() -> Iterator[Cell]:
    """A loss to catch that the noise lets catch: the first line of what is promised."""
    for wish, sigma in ((0.03, QUIET), (0.10, USUAL)):
        for alpha in ALPHAS:
            design = Design(loss_to_catch=wish, alpha=alpha)
            for shape in SHAPES:
                for loss in (0.0, wish):
                    case = Ab(design=design, pair_sigma=sigma, shape=shape, loss=loss)
                    name = f"{shape}, {wish:.0%} at {sigma:.2%}, alpha {alpha:g}, loss {loss:.0%}"
                    yield _cell("as used, ab", name, case, 40_000, alarm=not loss)


def _with_profiles() -> Iterator[Cell]:
    for df in _PROFILES:
        for factor in _TOO_SMALL:
            for alpha in ALPHAS:
                hard = Ab(
                    design=Design(loss_to_catch=HARDEST, alpha=alpha),
                    pair_sigma=QUIET,
                    profile_df=df,
                    too_small=factor,
                )
                name = f"{factor:g} times too small, df {df}, alpha {alpha:g}"
                yield _cell("false alarms, profile", name, hard, _STEADY[alpha], alarm=True)
            yield from _misled(df, factor)


def _misled(df: int, factor: float) -> Iterator[Cell]:
    """The profile says 1.41 %, and pairs differ by that times ``factor``."""
    for loss in (0.0, 0.03):
        case = Ab(
            design=Design(loss_to_catch=0.03),
            pair_sigma=QUIET * factor,
            profile_df=df,
            too_small=factor,
            loss=loss,
        )
        yield _cell("misled, profile", f"{factor:g} times, df {df}, loss {loss:.0%}", case)


def _pairs() -> Iterator[Cell]:
    for wish in (0.03, 0.05, 0.10):
        for sigma in _PAIR_SIGMAS:
            for loss in _LOSSES:
                case = Ab(design=Design(loss_to_catch=wish), pair_sigma=sigma, loss=loss)
                name = f"{wish:.0%} at {sigma:.1%}, loss {loss:.0%}"
                yield _cell("pairs, one gate", name, case, 20_000)


def _suites() -> Iterator[Cell]:
    alpha = ALPHAS[1]
    hard = Design(loss_to_catch=HARDEST, alpha=alpha)
    for shape in _SUITE_SHAPES:
        for alike in _ALIKE:
            case = Suite(design=hard, pair_sigma=QUIET, alike=alike, shape=shape)
            yield _suite("false alarms, suite", f"{shape}, alike {alike:g}", case, 50_000)
    for wish, sigmas in ((0.03, _PAIR_SIGMAS), (0.10, _PAIR_SIGMAS[-1:])):
        for sigma in sigmas:
            for loss in _LOSSES:
                design = Design(loss_to_catch=wish, alpha=alpha)
                case = Suite(design=design, pair_sigma=sigma, loss=loss)
                name = f"{wish:.0%} at {sigma:.1%}, loss {loss:.0%}"
                yield _suite("pairs, suite", name, case, 20_000)


def _suite(table: str, name: str, case: Suite, repetitions: int) -> Cell:
    return Cell(
        name=f"{table}: {name}",
        table=table,
        repetitions=repetitions,
        play=partial(play_suite, case),
        settings=case.settings(),
        nominal=case.design.alpha * FAMILY,
    )
