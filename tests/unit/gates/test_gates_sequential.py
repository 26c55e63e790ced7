"""The rule that decides after each pair of launches, and what it costs and catches."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gates.design import Design, Prior
from pytest_llmperf.gates.power import chances
from pytest_llmperf.gates.sequential import State, decide

DESIGN = Design(loss_to_catch=0.03)
#: Badness on the log scale; wide enough for every word.
shifts = st.lists(st.floats(-0.1, 0.1), min_size=0, max_size=14)


def spread(around: float, pairs: int, sigma: float = 0.01) -> list[float]:
    """Shifts with this mean at every even number of them."""
    return [around + (sigma if pair % 2 else -sigma) for pair in range(pairs)]


def test_a_loss_is_shown() -> None:
    state = decide(spread(DESIGN.shift(0.05), 6), DESIGN)
    assert (state.word, state.code) == ("fail", "loss_shown")
    assert (state.look, state.pairs, state.df) == (2, 6, 5)
    assert state.loss == pytest.approx(0.05)
    # By hand: t(5, .9975) = 4.7733, standard error .01·√(6/5)/√6.
    low = DESIGN.shift(0.05) - 4.7733 * 0.01 * math.sqrt(6 / 5) / math.sqrt(6)
    assert state.loss_low == pytest.approx(-math.expm1(-low), rel=1e-4)


def test_a_loss_is_excluded() -> None:
    state = decide(spread(0.0, 4, sigma=0.002), DESIGN)
    assert (state.word, state.code, state.look) == ("pass", "loss_excluded", 1)
    assert state.loss_low is None, "four pairs can show no loss"
    assert state.loss_high is not None
    assert 0 < state.loss_high < 0.03


def test_the_last_look_may_be_undecided() -> None:
    state = decide(spread(0.02, 12, sigma=0.05), DESIGN)
    assert (state.word, state.code, state.look) == ("inconclusive", "noise", 5)
    assert state.detectable_loss is not None
    assert state.detectable_loss > 0.03


def test_an_estimate_below_half_way_is_never_a_failure() -> None:
    """However certain: half of the wished-for loss is what may be lost by chance."""
    state = decide(spread(0.014, 12, sigma=1e-4), DESIGN)
    assert state.word == "pass"
    tolerant = Design(loss_to_catch=0.03, allow=0.02)
    assert decide(spread(0.021, 12, sigma=1e-4), tolerant).word == "pass"
    assert decide(spread(0.027, 12, sigma=1e-4), tolerant).word == "fail"


@pytest.mark.parametrize("pairs", [0, 1, 3, 5, 7, 9, 11])
def test_between_looks_nothing_is_decided(pairs: int) -> None:
    state = decide(spread(0.02, pairs, sigma=0.05), DESIGN)
    assert (state.word, state.code, state.look) == (None, "more", None)
    assert (state.loss_low, state.loss_high) == (None, None)
    assert state.pairs == pairs


def test_three_pairs_decide_nothing_whatever_they_say() -> None:
    assert decide([0.5, 0.5, 0.5], DESIGN).word is None


@given(shifts)
def test_what_was_decided_stays_decided(values: list[float]) -> None:
    """More launches, made for another gate, change nothing; nor does the last odd one."""
    first = next(
        (s for n in range(len(values)) if (s := decide(values[:n], DESIGN)).word is not None), None
    )
    if first is not None:
        assert decide(values, DESIGN) == first


@given(shifts, st.floats(0, 0.1))
def test_more_loss_never_turns_a_failure_into_a_pass(values: list[float], worse: float) -> None:
    before, after = decide(values, DESIGN), decide([v + worse for v in values], DESIGN)
    if before.word == "fail":
        assert after.word == "fail"
    if after.word == "pass":
        assert before.word != "fail"


@given(st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4))
def test_the_order_of_the_pairs_before_a_look_does_not_matter(values: list[float]) -> None:
    states = {(decide(list(order), DESIGN).word) for order in permutations(values)}
    assert len(states) == 1


def test_a_shift_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        decide([0.0, math.nan], DESIGN)


def test_pairs_that_are_all_alike_decide() -> None:
    """A deterministic server: no spread, so the estimate is all there is."""
    assert decide([0.0] * 4, DESIGN).word == "pass"
    assert decide([0.02] * 6, DESIGN).word == "fail"
    exact = [DESIGN.half_way] * 12
    assert decide(exact, DESIGN).word == "pass", "exactly half-way is not above it"


# --- a prior ---------------------------------------------------------------------------------


def test_a_prior_that_fits_adds_degrees_of_freedom() -> None:
    seen = spread(0.0, 4)
    alone, helped = decide(seen, DESIGN), decide(seen, DESIGN, Prior(sigma=0.014, df=40))
    assert (alone.df, helped.df) == (3, 9), "at most twice what was seen"
    assert alone.loss_high is not None
    assert helped.loss_high is not None
    assert helped.loss_high < alone.loss_high


@given(
    st.lists(st.floats(-0.1, 0.1), min_size=4, max_size=4), st.floats(1e-4, 1), st.integers(0, 99)
)
def test_a_prior_never_narrows_the_spread_seen_now(
    values: list[float], sigma: float, df: int
) -> None:
    alone, helped = decide(values, DESIGN), decide(values, DESIGN, Prior(sigma=sigma, df=df))
    assert alone.sigma is not None
    assert helped.sigma is not None
    assert helped.sigma >= alone.sigma


def test_a_prior_that_promises_too_much_is_not_used() -> None:
    seen = spread(0.0, 4, sigma=0.03)
    assert decide(seen, DESIGN, Prior(sigma=0.01, df=1000)) == decide(seen, DESIGN)


# --- how often it cries wolf, and how often it sees --------------------------------------------

Pairs = npt.NDArray[np.float64]
REPETITIONS = 2000


def ended(
    pairs: Pairs, design: Design, prior: Prior | None = None
) -> tuple[dict[str, int], list[State]]:
    states = [decide(values, design, prior) for values in pairs.tolist()]
    words = [str(state.word) for state in states]
    return {word: words.count(word) for word in ("fail", "pass", "inconclusive")}, states


def above(rate: float) -> float:
    """More than this many of REPETITIONS come by chance less often than once in a million."""
    return REPETITIONS * rate + 5.5 * math.sqrt(REPETITIONS * rate) + 6


def normal(sigma: float, loss: float, pairs: int = 12, seed: int = 1) -> Pairs:
    noise = np.random.default_rng(seed).normal(0.0, sigma, (REPETITIONS, pairs))
    return noise - math.log1p(-loss)


@pytest.mark.parametrize(("sigma", "loss"), [(0.0141, 0.03), (0.045, 0.10)])
def test_the_wished_for_loss_is_caught_and_an_unchanged_build_passes(
    sigma: float, loss: float
) -> None:
    design = Design(loss_to_catch=loss)
    lost, states = ended(normal(sigma, loss), design)
    unchanged, quiet = ended(normal(sigma, 0.0), design)
    # Truly 98.7 % and 1.2 %, 99.96 % and 0.04 %.
    assert lost["fail"] > REPETITIONS * 0.96
    assert lost["pass"] < above(0.0125)
    assert unchanged["pass"] > REPETITIONS * 0.99
    assert unchanged["fail"] < above(0.0005)
    assert np.mean([state.pairs for state in states]) < 7
    assert np.mean([state.pairs for state in quiet]) < 5.5


def test_what_is_played_ahead_is_what_is_decided() -> None:
    """The plan's chances and the decisions themselves are two writings of one rule."""
    counts, states = ended(normal(0.03, 0.03), DESIGN)
    played = chances(DESIGN, 0.03, 0.03)
    assert counts["fail"] / REPETITIONS == pytest.approx(played.fail, abs=0.06)
    assert counts["pass"] / REPETITIONS == pytest.approx(played.passed, abs=0.03)
    assert np.mean([state.pairs for state in states]) == pytest.approx(played.pairs, abs=0.4)


@pytest.mark.parametrize("alpha", [0.01, 0.0005])
@pytest.mark.parametrize("kind", ["normal", "heavy tails", "two kinds of launches"])
def test_noise_beyond_the_wished_for_loss_keeps_the_false_alarms(alpha: float, kind: str) -> None:
    """The worst that can be asked: noise so wide that only the bound stands before an alarm."""
    rng = np.random.default_rng(2)
    sides = rng.standard_normal((2, REPETITIONS, 12))
    if kind == "heavy tails":
        sides = rng.standard_t(3, (2, REPETITIONS, 12))
    if kind == "two kinds of launches":
        sides += 30 * rng.integers(0, 2, (2, REPETITIONS, 12))
    design = Design(loss_to_catch=1e-6, alpha=alpha)
    counts, _ = ended(sides[0] - sides[1], design)
    assert counts["fail"] < above(alpha)


def test_a_prior_three_times_too_small_does_little_harm() -> None:
    sigma = 0.0141
    prior = Prior(sigma=sigma, df=30)
    lost, _ = ended(normal(3 * sigma, 0.03), DESIGN, prior)
    unchanged, _ = ended(normal(3 * sigma, 0.0), Design(loss_to_catch=1e-6), prior)
    assert lost["pass"] < above(0.035)
    assert unchanged["fail"] < above(0.01)
