"""Gaps within single requests: the median and the longest, each as its definition says it."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.metrics.requests import Arrivals
from pytest_llmperf.metrics.single import pauses

MS = 1_000_000
#: Of each request its arrivals: ms since the one before, and tokens carried, 0 for unknown.
Requests = list[list[tuple[int, int]]]

REQUESTS = st.lists(
    st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), max_size=6), max_size=6
)


def arrivals(requests: Requests) -> Arrivals:
    owner = [place for place, one in enumerate(requests) for _ in one]
    at_ns = [at * MS for one in requests for at in np.cumsum([ms for ms, _ in one]).tolist()]
    tokens = [count for one in requests for _, count in one]
    return Arrivals(
        request=np.array(owner, np.int32),
        at_ns=np.array(at_ns, np.int64),
        tokens=np.array(tokens, np.int32),
    )


def spelled_out(one: list[tuple[int, int]]) -> tuple[float, float, float]:
    """Median and longest gap per token, and the longest between chunks, of one request."""
    gaps = one[1:]
    if not gaps:
        return math.nan, math.nan, math.nan
    longest = float(max(ms for ms, _ in gaps))
    if any(tokens == 0 for _, tokens in gaps):
        return math.nan, math.nan, longest
    each = sorted(ms / tokens for ms, tokens in gaps for _ in range(tokens))
    return each[math.ceil(0.5 * (len(each) - 1))], each[-1], longest


@given(REQUESTS)
def test_every_request_has_its_own_gaps(requests: Requests) -> None:
    found = pauses(arrivals(requests), len(requests))
    wanted = np.array([spelled_out(one) for one in requests]).reshape(-1, 3)
    columns = np.stack([found.itl_p50, found.itl_max, found.icl_max], axis=1)
    np.testing.assert_array_equal(columns, wanted)


def test_an_unknown_number_of_tokens_is_its_request_s_alone() -> None:
    found = pauses(arrivals([[(0, 1), (10, 1)], [(0, 1), (10, 0)], [(0, 0), (30, 3)]]), 3)
    np.testing.assert_array_equal(found.itl_max, [10.0, math.nan, 10.0])
    np.testing.assert_array_equal(found.icl_max, [10.0, 10.0, 30.0])
