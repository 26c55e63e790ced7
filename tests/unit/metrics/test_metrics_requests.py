"""Timings of requests, from chunks that carry one token, several, or none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pytest_llmperf.metrics import requests as room
from pytest_llmperf.metrics.requests import raw_gaps, timings, token_gaps
from pytest_llmperf.records import Chunk, ChunkKind, Chunks, RequestRecord

MS = 1_000_000
#: (gap per token in ms, tokens)
Pairs = list[tuple[float, int]]


def chunk(at_ms: float, kind: ChunkKind = "answer", cumulative: int | None = None) -> Chunk:
    return Chunk(at_ns=round(at_ms * MS), kind=kind, characters=3, cumulative_tokens=cumulative)


def record(*chunks: Chunk, tokens: int | None) -> RequestRecord:
    return RequestRecord(
        index=0,
        written_ns=0,
        ended_ns=1000 * MS,
        status=200,
        failure=None,
        finish_reason="length",
        prompt_tokens=10,
        cached_tokens=0,
        output_tokens=tokens,
        reasoning_tokens=None,
        token_source="usage",
        chunks=Chunks.of(chunks),
    )


def single(one: RequestRecord, name: str) -> float | None:
    (value,) = getattr(timings([one]), name).tolist()
    return None if np.isnan(value) else value


def arrived(one: RequestRecord) -> list[tuple[float, int]]:
    found = timings([one]).arrivals
    return [
        (at / MS, tokens)
        for at, tokens in zip(found.at_ns.tolist(), found.tokens.tolist(), strict=True)
    ]


def itl(one: RequestRecord) -> Pairs | None:
    gaps = token_gaps(timings([one]).arrivals)
    return None if gaps is None else list(zip(gaps.ms.tolist(), gaps.tokens.tolist(), strict=True))


def icl(one: RequestRecord) -> Pairs:
    gaps = raw_gaps(timings([one]).arrivals)
    return list(zip(gaps.ms.tolist(), gaps.tokens.tolist(), strict=True))


def test_one_token_a_chunk() -> None:
    one = record(
        chunk(100, "reasoning", 1), chunk(120, "answer", 2), chunk(150, "answer", 3), tokens=3
    )
    assert single(one, "ttft") == 100
    assert single(one, "ttfat") == 120
    assert single(one, "tpot") == 25
    assert single(one, "e2e") == 150
    assert itl(one) == icl(one) == [(20, 1), (30, 1)]


def test_several_tokens_a_chunk_share_its_gap() -> None:
    one = record(chunk(100, cumulative=4), chunk(116, cumulative=8), tokens=8)
    assert single(one, "tpot") == 16 / 7
    assert itl(one) == [(4, 4)]
    assert icl(one) == [(16, 1)]


def test_role_only_empty_and_usage_only_chunks_start_and_end_nothing() -> None:
    one = record(
        chunk(1, "none"),
        chunk(100, cumulative=1),
        chunk(120, cumulative=2),
        chunk(400, "none"),
        tokens=2,
    )
    assert (single(one, "ttft"), single(one, "e2e")) == (100, 120)


def test_a_token_without_text_counts_when_the_server_counted_it() -> None:
    one = record(chunk(90, "none", 1), chunk(100, cumulative=2), tokens=2)
    assert arrived(one) == [(90, 1), (100, 1)]
    assert (single(one, "ttft"), single(one, "ttfat")) == (90, 100)


def test_text_that_brings_no_new_token_makes_no_gap() -> None:
    one = record(
        chunk(100, "reasoning", 1), chunk(120, "reasoning", 2), chunk(120, "answer", 2), tokens=2
    )
    assert itl(one) == [(20, 1)]
    assert single(one, "ttfat") == 120


def test_without_a_running_count_as_many_chunks_as_tokens_means_one_each() -> None:
    one = record(chunk(100), chunk(110), chunk(130), tokens=3)
    assert itl(one) == [(10, 1), (20, 1)]


def test_without_a_running_count_other_chunks_leave_itl_unknown() -> None:
    one = record(chunk(100), chunk(110), tokens=8)
    assert itl(one) is None
    assert icl(one) == [(10, 1)]
    assert single(one, "tpot") == 10 / 7


def test_a_total_on_the_closing_chunk_is_no_running_count() -> None:
    assert single(record(chunk(100), chunk(110), chunk(115, "none", 2), tokens=2), "e2e") == 110


def test_one_token_has_no_pace() -> None:
    one = record(chunk(100, cumulative=1), tokens=1)
    assert (single(one, "ttft"), single(one, "tpot")) == (100, None)
    assert itl(one) == icl(one) == []


def test_thinking_without_an_answer_has_no_time_to_it() -> None:
    one = record(chunk(100, "reasoning", 1), chunk(120, "reasoning", 2), tokens=2)
    assert single(one, "ttfat") is None


def test_nothing_at_all_is_none_and_never_zero() -> None:
    names = ("ttft", "ttfat", "tpot", "e2e", "ttft_from_schedule", "e2e_from_schedule")
    assert {single(record(tokens=0), name) for name in names} == {None}


def test_no_requests_have_no_timings() -> None:
    none = timings([])
    assert len(none.ttft) == len(none.arrivals.at_ns) == 0


def test_from_the_schedule_a_late_request_is_later() -> None:
    late = replace(record(chunk(100, cumulative=1), tokens=1), scheduled_ns=-30 * MS)
    assert (single(late, "ttft"), single(late, "ttft_from_schedule")) == (100, 130)
    assert single(late, "ttfat_from_schedule") == single(late, "e2e_from_schedule") == 130


def test_a_first_turn_is_due_when_it_is_written() -> None:
    first = record(chunk(100, cumulative=1), tokens=1)
    later = replace(first, scheduled_ns=-50 * MS)
    assert timings([first, later]).e2e_from_schedule.tolist() == [100, 150]


def test_without_a_schedule_there_is_nothing_from_it() -> None:
    assert single(record(chunk(100, cumulative=1), tokens=1), "e2e_from_schedule") is None


def test_a_response_in_one_piece_has_an_end_and_nothing_else() -> None:
    whole = replace(record(chunk(900, cumulative=5), tokens=5), streamed=False)
    assert single(whole, "e2e") == 1000
    assert {single(whole, name) for name in ("ttft", "ttfat", "tpot")} == {None}
    assert arrived(whole) == []


def test_batches_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    some = [
        record(*(chunk(10 * n + at, cumulative=at + 1) for at in range(n % 4)), tokens=n % 4)
        for n in range(20)
    ]
    at_once = timings(some)
    monkeypatch.setattr(room, "_BATCH", 5)
    in_batches = timings(some)
    for name in ("ttft", "tpot", "e2e", "last_ns"):
        np.testing.assert_array_equal(getattr(at_once, name), getattr(in_batches, name))
    for name in ("request", "at_ns", "tokens"):
        np.testing.assert_array_equal(
            getattr(at_once.arrivals, name), getattr(in_batches.arrivals, name)
        )
