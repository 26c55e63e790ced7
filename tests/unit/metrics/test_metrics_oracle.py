"""The columns give what the definitions give when they are followed chunk by chunk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.metrics.sample import Sample
from pytest_llmperf.metrics.summary import Reduction
from pytest_llmperf.records import (
    Chunk,
    ChunkKind,
    Chunks,
    ClientHealth,
    MetricValue,
    Pass,
    RequestRecord,
)

HEALTHY = ClientHealth(
    cpu_share=0.1,
    loop_lag_ms_p99=1.0,
    loop_lag_ms_max=2.0,
    peak_rss_bytes=1,
    mean_in_flight=None,
)

# --- the definitions, one chunk at a time


def arrivals(record: RequestRecord) -> list[tuple[int, int | None]]:
    with_text = [chunk for chunk in record.chunks if chunk.kind != "none"]
    if all(chunk.cumulative_tokens is not None for chunk in with_text):
        return rises(record.chunks)
    one_each = len(with_text) == record.output_tokens
    return [(chunk.at_ns, 1 if one_each else None) for chunk in with_text]


def rises(chunks: Chunks) -> list[tuple[int, int | None]]:
    found: list[tuple[int, int | None]] = []
    so_far = 0
    for chunk in chunks:
        count = chunk.cumulative_tokens
        if count is not None and count > so_far:
            found.append((chunk.at_ns, count - so_far))
            so_far = count
    return found


@dataclass(frozen=True)
class Told:
    """One request by the definitions; gaps are (ms, weight)."""

    ttft: float | None
    ttfat: float | None
    tpot: float | None
    e2e: float | None
    itl: list[tuple[float, int]] | None
    icl: list[tuple[float, int]]


def told(record: RequestRecord) -> Told:
    came = arrivals(record)
    answer = next((chunk for chunk in record.chunks if chunk.kind == "answer"), None)
    itl: list[tuple[float, int]] | None = []
    for (earlier, _), (later, tokens) in pairwise(came):
        if tokens is None:
            itl = None
            break
        assert itl is not None
        itl.append(((later - earlier) / 1e6 / tokens, tokens))
    tpot = None
    if came and record.output_tokens is not None and record.output_tokens >= 2:
        tpot = (came[-1][0] - came[0][0]) / 1e6 / (record.output_tokens - 1)
    return Told(
        ttft=(came[0][0] - record.written_ns) / 1e6 if came else None,
        ttfat=(answer.at_ns - record.written_ns) / 1e6 if answer else None,
        tpot=tpot,
        e2e=(came[-1][0] - record.written_ns) / 1e6 if came else None,
        itl=itl,
        icl=[((b - a) / 1e6, 1) for (a, _), (b, _) in pairwise(came)],
    )


def percentile(values: Sequence[tuple[float, int]], quantile: float) -> float:
    spread = sorted(value for value, weight in values for _ in range(weight))
    return spread[math.ceil(round(quantile * (len(spread) - 1), 9))]


def single(records: Sequence[RequestRecord], name: str) -> list[tuple[float, int]] | None:
    values = [getattr(told(record), name) for record in records if record.ok]
    failed = len(records) - len(values)
    if not values:
        return [(math.inf, failed)] if failed else None
    known = [value for value in values if value is not None]
    missing = len(values) - len(known)
    if not known or (missing and name != "ttfat"):
        return None
    late = [(math.inf, failed + missing)] if failed + missing else []
    return [*((value, 1) for value in known), *late]


def pooled(records: Sequence[RequestRecord], name: str) -> list[tuple[float, int]] | None:
    each = [getattr(told(record), name) for record in records if record.ok]
    failed = len(records) - len(each)
    if not each:
        return [(math.inf, failed)] if failed else None
    if any(gaps is None for gaps in each):
        return None
    pool = [gap for gaps in each for gap in gaps]
    weight = sum(tokens for _, tokens in pool)
    if not weight:
        return None
    late = [(math.inf, math.ceil(weight * failed / len(each)))] if failed else []
    return [*pool, *late]


# --- requests of every kind


KINDS: tuple[ChunkKind, ...] = ("none", "reasoning", "answer")


@st.composite
def records(draw: st.DrawFn) -> RequestRecord:
    """Any request: with a running count, without one, with one that now and then is missing."""
    written = draw(st.integers(0, 10**9))
    at = written
    count = 0
    counting = draw(st.sampled_from(["always", "never", "sometimes"]))
    chunks = []
    for _ in range(draw(st.integers(0, 6))):
        at += draw(st.integers(0, 10**8))
        count += draw(st.integers(0, 3))
        shown = counting == "always" or (counting == "sometimes" and draw(st.booleans()))
        chunks.append(
            Chunk(
                at_ns=at,
                kind=draw(st.sampled_from(KINDS)),
                characters=1,
                cumulative_tokens=count if shown else None,
            )
        )
    with_text = sum(chunk.kind != "none" for chunk in chunks)
    return RequestRecord(
        index=0,
        written_ns=written,
        ended_ns=at,
        status=200,
        failure=draw(st.sampled_from([None, None, None, "cut"])),
        finish_reason="length",
        prompt_tokens=1,
        cached_tokens=0,
        output_tokens=draw(st.sampled_from([None, 0, 1, with_text, count])),
        reasoning_tokens=None,
        token_source="usage",
        chunks=Chunks.of(chunks),
    )


@given(st.lists(records(), max_size=6), st.integers(1, 999))
def test_every_statistic_is_that_of_the_definitions(some: list[RequestRecord], mille: int) -> None:
    measured = Reduction(
        Pass(seed=0, started_at="", started_ns=0, records=tuple(some), client=HEALTHY)
    )
    for name in ("ttft", "ttfat", "tpot", "e2e", "itl", "icl"):
        values = (pooled if name in ("itl", "icl") else single)(some, name)
        statistic = f"p{mille:03d}"
        found = measured.value(f"{name}_{statistic}")
        if values is None:
            assert found == measured.value(f"{name}_mean") == MetricValue(value=None), name
            continue
        wanted = percentile(values, mille / 1000)
        assert (math.inf if found.unbounded else found.value) == wanted, name
        weight = sum(each for _, each in values)
        mean = measured.value(f"{name}_mean")
        assert mean.unbounded == any(math.isinf(value) for value, _ in values)
        if not mean.unbounded:
            assert mean.value == math.fsum(value * each for value, each in values) / weight


@given(st.lists(records(), max_size=6))
def test_the_span_ends_with_the_last_token_of_any_request(some: list[RequestRecord]) -> None:
    measured = Reduction(
        Pass(seed=0, started_at="", started_ns=0, records=tuple(some), client=HEALTHY)
    )
    last = [came[-1][0] for came in map(arrivals, some) if came]
    wanted = max(last) - min(record.written_ns for record in some) if last else 0
    assert measured.span_s == (wanted / 1e9 if wanted > 0 else None)


# --- samples


VALUES = st.lists(st.floats(0, 1e6), min_size=1, max_size=60)


def at(sample: Sample, quantile: float) -> float:
    found = sample.at(quantile)
    return math.inf if found.value is None else found.value


@given(VALUES, st.integers(1, 999))
def test_a_percentile_is_the_next_higher_order_statistic(values: list[float], mille: int) -> None:
    mine = at(Sample(np.array(values)), mille / 1000)
    assert mine in values
    assert mine == np.percentile(values, mille / 10, method="higher")
    assert mine >= np.percentile(values, mille / 10) - 1e-6


@given(VALUES, st.data())
def test_weights_stand_for_repeated_values(values: list[float], data: st.DataObject) -> None:
    weights = [data.draw(st.integers(1, 4)) for _ in values]
    quantile = data.draw(st.sampled_from([0.5, 0.9, 0.95, 0.99]))
    weighted = Sample(np.array(values), np.array(weights))
    spread = Sample(np.repeat(values, weights))
    assert weighted.at(quantile) == spread.at(quantile)
    assert weighted.mean().value == pytest.approx(spread.mean().value)


@given(VALUES, st.integers(0, 20))
def test_percentiles_grow_with_the_quantile_and_with_failures(
    values: list[float], failed: int
) -> None:
    clean = Sample(np.array(values))
    spoilt = Sample(np.array(values), failed=failed)
    quantiles = (0.1, 0.5, 0.9, 0.99)
    found = [at(spoilt, quantile) for quantile in quantiles]
    assert found == sorted(found)
    assert all(at(spoilt, quantile) >= at(clean, quantile) for quantile in quantiles)


def test_the_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="nothing"):
        Sample(np.zeros(0))
