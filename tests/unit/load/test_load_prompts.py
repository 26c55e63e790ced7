"""Prompts: exact, decided by the seed, and alike in no beginning."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.compose.prompts import (
    CHARACTERS,
    WORDS,
    IdPool,
    Part,
    Sequences,
    Units,
    id_lists,
    texts,
)
from pytest_llmperf.load.declare.lengths import bounds, uniform

POOL = IdPool(ids=tuple(range(100, 140)))
PARTS = st.sampled_from(("measured", "warmup"))
UNITS = Units(items=WORDS, joint=" ", lead="a")


@given(tokens=st.integers(1, 60), seed=st.integers(0, 9), count=st.integers(1, 90))
def test_lists_and_texts_have_exactly_the_length_asked_for(
    tokens: int, seed: int, count: int
) -> None:
    for ids in id_lists(POOL, tokens, seed=seed, count=count, part="measured"):
        assert len(ids) == tokens
        assert set(ids) <= set(POOL.ids)
    for text in texts(UNITS, tokens, seed=seed, count=count, part="measured"):
        assert text.startswith("a ")
        assert len(text.split(" ")) == 1 + tokens


def test_characters_are_joined_without_spaces() -> None:
    units = Units(items=CHARACTERS, joint="", lead="a")
    (text,) = texts(units, 33, seed=1, count=1, part="measured")
    assert len(text) == 1 + 33
    assert text.isalpha()


def test_the_same_seed_gives_the_same_prompts_and_another_seed_others() -> None:
    def made(seed: int, part: Part = "measured") -> list[list[int]]:
        return id_lists(POOL, 20, seed=seed, count=50, part=part)

    assert made(1) == made(1)
    assert not set(map(tuple, made(1))) & set(map(tuple, made(2)))
    assert not set(map(tuple, made(1))) & set(map(tuple, made(1, "warmup")))


def test_prompts_differ_from_their_first_token_while_the_pool_allows() -> None:
    made = id_lists(POOL, 20, seed=3, count=30, part="measured")
    assert len({ids[0] for ids in made}) == 30


def test_when_the_first_tokens_run_out_the_next_ones_differ() -> None:
    made = id_lists(POOL, 20, seed=3, count=600, part="measured")
    assert len({tuple(ids[:3]) for ids in made}) == 600


def test_no_measured_prompt_begins_like_one_for_warming_up() -> None:
    measured = id_lists(POOL, 20, seed=5, count=200, part="measured")
    warming = id_lists(POOL, 20, seed=5, count=200, part="warmup")
    assert not {ids[0] for ids in measured} & {ids[0] for ids in warming}


def test_a_pool_too_small_to_divide_is_shared() -> None:
    small = IdPool(ids=(1, 2, 3))
    assert len(id_lists(small, 5, seed=0, count=4, part="warmup")) == 4


def test_the_word_list_repeats_nothing() -> None:
    assert len(set(WORDS)) == len(WORDS) > 200
    assert all(word.isalpha() and word.islower() for word in WORDS)


@pytest.mark.parametrize("part", ["measured", "warmup"])
def test_prompts_within_a_pass_are_all_different(part: Part) -> None:
    made = texts(UNITS, 12, seed=9, count=300, part=part)
    assert len(set(made)) == 300


@given(number=st.integers(0, 10**6), length=st.integers(1, 200), seed=st.integers(0, 9), part=PARTS)
def test_a_sequence_depends_on_its_number_alone(
    number: int, length: int, seed: int, part: Part
) -> None:
    asked_late = Sequences(POOL.ids, key=str(seed), part=part)
    asked_late.starting(number + 1, 7)
    asked_first = Sequences(POOL.ids, key=str(seed), part=part)
    sequence = asked_first.starting(number, length)
    assert sequence == asked_late.starting(number, length)
    assert len(sequence) == length
    assert set(sequence) <= set(POOL.ids)


@given(numbers=st.sets(st.integers(0, 10**5), min_size=2, max_size=40), part=PARTS)
def test_whatever_the_numbers_are_no_two_sequences_begin_alike(
    numbers: set[int], part: Part
) -> None:
    sequences = Sequences(POOL.ids, key="1", part=part)
    # 40 ids have five digits enough for 10**5 numbers, whichever part has the first of them.
    assert len({tuple(sequences.starting(number, 5)) for number in numbers}) == len(numbers)


def test_sequences_longer_than_the_supply_are_whole() -> None:
    sequences = Sequences(POOL.ids, key="1", part="measured")
    long = sequences.starting(3, 200_000)
    assert len(long) == 200_000
    assert len(sequences.following("x", 70_000)) == 70_000


def test_what_follows_is_decided_by_its_label_and_spread_over_the_pool() -> None:
    sequences = Sequences(POOL.ids, key="1", part="measured")
    assert sequences.following("a", 50) == sequences.following("a", 50)
    assert sequences.following("a", 50) != sequences.following("b", 50)
    assert set(sequences.following("a", 1000)) == set(POOL.ids)


@given(low=st.integers(-5, 5), span=st.integers(0, 9), label=st.text(max_size=5))
def test_uniform_numbers_lie_within_their_bounds(low: int, span: int, label: str) -> None:
    assert low <= uniform(b"x", label, low, low + span) <= low + span


def test_uniform_numbers_reach_every_value_equally_often() -> None:
    seen = [uniform(b"x", str(number), 3, 7) for number in range(10_000)]
    for value in range(3, 8):
        assert seen.count(value) == pytest.approx(2000, abs=4 * math.sqrt(1600))


@given(mean=st.integers(1, 10_000), spread=st.floats(0, 0.999))
def test_bounds_lie_equally_far_from_the_mean_and_above_zero(mean: int, spread: float) -> None:
    low, high = bounds(mean, spread)
    assert low + high == 2 * mean
    assert 1 <= low <= mean
    assert mean * spread - 1 < high - mean <= mean * spread + 1e-6


def test_bounds_of_a_usual_spread() -> None:
    assert bounds(1000, 0.3) == (700, 1300)
    assert bounds(804, 0.9) == (81, 1527)
    assert bounds(512, 0.0) == (512, 512)


@given(mean=st.integers(20, 2000), spread=st.floats(0.05, 0.95), seed=st.integers(0, 50))
def test_drawn_lengths_keep_their_mean(mean: int, spread: float, seed: int) -> None:
    low, high = bounds(mean, spread)
    count = 400
    drawn = [uniform(b"%d" % seed, str(number), low, high) for number in range(count)]
    deviation = math.sqrt(((high - low + 1) ** 2 - 1) / 12 / count)
    assert sum(drawn) / count == pytest.approx(mean, abs=5.5 * deviation + 1e-9)
