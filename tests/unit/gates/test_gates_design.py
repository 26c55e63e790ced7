from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.gates.design import FEWEST_PAIRS, Design, design_for, fits_below, prior_weight
from pytest_llmperf.gates.power import (
    chances,
    detectable_loss,
    pairs_expected,
    pairs_needed,
)
from pytest_llmperf.records import Direction, RegressionGate


def gate(metric: str = "output_throughput", loss: float = 0.03) -> RegressionGate:
    return RegressionGate(metric=metric, loss_to_catch=loss, allow=0.0, source="gate set in t.py:9")


def test_looks_come_at_even_numbers_of_pairs() -> None:
    design = design_for(gate(), alpha=0.01, max_pairs=11)
    assert design.looks == (4, 6, 8, 10)
    assert (design.most_pairs, design.direction) == (10, "higher")
    assert design_for(gate("ttft_p95"), alpha=0.01).direction == "lower"


def test_too_few_pairs_are_a_mistake() -> None:
    with pytest.raises(UsageMistake, match="3 pairs of launches decide nothing"):
        design_for(gate(), alpha=0.01, max_pairs=FEWEST_PAIRS - 1)


@pytest.mark.parametrize(
    "wrong",
    [
        {"loss_to_catch": 0.0},
        {"loss_to_catch": 1.0},
        {"allow": 0.03},
        {"allow": -0.01},
        {"alpha": 0.0},
        {"beta": 1.0},
        {"looks": ()},
        {"looks": (1, 2)},
        {"looks": (4, 4)},
    ],
)
def test_a_design_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"losses|probabilities|looks"):
        Design(**{"loss_to_catch": 0.03, **wrong})  # type: ignore[arg-type]


@given(alpha=st.floats(1e-9, 0.5), most=st.integers(4, 60))
def test_shares_add_up_and_only_late_looks_may_show_a_loss(alpha: float, most: int) -> None:
    design = design_for(gate(), alpha=alpha, max_pairs=most)
    shares = [look.alpha for look in design.plan]
    spent = math.fsum(shares)
    assert spent == pytest.approx(alpha) or spent == 0.0
    assert math.fsum(look.beta for look in design.plan) == pytest.approx(design.beta)
    assert shares == sorted(shares), "from the first look that may show a loss on, all may"
    # Launches of two kinds differ alike in all of n pairs with a chance of up to 4^-n.
    assert all(0.25**look.pairs <= look.alpha for look in design.plan if look.alpha)


def test_twenty_gates_begin_to_fail_later() -> None:
    one, twenty = (design_for(gate(), alpha=alpha) for alpha in (0.01, 0.0005))
    assert (one.fewest_to_fail, twenty.fewest_to_fail) == (6, 8)
    assert design_for(gate(), alpha=0.0005, max_pairs=4).fewest_to_fail is None


@given(loss=st.floats(-0.9, 0.9), direction=st.sampled_from(["higher", "lower"]))
def test_losses_and_shifts_are_two_names_of_one_thing(loss: float, direction: Direction) -> None:
    design = Design(loss_to_catch=0.1, direction=direction)
    assert design.loss(design.shift(loss)) == pytest.approx(loss, abs=1e-12)


def test_a_loss_is_what_the_metric_loses() -> None:
    """3 % less throughput, 3 % more latency."""
    assert Design(loss_to_catch=0.1).loss(math.log(100 / 97)) == pytest.approx(0.03)
    lower = Design(loss_to_catch=0.1, direction="lower")
    assert lower.loss(math.log(103 / 100)) == pytest.approx(0.03)


def test_a_prior_weighs_at_most_twice_what_was_seen() -> None:
    assert prior_weight(3, 100) == 6
    assert prior_weight(3, 2) == 2
    assert fits_below(3, 30) < 1, "the prior never narrows a bound below the spread seen now"


# --- power -----------------------------------------------------------------------------------


def test_the_wished_for_losses_are_within_reach() -> None:
    """The two cells that the gate is made for; the seeded play behind it is exact enough."""
    for loss, sigma in ((0.03, 0.0141), (0.10, 0.045)):
        design = Design(loss_to_catch=loss)
        lost, unchanged = chances(design, sigma, loss), chances(design, sigma, 0.0)
        assert lost.fail > 0.97
        assert lost.pairs < 7
        assert unchanged.passed > 0.99
        assert unchanged.fail < 0.002
        assert unchanged.pairs < 5.5


def test_the_detectable_loss_fails_nine_times_in_ten() -> None:
    design = Design(loss_to_catch=0.03)
    for sigma in (0.005, 0.0141, 0.045):
        loss = detectable_loss(design, sigma)
        assert chances(design, sigma, loss).fail == pytest.approx(0.9, abs=0.002)
    with_prior = detectable_loss(design, 0.045, df=85)
    assert with_prior < detectable_loss(design, 0.045)


def test_without_noise_half_way_is_detectable() -> None:
    directions: tuple[Direction, ...] = ("higher", "lower")
    for direction in directions:
        design = Design(loss_to_catch=0.03, allow=0.01, direction=direction)
        assert detectable_loss(design, 0.0) == pytest.approx(0.02, abs=1e-3)


def test_what_no_look_can_show_is_not_detectable() -> None:
    assert detectable_loss(Design(loss_to_catch=0.03, alpha=0.0005, looks=(4,)), 0.01) == math.inf


def test_pairs_needed_grow_with_the_noise() -> None:
    design = Design(loss_to_catch=0.03)
    needed = [pairs_needed(design, sigma) for sigma in (0.005, 0.0141, 0.03)]
    assert needed == sorted(needed, key=lambda pairs: pairs or math.inf)
    few = needed[1]
    assert few is not None
    assert chances(design.up_to(few), 0.0141, 0.03).fail >= 0.95
    assert chances(design.up_to(few - 2), 0.0141, 0.03).fail < 0.95
    assert pairs_needed(design, 0.2) is None


def test_an_unchanged_build_needs_fewer_pairs_than_a_half_loss() -> None:
    design = Design(loss_to_catch=0.03)
    assert pairs_expected(design, 0.0141) < pairs_expected(design, 0.0141, loss=0.015)
