from __future__ import annotations

import math
import random
import statistics

import pytest

from pytest_llmperf.gates.noise import FEWEST_LAUNCHES, noise_by_metric, noise_of


def launches(
    rng: random.Random, count: int, *, launch: float, run: float, runs: int = 3
) -> list[list[float]]:
    levels = (100 * math.exp(rng.gauss(0, launch)) for _ in range(count))
    return [[level * math.exp(rng.gauss(0, run)) for _ in range(runs)] for level in levels]


def test_spreads_are_found_again() -> None:
    rng = random.Random(1)
    found = [noise_of(launches(rng, 10, launch=0.03, run=0.01)) for _ in range(300)]
    sigmas = [noise.pair_sigma for noise in found if noise]
    # a launch's mean has a third of the runs' variance beside its own
    pair = math.sqrt(2 * (0.03**2 + 0.01**2 / 3))
    assert math.sqrt(statistics.fmean(s**2 for s in sigmas)) == pytest.approx(pair, rel=0.1)
    runs = [noise.run_sigma for noise in found if noise and noise.run_sigma is not None]
    assert statistics.fmean(runs) == pytest.approx(0.01, rel=0.05)
    assert {noise.pair_df for noise in found if noise} == {5}


def test_drift_shows_between_launches_but_hardly_in_pairs() -> None:
    drifting = [[100 * math.exp(0.01 * at)] for at in range(20)]
    noise = noise_of(drifting)
    assert noise is not None
    assert noise.launch_sigma == pytest.approx(0.059, rel=0.02)
    assert noise.pair_sigma == pytest.approx(0.01)
    assert noise.lag1 > 0.7
    assert noise.run_sigma is None


def test_two_kinds_of_launches_are_seen() -> None:
    rng = random.Random(2)
    values = [[level * math.exp(rng.gauss(0, 0.005))] for level in [100, 120] * 6]
    noise = noise_of(values)
    assert noise is not None
    assert noise.bimodal
    steady = noise_of([[100 * math.exp(rng.gauss(0, 0.03))] for _ in range(12)])
    assert steady is not None
    assert not steady.bimodal


def test_scale_does_not_matter() -> None:
    values = launches(random.Random(3), 8, launch=0.02, run=0.01)
    scaled = [[1000 * value for value in launch] for launch in values]
    one, other = noise_of(values), noise_of(scaled)
    assert one is not None
    assert other is not None
    assert one.pair_sigma == pytest.approx(other.pair_sigma)


def test_too_few_launches_or_no_logarithm_say_nothing() -> None:
    few = [[1.0]] * (FEWEST_LAUNCHES - 1)
    assert noise_of(few) is None
    assert noise_by_metric({"a": few, "b": [[0.0]] * 8, "c": [[2.0]] * 8}).keys() == {"c"}
