"""Order statistics and means of weighted values, some of which never came.

**Percentiles** are order statistics, never interpolated: of ``n`` values in ascending order the
one at index ``ceil(q (n - 1))`` (numpy calls it "higher"). It is never below the interpolated
one, so a ceiling is judged on a latency that some request really had, and it needs no arithmetic
with infinity.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pytest_llmperf.records import MetricValue

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


class Sample:
    """Values with weights (each stands for so many equal values) and what is infinitely late.

    ``failed`` is the number of requests that are late, ``late`` their weight, by default the same.
    Raises :class:`ValueError` for a sample of nothing.
    """

    def __init__(
        self,
        values: Floats,
        weights: Integers | None = None,
        *,
        failed: int = 0,
        late: int | None = None,
    ) -> None:
        late = failed if late is None else late
        order = np.argsort(values) if weights is not None else None
        self._values = np.sort(values) if order is None else values[order]
        self._weights = None if weights is None or order is None else weights[order]
        self._passed = None if self._weights is None else np.cumsum(self._weights)
        self._timely = len(values) if self._passed is None else int(self._passed[-1:].sum())
        self._total = self._timely + late
        self._failed = failed
        if not self._total:
            raise ValueError("a sample of nothing")

    def mean(self) -> MetricValue:
        """Unbounded as soon as anything is late."""
        if self._total > self._timely:
            return MetricValue(value=None, unbounded=True, failed=self._failed)
        weighted = self._values if self._weights is None else self._values * self._weights
        return MetricValue(value=math.fsum(weighted.tolist()) / self._total)

    def at(self, quantile: float) -> MetricValue:
        """The percentile; unbounded where it lands among the late."""
        rank = math.ceil(round(quantile * (self._total - 1), 9))
        if rank >= self._timely:
            return MetricValue(value=None, unbounded=True, failed=self._failed)
        place = rank
        if self._passed is not None:
            place = int(np.searchsorted(self._passed, rank, side="right"))
        return MetricValue(value=float(self._values[place]), failed=self._failed)
