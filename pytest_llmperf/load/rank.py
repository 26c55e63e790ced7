"""The rule of our percentiles, for the few figures that the client makes of itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def p99(ascending: Sequence[T]) -> T:
    """The 99th percentile: an order statistic, never below the interpolated one."""
    return ascending[-(-99 * (len(ascending) - 1) // 100)]
