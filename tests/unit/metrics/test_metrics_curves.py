"""The shape of a run: distributions, what came when, some of the requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.metrics.summary import Reduction
from pytest_llmperf.records import (
    Chunk,
    Chunks,
    ClientHealth,
    Curves,
    Pass,
    RequestRecord,
)

MS = 1_000_000
HEALTH = ClientHealth(
    cpu_share=0.1, loop_lag_ms_p99=None, loop_lag_ms_max=None, peak_rss_bytes=1, mean_in_flight=None
)


def request(
    index: int,
    *,
    at_ms: float = 0,
    ttft_ms: float = 100,
    tokens: int = 4,
    failure: str | None = None,
) -> RequestRecord:
    """``tokens`` of them, one each 10 ms after the first; a failed one ends when that was due."""
    began = round(at_ms * MS)
    times = [began + round((ttft_ms + 10 * n) * MS) for n in range(tokens)]
    chunks = Chunks.of(
        Chunk(at_ns=at, kind="answer", characters=3, cumulative_tokens=n + 1)
        for n, at in enumerate(() if failure else times)
    )
    return RequestRecord(
        index=index, written_ns=began, ended_ns=times[-1], status=200, failure=failure,
        finish_reason=None if failure else "length", prompt_tokens=8, cached_tokens=0,
        output_tokens=None if failure else tokens, reasoning_tokens=None, token_source="usage",
        chunks=chunks,
    )  # fmt: skip


def shape(requests: Sequence[RequestRecord]) -> Curves | None:
    passed = Pass(seed=1, started_at="", started_ns=0, records=tuple(requests), client=HEALTH)
    return Reduction(passed).curves


def drawn(requests: Sequence[RequestRecord]) -> Curves:
    found = shape(requests)
    assert found is not None
    return found


def test_a_pass_without_requests_has_no_shape() -> None:
    assert shape([]) is None


def test_distributions_run_from_the_least_to_the_largest() -> None:
    found = drawn([request(n, ttft_ms=100 + n) for n in range(101)])
    assert found.requests == 101
    assert found.quantiles["ttft"] == tuple(float(100 + n) for n in range(101))
    assert set(found.quantiles["tpot"]) == {10.0}
    assert found.quantiles["e2e"][0] == 130.0


def test_failed_requests_lie_beyond_every_value() -> None:
    requests = [request(n) for n in range(3)] + [request(3, failure="cut")]
    ttft = drawn(requests).quantiles["ttft"]
    assert ttft[:67] == (100.0,) * 67
    assert ttft[67:] == (None,) * 34


def test_what_came_is_told_bin_by_bin() -> None:
    # one after another, so that one is always in flight, for 4 x 130 ms
    requests = [request(n, at_ms=130 * n) for n in range(4)]
    found = drawn([*requests[:3], request(3, at_ms=390, failure="cut")])
    line = found.timeline
    assert line.bin_s == 0.05
    assert sum(line.output_tokens) == 12
    assert line.output_tokens[:4] == (0, 0, 4, 0)
    assert line.in_flight[:10] == pytest.approx((1.0,) * 10)
    assert line.failed == (0,) * 10 + (1,)
    assert len(line.in_flight) == len(line.output_tokens) == 11


def test_tokens_nobody_counts_are_spread_over_what_came() -> None:
    whole = request(0)
    unknown = Chunks.of(
        Chunk(at_ns=at * MS, kind="answer", characters=3, cumulative_tokens=None)
        for at in (100, 160)
    )
    line = drawn([replace(whole, chunks=unknown, ended_ns=170 * MS)]).timeline
    assert line.output_tokens == (0, 0, 2, 2)


@given(st.integers(1, 2000), st.floats(0.1, 1e5))
def test_the_shape_is_small_however_long_the_run(count: int, apart_ms: float) -> None:
    found = drawn([request(n, at_ms=n * apart_ms) for n in range(count)])
    line, sample = found.timeline, found.sample
    assert len(line.output_tokens) == len(line.in_flight) == len(line.failed) <= 121
    assert sum(line.output_tokens) == pytest.approx(
        4 * count, rel=1e-6, abs=len(line.failed) * 0.05
    )
    assert min(line.in_flight) >= 0
    spent_s = 0.13 * count
    assert sum(line.in_flight) * line.bin_s == pytest.approx(spent_s, rel=0.01)
    assert min(count, 60) <= len(sample.written_s) <= 120
    assert list(sample.written_s) == sorted(sample.written_s)
    assert sample.written_s[0] == 0
    for written, first, ended in zip(sample.written_s, sample.first_s, sample.ended_s, strict=True):
        assert first is not None
        assert written < first < ended


def test_a_request_that_failed_is_drawn_as_such() -> None:
    sample = drawn([request(0), request(1, at_ms=5, failure="cut")]).sample
    assert sample.ok == (True, False)
    assert sample.first_s == (0.1, None)
    assert sample.written_s == (0.0, 0.005)
