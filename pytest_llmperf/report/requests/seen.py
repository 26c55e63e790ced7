"""The requests of a pass, column by column, in plain Python values."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pytest_llmperf.metrics.requests import Floats, timings
from pytest_llmperf.metrics.single import pauses
from pytest_llmperf.records import Pass
from pytest_llmperf.redact import redact_text

from .columns import Value


class Seen:
    """What :data:`~.columns.REQUEST_COLUMNS` read. What was not measured is ``None``, and so are
    the latencies of a request that failed: it is infinitely late, wherever it broke off."""

    def __init__(self, pass_: Pass) -> None:
        self._records = pass_.records
        self._started_ns = pass_.started_ns
        self._ok = np.array([record.ok for record in pass_.records], bool)
        self._timings = timings(pass_.records)
        self._pauses = pauses(self._timings.arrivals, len(pass_.records))

    def field(self, name: str) -> Sequence[Value]:
        return [getattr(record, name) for record in self._records]

    def seconds(self, name: str) -> Sequence[Value]:
        """A time of the monotonic clock in s since the window opened."""
        times = (getattr(record, name) for record in self._records)
        return [None if at is None else (at - self._started_ns) / 1e9 for at in times]

    def milliseconds(self, name: str) -> Sequence[Value]:
        spans = (getattr(record, name) for record in self._records)
        return [None if span is None else span / 1e6 for span in spans]

    def latency(self, metric: str) -> Sequence[Value]:
        return self._of_ok(getattr(self._timings, metric))

    def pause(self, metric: str) -> Sequence[Value]:
        return self._of_ok(getattr(self._pauses, metric))

    def details(self) -> Sequence[Value]:
        details = [record.detail for record in self._records]
        shown = {detail: redact_text(detail) or None for detail in set(details)}
        return [shown[detail] for detail in details]

    def _of_ok(self, values: Floats) -> Sequence[Value]:
        known = self._ok & ~np.isnan(values)
        pairs = zip(values.tolist(), known.tolist(), strict=True)
        return [value if there else None for value, there in pairs]
