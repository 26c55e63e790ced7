"""The statistics of the truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.truth.log import TrueChunk, TrueRequest, figures, measured, percentile


def request(
    index: int, received_ms: float, chunks: list[tuple[float, int]], **fields: object
) -> TrueRequest:
    given_: dict[str, object] = {
        "index": index,
        "connection": index,
        "streamed": True,
        "chat": True,
        "received_ns": round(received_ms * 1e6),
        "prompt_tokens": 4,
        "asked_tokens": sum(tokens for _, tokens in chunks),
        "fault": None,
        "end": "done",
        "ended_ns": 0,
        "blocked": 0,
        "chunks": tuple(TrueChunk(round(at * 1e6), 0, tokens, False) for at, tokens in chunks),
    }
    return TrueRequest(**(given_ | fields))  # type: ignore[arg-type]


def test_figures_by_hand() -> None:
    truth = [
        request(0, 0, [(10, 1), (14, 2), (16, 1)]),
        request(1, 5, [(25, 1), (35, 1)]),
        request(2, 6, [(40, 1)], fault="error", end="error"),
    ]
    found = figures(truth)
    assert (found.requests, found.succeeded, found.output_tokens) == (3, 2, 6)
    assert found.duration_s == pytest.approx(0.040)
    assert found.throughput == pytest.approx(6 / 0.040)
    assert found.arrival_rate == pytest.approx(2 / 0.006)
    assert found.ttft_mean == pytest.approx(15)
    assert found.ttft_p99 == pytest.approx(20)
    assert found.e2e_mean == pytest.approx((16 + 30) / 2)
    assert found.tpot_mean == pytest.approx((6 / 3 + 10) / 2)
    assert found.itl_mean == pytest.approx((2 * 2 + 2 + 10) / 4)
    assert found.itl_p50 == pytest.approx(2)
    assert found.itl_p99 == pytest.approx(10)


def test_nothing_good_has_no_figures() -> None:
    with pytest.raises(ValueError, match="not one request succeeded"):
        figures([request(0, 0, [(1, 1)], fault="cut", end="cut")])


def test_what_is_measured_is_the_last_streams() -> None:
    truth = [request(index, index, [(index + 1, 1)], streamed=index != 2) for index in range(5)]
    assert [each.index for each in measured(truth, 3)] == [1, 3, 4]


@given(
    st.lists(st.tuples(st.integers(-50, 50), st.integers(1, 4)), min_size=1),
    st.sampled_from([0.0, 0.5, 0.9, 0.99, 1.0]),
)
def test_percentile_is_the_higher_order_statistic(
    values: list[tuple[int, int]], quantile: float
) -> None:
    spelled_out = [value for value, weight in values for _ in range(weight)]
    expected = np.quantile(spelled_out, quantile, method="higher")
    assert percentile([(float(v), w) for v, w in values], quantile) == expected
