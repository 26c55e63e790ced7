"""Words that verdicts have in common, letter by letter: people act on them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gates import sentences
from pytest_llmperf.records import RegressionGate


@pytest.mark.parametrize(
    ("fraction", "said"),
    [
        (0.061, "6.1 %"),
        (0.06149, "6.1 %"),
        (0.0006149, "0.061 %"),
        (0.123456, "12.3 %"),
        (0.1, "10 %"),
        (0.0999, "10 %"),
        (-0.02, "2 %"),
        (0.0, "0 %"),
        (3.0, "300 %"),
        (math.inf, "any number of %"),
        (-math.inf, "any number of %"),
    ],
)
def test_shares(fraction: float, said: str) -> None:
    assert sentences.percent(fraction) == said


@pytest.mark.parametrize(
    ("metric", "loss", "said"),
    [
        ("ttft_p95", 0.061, "6.1 % slower"),
        ("ttft_p95", -0.02, "2 % faster"),
        ("startup_time", 0.5, "50 % slower"),
        ("output_throughput", 0.03, "3 % slower"),
        ("output_throughput", -0.03, "3 % faster"),
        ("success_rate", 0.03, "3 % worse"),
        ("success_rate", -0.03, "3 % better"),
        ("ttft_p95", 0.0, "no different"),
        ("ttft_p95", 1e-14, "no different"),
        ("ttft_p95", 1e-11, "0.000000001 % slower"),
    ],
)
def test_changes(metric: str, loss: float, said: str) -> None:
    assert sentences.changed_by(metric, loss) == said


def test_bounds_are_told_from_the_bad_side() -> None:
    assert sentences.at_least("tpot_mean", 0.047) == "at least 4.7 %"
    assert sentences.at_least("tpot_mean", 0.0) == "at least 0 %"
    assert sentences.at_least("tpot_mean", -0.02) == "no more than 2 % faster"
    assert sentences.at_worst("tpot_mean", 0.014) == "at worst 1.4 % slower"
    assert sentences.at_worst("tpot_mean", 0.0) == "at worst no different"
    assert sentences.at_worst("tpot_mean", -0.02) == "at least 2 % faster"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (0.01, "99 % sure"),
        (0.0005, "99.95 % sure"),
        (0.5, "50 % sure"),
        (0.01 / 125 / 20, "99.9996 % sure"),
    ],
)
def test_how_sure(error: float, said: str) -> None:
    assert sentences.sure(error) == said


def test_what_a_gate_wants() -> None:
    gate = RegressionGate(
        metric="ttft_p95", loss_to_catch=0.03, allow=0.0, source="gate set in a.py:9"
    )
    assert sentences.wanted(gate) == "gate: catch a loss of 3 % (gate set in a.py:9)"
    allowing = RegressionGate(
        metric="ttft_p95", loss_to_catch=0.03, allow=0.01, source="gate set in a.py:9"
    )
    assert sentences.wanted(allowing) == (
        "gate: catch a loss of 3 %, allow 1 % (gate set in a.py:9)"
    )


def test_what_else_differs() -> None:
    assert sentences.also([]) == ""
    assert sentences.also(["torch", "driver"]) == "; differs: torch, driver"


@given(st.floats(-0.9, 5.0, allow_nan=False))
def test_a_loss_and_its_gain_are_told_by_the_same_number(loss: float) -> None:
    assert sentences.percent(loss) == sentences.percent(-loss)
    worse, better = sentences.changed_by("itl_p99", loss), sentences.changed_by("itl_p99", -loss)
    assert (
        worse.replace("slower", "faster").split("faster")[0]
        == (better.replace("slower", "faster").split("faster")[0])
    )
