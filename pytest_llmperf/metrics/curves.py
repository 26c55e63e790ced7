"""The shape of a run, for people to look at: no verdict is taken from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from pytest_llmperf.records import (
    Curves,
    MetricValue,
    RequestRecord,
    SampledRequests,
    Timeline,
)

from .requests import Arrivals, Flags, Timings

#: Metrics whose distributions are kept.
DRAWN = ("ttft", "tpot", "itl", "e2e")
#: Values of a distribution: one for each hundredth, both ends included.
_STEPS = 100
_MOST_BINS = 120
_LEAST_BIN_S = 0.05
_MOST_SAMPLED = 120
#: Digits that are kept: a thousandth is more than a page can show.
_DIGITS = 4

Quantile = Callable[[str, float], MetricValue]


def curves(
    records: Sequence[RequestRecord], found: Timings, quantile: Quantile, is_ok: Flags
) -> Curves | None:
    """The shape of a pass of ``records`` with the timings ``found``.

    ``quantile(name, q)`` is the value of a metric at ``q`` from 0 to 1. ``None`` without a request.
    """
    if not records:
        return None
    begin = min(record.written_ns for record in records)
    return Curves(
        quantiles={
            name: values for name in DRAWN if (values := _distribution(name, quantile)) is not None
        },
        requests=len(records),
        timeline=_timeline(records, found, is_ok, begin),
        sample=_sample(records, found, begin),
    )


def _distribution(name: str, quantile: Quantile) -> tuple[float | None, ...] | None:
    values = [quantile(name, step / _STEPS) for step in range(_STEPS + 1)]
    if all(value.value is None and not value.unbounded for value in values):
        return None
    return tuple(None if value.value is None else _short(value.value) for value in values)


def _timeline(
    records: Sequence[RequestRecord], found: Timings, is_ok: Flags, begin: int
) -> Timeline:
    ended = np.array([record.ended_ns for record in records], np.int64)
    written = np.array([record.written_ns for record in records], np.int64)
    span_s = max(int(ended.max()) - begin, 1) / 1e9
    bin_s = _bin_s(span_s)
    count = max(1, int(np.ceil(round(span_s / bin_s, 6))))
    arrivals = found.arrivals.of(is_ok)
    weights = _weights(arrivals, sum(record.output_tokens or 0 for record in records if record.ok))
    tokens = np.bincount(
        _bins(arrivals.at_ns, begin, bin_s, count), weights=weights, minlength=count
    )
    failed = np.bincount(_bins(ended[~is_ok], begin, bin_s, count), minlength=count)
    edges = np.asarray(bin_s * np.arange(count + 1), np.float64)
    busy = _until(_seconds(written, begin), edges) - _until(_seconds(ended, begin), edges)
    return Timeline(
        bin_s=bin_s,
        output_tokens=tuple(round(each, 1) for each in tokens.tolist()),
        in_flight=tuple(_short(max(0.0, value)) for value in (np.diff(busy) / bin_s).tolist()),
        failed=tuple(map(int, failed)),
    )


def _weights(arrivals: Arrivals, output_tokens: int) -> npt.NDArray[np.float64]:
    """How many tokens came at each arrival; equally many where the server does not say."""
    if arrivals.tokens.all():
        return arrivals.tokens.astype(np.float64)
    return np.full(len(arrivals.tokens), output_tokens / max(1, len(arrivals.tokens)))


def _bin_s(span_s: float) -> float:
    """1, 2 or 5 times a power of ten: as fine as the number of bins allows."""
    wanted = max(span_s / _MOST_BINS, _LEAST_BIN_S)
    power = 10.0 ** np.floor(np.log10(wanted))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= wanted * (1 - 1e-9)))


def _bins(
    at_ns: npt.NDArray[np.int64], begin: int, bin_s: float, count: int
) -> npt.NDArray[np.int64]:
    """The bin of each moment; what comes after the last request's end belongs to the last."""
    places = ((at_ns - begin) / (bin_s * 1e9)).astype(np.int64)
    return np.clip(places, 0, count - 1)


def _seconds(moments: npt.NDArray[np.int64], begin: int) -> npt.NDArray[np.float64]:
    return np.asarray((moments - begin) / 1e9, np.float64)


def _until(
    moments: npt.NDArray[np.float64], edges: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """For each edge, the seconds that have passed since each earlier moment, added up."""
    ordered = np.sort(moments)
    before = np.searchsorted(ordered, edges, side="right")
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    return np.asarray(before * edges - sums[before], np.float64)


def _sample(records: Sequence[RequestRecord], found: Timings, begin: int) -> SampledRequests:
    order = sorted(range(len(records)), key=lambda at: records[at].written_ns)
    step = max(1, -(-len(order) // _MOST_SAMPLED))
    chosen = order[::step]
    return SampledRequests(
        written_s=tuple(_since(records[at].written_ns, begin) for at in chosen),
        first_s=tuple(_first(records[at], found, at, begin) for at in chosen),
        ended_s=tuple(_since(records[at].ended_ns, begin) for at in chosen),
        ok=tuple(records[at].ok for at in chosen),
    )


def _first(record: RequestRecord, found: Timings, at: int, begin: int) -> float | None:
    ttft = float(found.ttft[at])
    return None if np.isnan(ttft) else _since(record.written_ns + round(ttft * 1e6), begin)


def _since(moment: int, begin: int) -> float:
    return round((moment - begin) / 1e9, 4)


def _short(value: float) -> float:
    return float(f"{value:.{_DIGITS}g}")
