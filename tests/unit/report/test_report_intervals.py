"""Gates as strips: everything lies on the strip, in the order of the values."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.report.intervals import strip_of

VALUES = st.floats(-1e6, 1e6, allow_nan=False)
LOSSES = st.floats(-0.9, 5)


def regression(**more: Any) -> dict[str, Any]:
    gate = {"kind": "regression", "loss": 0.05, "loss_to_catch": 0.03}
    return {**gate, "loss_low": 0.02, "loss_high": 0.08, **more}


def limit(kind: str = "floor", **more: Any) -> dict[str, Any]:
    return {"kind": kind, "observed": 90.0, "limit": 100.0, "ci_low": 85.0, "ci_high": 95.0, **more}


@given(st.sampled_from(["floor", "ceiling"]), VALUES, VALUES, VALUES, VALUES)
def test_places_of_a_limit_are_in_the_order_of_the_values(
    kind: str, observed: float, bound: float, low: float, high: float
) -> None:
    low, high = sorted((low, high))
    strip = strip_of(limit(kind, observed=observed, limit=bound, ci_low=low, ci_high=high))
    assert strip is not None
    assert strip.low is not None
    assert strip.high is not None
    placed = [(observed, strip.value), (bound, strip.bound), (low, strip.low), (high, strip.high)]
    assert all(0 <= place <= 100 for _, place in placed)
    assert [place for _, place in sorted(placed)] == sorted(place for _, place in placed)
    assert (strip.bad_from, strip.bad_to) == (
        (0, strip.bound) if kind == "floor" else (strip.bound, 100)
    )


@given(LOSSES, st.floats(0.001, 0.9), st.floats(0, 2), st.floats(0, 2))
def test_losses_grow_to_the_right(loss: float, wanted: float, below: float, above: float) -> None:
    gate = regression(
        loss=loss, loss_to_catch=wanted, loss_low=loss - below, loss_high=loss + above
    )
    strip = strip_of(gate)
    assert strip is not None
    assert strip.low is not None
    assert strip.high is not None
    assert strip.zero is not None
    assert 0 <= strip.low <= strip.value <= strip.high <= 100
    assert strip.zero < strip.bound == strip.bad_from
    assert (strip.value > strip.zero) == (loss > 0) or abs(loss) < 1e-3


def test_an_interval_without_a_lower_end_begins_at_the_edge() -> None:
    strip = strip_of(regression(loss_low=None))
    assert strip is not None
    assert strip.open_low
    assert strip.low == 0.0


def test_what_has_no_value_or_no_bound_has_no_strip() -> None:
    assert strip_of(regression(loss=None)) is None
    assert strip_of(limit(observed=None)) is None
    assert strip_of(limit(limit=None)) is None
    alone = strip_of(limit(ci_low=None, ci_high=None))
    assert alone is not None
    assert alone.low is None
