"""The seeds of runs: alike where a comparison needs it, and else never the same twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Source, Workload
from pytest_llmperf.session.seeds import MOST_RUNS, base_seed, run_seed, session_number

CHAT = Workload(
    name="chat",
    input_tokens=8,
    output_tokens=4,
    concurrency=4,
    requests=40,
    warmup_requests=4,
    runs=2,
    seed=7,
)


@pytest.fixture(autouse=True)
def fresh_number() -> Iterator[None]:
    session_number.cache_clear()
    yield
    session_number.cache_clear()


def other_session() -> None:
    session_number.cache_clear()


KEY = st.tuples(st.integers(0, 1 << 40), st.integers(0, MOST_RUNS - 1), st.integers(0, 1))


@given(st.sets(KEY, min_size=2, max_size=20))
def test_no_two_attempts_share_a_seed(keys: set[tuple[int, int, int]]) -> None:
    assert len({run_seed(*key) for key in keys}) == len(keys)


def test_neighbours_do_not_share_a_seed_at_the_ends_of_their_ranges() -> None:
    keys = list(product((0, 1, 2), (0, 1, MOST_RUNS - 2, MOST_RUNS - 1), (0, 1)))
    assert len({run_seed(*key) for key in keys}) == len(keys)


@pytest.mark.parametrize(("index", "attempt"), [(MOST_RUNS, 0), (-1, 0), (0, 2)])
def test_what_would_share_one_is_refused(index: int, attempt: int) -> None:
    with pytest.raises(ValueError, match="no seed for"):
        run_seed(0, index, attempt)


def test_too_many_runs_are_a_mistake_before_anything_is_sent() -> None:
    with pytest.raises(UsageMistake, match="at most 32,767 runs"):
        base_seed(replace(CHAT, runs=MOST_RUNS + 1), outlives=False)
    assert base_seed(replace(CHAT, runs=MOST_RUNS), outlives=False) == 7


def test_on_a_server_that_is_flushed_the_workloads_own_seed_decides() -> None:
    assert base_seed(CHAT, outlives=False) == 7
    other_session()
    assert base_seed(replace(CHAT, name="other"), outlives=False) == 7


def test_without_a_flush_workloads_of_one_seed_differ_alike_in_every_session() -> None:
    kept = replace(CHAT, flush=False)
    seed = base_seed(kept, outlives=False)
    unlike = [replace(kept, name="x"), replace(kept, input_tokens=9), replace(kept, concurrency=8)]
    assert len({7, seed, *(base_seed(each, outlives=False) for each in unlike)}) == 5
    other_session()
    assert base_seed(kept, outlives=False) == seed


@pytest.mark.parametrize("flush", [True, False])
def test_where_the_cache_outlives_the_session_each_has_seeds_of_its_own(flush: bool) -> None:
    workload = replace(CHAT, flush=flush)
    seed = base_seed(workload, outlives=True)
    assert base_seed(workload, outlives=True) == seed
    assert base_seed(replace(workload, name="x"), outlives=True) != seed
    other_session()
    assert base_seed(workload, outlives=True) != seed


def test_where_a_file_lies_changes_nothing() -> None:
    here = replace(CHAT, source=Source(kind="prompts", path="/a/x.jsonl", sha256="1"), flush=False)
    there = replace(here, source=Source(kind="prompts", path="/b/x.jsonl", sha256="1"))
    assert base_seed(here, outlives=False) == base_seed(there, outlives=False)


def test_mixed_seeds_survive_every_reader_of_json() -> None:
    kept = replace(CHAT, flush=False)
    seeds = [base_seed(replace(kept, seed=n), outlives=False) for n in range(200)]
    assert max(run_seed(seed, MOST_RUNS - 1, 1) for seed in seeds) < 1 << 53
    assert max(seeds) >= 1 << 36
