"""The steady part of a run, and whether a trend in it is told from noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.metrics.health import TREND_P_VALUE, invalid_reasons
from pytest_llmperf.metrics.requests import Arrivals
from pytest_llmperf.metrics.steady import (
    Span,
    order_p_value,
    retention,
    steady_span,
    tokens_within,
    trend,
)
from pytest_llmperf.metrics.summary import Reduction, reduce_pass
from pytest_llmperf.records import (
    NO_CHUNKS,
    Chunk,
    Chunks,
    ClientHealth,
    Pass,
    RequestRecord,
    Workload,
)

S = 1_000_000_000
CLOSED = Workload(
    name="tiny",
    input_tokens=10,
    output_tokens=10,
    concurrency=2,
    requests=4,
    warmup_requests=1,
    runs=1,
)
HEALTHY = ClientHealth(
    cpu_share=0.1,
    loop_lag_ms_p99=1.0,
    loop_lag_ms_max=2.0,
    peak_rss_bytes=1,
    mean_in_flight=None,
)


def request(written_s: float, **more: Any) -> RequestRecord:
    record = RequestRecord(
        index=0,
        written_ns=round(written_s * S),
        ended_ns=round(written_s * S) + S,
        status=200,
        failure=None,
        finish_reason="length",
        prompt_tokens=10,
        cached_tokens=0,
        output_tokens=10,
        reasoning_tokens=None,
        token_source="usage",
        chunks=NO_CHUNKS,
    )
    return replace(record, **more)


# --- where it begins and ends


def test_a_closed_loop_is_whole_once_every_slot_has_written() -> None:
    some = [request(at) for at in (0, 3, 1, 5, 4)]
    assert steady_span(some, CLOSED, 0) == Span(1 * S, 5 * S)
    assert steady_span(some, replace(CLOSED, concurrency=3), 0) == Span(3 * S, 5 * S)


def test_a_ramp_up_and_later_turns_do_not_count_as_whole() -> None:
    some = [request(0), request(1, turn=1), request(2), request(9)]
    assert steady_span(some, CLOSED, 0) == Span(2 * S, 9 * S)
    assert steady_span(some, replace(CLOSED, ramp_up_s=4.0), S) == Span(5 * S, 9 * S)


def test_an_open_loop_settles_for_a_tenth_of_its_schedule() -> None:
    some = [request(at + 0.25, scheduled_ns=at * S) for at in range(11)]
    steady = steady_span(some, replace(CLOSED, arrivals="poisson", rate=1.0), 0)
    assert steady == Span(1 * S, round(10.25 * S))


def talk(session: int, begin_s: float, turns: int = 3) -> list[RequestRecord]:
    """A conversation whose turns take a second each and follow at once."""
    return [
        request(begin_s + turn, session=session, turn=turn, scheduled_ns=None)
        for turn in range(turns)
    ]


def test_conversations_in_a_closed_loop_are_whole_until_the_last_begins() -> None:
    # Two slots, two conversations each: the second slot's last one is all alone from 7 s on.
    some = [*talk(0, 0), *talk(1, 1), *talk(2, 3), *talk(3, 4, turns=9)]
    talks = replace(CLOSED, turns=3)
    assert steady_span(some, talks, 0) == Span(1 * S, 4 * S)
    assert steady_span(some[:6], talks, 0) is None
    # Time cuts them off together.
    assert steady_span(some, replace(talks, duration_s=13.0), 0) == Span(1 * S, 12 * S)


def test_conversations_in_an_open_loop_pile_up_for_as_long_as_one_lasts() -> None:
    talks = replace(CLOSED, arrivals="poisson", rate=1.0, turns=3)
    some = [
        replace(each, scheduled_ns=each.written_ns)
        for session in range(11)
        for each in talk(session, session)
    ]
    # Three seconds each, of which the last ends at 13 s.
    assert steady_span(some, talks, 0) == Span(3 * S, 10 * S)
    rare = [replace(each, scheduled_ns=10 * (each.scheduled_ns or 0)) for each in some]
    late = [replace(each, written_ns=10 * each.written_ns) for each in rare if each.turn == 0]
    late = [replace(each, ended_ns=each.written_ns + S) for each in late]
    assert steady_span(late, talks, 0) == Span(10 * S, 100 * S)
    assert steady_span([each for each in some if each.session < 3], talks, 0) is None


def test_a_slot_that_ran_out_of_conversations_is_not_idling() -> None:
    some = [each for n in range(4) for each in talk(n, n // 2 * 3)]
    lone = [*some, *talk(4, 6, turns=30)]
    pass_ = Pass(seed=0, started_at="", started_ns=0, records=tuple(lone), client=HEALTHY)
    talks = replace(CLOSED, turns=3)
    steady = steady_span(lone, talks, 0)
    assert invalid_reasons(pass_, talks, HealthBounds(), steady=steady) == ()


@pytest.mark.parametrize(
    "changed",
    [
        {"concurrency": 9},
        {"arrivals": "constant", "rate": 1.0, "final_rate": 5.0},
        {"arrivals": "trace"},
        {"arrivals": "poisson", "rate": 1.0},  # of records without a schedule
        {"ramp_up_s": 60.0},
    ],
)
def test_a_load_that_was_never_whole_has_no_steady_part(changed: dict[str, Any]) -> None:
    some = [request(at) for at in range(4)]
    assert steady_span(some, replace(CLOSED, **changed), 0) is None
    assert steady_span([], CLOSED, 0) is None


# --- what is in it


def arrivals(at_s: Any, tokens: Any = 1) -> Arrivals:
    at_ns = np.round(np.asarray(at_s, float) * S).astype(np.int64)
    return Arrivals(
        request=np.zeros(len(at_ns), np.int32),
        at_ns=at_ns,
        tokens=np.broadcast_to(np.asarray(tokens, np.int32), at_ns.shape),
    )


def test_tokens_count_after_its_begin_and_up_to_its_end() -> None:
    came = arrivals([1, 2, 3, 4], [1, 10, 100, 1000])
    assert tokens_within(came, Span(1 * S, 3 * S)) == 110


def test_an_unknown_number_of_tokens_makes_all_unknown() -> None:
    came = arrivals([1, 2, 3], [1, 0, 1])
    span = Span(0, 9 * S)
    assert (tokens_within(came, span), retention(came, span), trend(came, span)) == (None,) * 3


def test_retention_compares_the_last_third_with_the_first() -> None:
    came = arrivals(np.r_[np.linspace(0.1, 10, 40), np.linspace(20.1, 30, 30)])
    assert retention(came, Span(0, 30 * S)) == pytest.approx(0.75)
    assert retention(arrivals([25.0]), Span(0, 30 * S)) is None


def test_too_few_tokens_tell_no_trend() -> None:
    assert trend(arrivals(np.linspace(0.1, 30, 299)), Span(0, 30 * S)) is None
    assert trend(arrivals(np.linspace(0.1, 30, 300)), Span(0, 30 * S)) is not None


@given(st.lists(st.integers(0, 400), min_size=30, max_size=30))
def test_the_order_is_tested_as_scipy_does(values: list[int]) -> None:
    mine = order_p_value(np.array(values, float))
    theirs = kendalltau(np.arange(30), values, method="asymptotic").pvalue
    assert mine == pytest.approx(1.0 if np.isnan(theirs) else theirs, abs=0.02)


# --- error rates, on streams of tokens whose truth is known


def steps(chance: np.random.Generator, *, slowing: float = 0.0) -> Any:
    """The decoding steps of a minute: 20 ms, slowing down linearly, with noise of 30 % on each
    and of 5 % on each second."""
    noisy = 0.02 * chance.normal(1, 0.3, 3000).clip(0.1)
    return noisy * np.repeat(chance.normal(1, 0.05, 60), 50) * np.linspace(1, 1 + slowing, 3000)


def in_waves(lengths: Any) -> Any:
    """Twelve times the batch stands still for new prompts."""
    stalled = lengths.copy()
    stalled[::250] += 0.3
    return stalled


def wandering(lengths: Any, chance: np.random.Generator) -> Any:
    """The speed wanders by a few percent and takes ten seconds to come back."""
    state, path = 0.0, []
    for kick in chance.normal(0, 0.013, 60):
        state = 0.9 * state + kick
        path.append(state)
    return lengths * np.repeat(1 + np.array(path), 50)


def looked_at(lengths: Any) -> tuple[float, bool]:
    """The p value, and whether it is an alarm, of a batch of 8."""
    came = arrivals(np.cumsum(lengths), 8)
    seen = trend(came, Span(0, int(came.at_ns[-1])))
    assert seen is not None
    return seen.p_value, seen.p_value < TREND_P_VALUE and abs(seen.retention - 1) > 0.2


def test_stationary_noise_is_called_a_trend_as_seldom_as_the_p_value_says() -> None:
    chance = np.random.default_rng(1)
    looks = [looked_at(steps(chance)) for _ in range(400)]
    p_values = np.array([p_value for p_value, _ in looks])
    assert not any(alarm for _, alarm in looks)
    assert (p_values < TREND_P_VALUE).sum() <= 3
    assert 0.02 < (p_values < 0.05).mean() < 0.09


def test_waves_and_wandering_raise_no_alarm() -> None:
    chance = np.random.default_rng(2)
    assert not any(looked_at(in_waves(steps(chance)))[1] for _ in range(200))
    assert not any(looked_at(wandering(steps(chance), chance))[1] for _ in range(200))


def test_a_server_that_slows_down_to_half_is_always_seen() -> None:
    chance = np.random.default_rng(3)
    assert all(looked_at(steps(chance, slowing=1.0))[1] for _ in range(50))
    assert all(looked_at(in_waves(steps(chance, slowing=1.0)))[1] for _ in range(50))


# --- in a run


def a_run(count: int, *, slowing: float) -> Pass:
    """Two slots, one request of ten tokens after the other; each takes longer than the last."""
    free = [0.0, 0.05]
    records = []
    for index in range(count):
        slot = index % 2
        start = free[slot]
        step = 0.01 * (1 + slowing * index / count)
        at = [start + step * (position + 1) for position in range(10)]
        chunks = Chunks.of(
            Chunk(at_ns=round(each * S), kind="answer", characters=1, cumulative_tokens=n + 1)
            for n, each in enumerate(at)
        )
        free[slot] = at[-1]
        records.append(request(start, chunks=chunks, ended_ns=round(at[-1] * S)))
    return Pass(seed=0, started_at="", started_ns=0, records=tuple(records), client=HEALTHY)


def reasons(count: int, *, slowing: float, extra: tuple[str, ...] = (), **changed: Any) -> str:
    run = reduce_pass(
        a_run(count, slowing=slowing),
        workload=replace(CLOSED, **changed),
        launch_id="L",
        index=0,
        devices=1,
        extra=extra,
    )
    return " ".join(run.invalid_reasons)


def test_a_run_that_slows_down_is_not_steady() -> None:
    assert reasons(200, slowing=1.0).startswith("not steady: the output rate fell by")
    assert reasons(200, slowing=0.0) == ""
    assert reasons(200, slowing=0.1) == ""


def test_short_runs_are_not_looked_at_unless_they_are_bounded_by_time() -> None:
    assert reasons(99, slowing=2.0) == ""
    assert reasons(99, slowing=2.0, duration_s=10.0) != ""


def test_a_gate_on_retention_judges_the_drift_itself() -> None:
    assert reasons(200, slowing=1.0, extra=("throughput_retention",)) == ""


def test_a_steady_part_of_a_few_requests_length_shows_no_trend() -> None:
    pass_ = a_run(12, slowing=0.0)
    assert Reduction(pass_, workload=CLOSED).value("throughput_retention").value is not None
    assert Reduction(a_run(8, slowing=0), workload=CLOSED).trend is None
    assert Reduction(a_run(8, slowing=0), workload=CLOSED).value("throughput_retention").value is (
        None
    )


def test_output_that_only_begins_late_has_no_trend_that_could_be_told() -> None:
    late = arrivals(np.linspace(20.1, 30, 400))
    assert trend(late, Span(0, 30 * S)) is None
