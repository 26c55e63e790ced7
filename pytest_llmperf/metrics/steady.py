"""The part of a run in which the load was whole, and whether the server was steady in it.

**The steady part** begins, in a closed loop, when the first ``concurrency`` sessions have each
written their first request and the ramp-up is over; in an open loop when a tenth of the scheduled
time has passed. It ends when the last request is written. The rule is fixed beforehand and looks
at nothing that the server did. A load that changes by design (a final rate, a trace) has none.

Conversations go on for long after they began. So in an open loop the load is not whole before they
have begun for as long as one lasts in the mean, which is the one thing that is taken from the run;
and it is whole no longer once the last of them has begun, because nothing takes the place of those
that end. Only a closed loop bound by time stays whole to its end, where it cuts them off.

**The trend** is tested on the tokens that came in each of :data:`BINS` equal slices of the steady
part, by Kendall's rank correlation with time. Output is looked at rather than latency for three
reasons: requests written late in a run end in its drain and are fast for that alone, requests in
conversations get longer by design, and an open loop beyond a server's capacity has growing
latencies at a steady output, which is slow and not unsteady.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pytest_llmperf.records import RequestRecord, Workload

from .requests import Arrivals, Floats

#: Slices of the steady part; a whole number of them makes a third.
BINS = 30
#: Tokens per slice below which a trend is not looked for.
_TOKENS_PER_BIN = 10
_SETTLING = 0.1


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a run, on :mod:`pytest_llmperf.clock`."""

    start_ns: int
    end_ns: int

    @property
    def seconds(self) -> float:
        return (self.end_ns - self.start_ns) / 1e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """``retention`` is the output rate of the last third over that of the first, ``p_value`` how
    often pure chance would order the slices as much."""

    retention: float
    p_value: float


def steady_span(
    records: Sequence[RequestRecord], workload: Workload, started_ns: int
) -> Span | None:
    """The steady part, or ``None`` where the load was never whole."""
    if not records or workload.final_rate is not None or workload.arrivals == "trace":
        return None
    closed = workload.arrivals == "closed"
    start = _full_ns(records, workload, started_ns) if closed else _settled_ns(records, workload)
    end = _last_ns(records, workload)
    return Span(start, end) if start is not None and end is not None and end > start else None


def _last_ns(records: Sequence[RequestRecord], workload: Workload) -> int | None:
    """When the last request was written after which the load was still whole."""
    cut_off = workload.arrivals == "closed" and workload.duration_s is not None
    whole = workload.turns == 1 or cut_off
    return max((r.written_ns for r in records if whole or r.turn == 0), default=None)


def _full_ns(records: Sequence[RequestRecord], workload: Workload, started_ns: int) -> int | None:
    firsts = sorted(record.written_ns for record in records if record.turn == 0)
    needed = workload.concurrency
    if needed is None or len(firsts) < needed:
        return None
    return max(firsts[needed - 1], started_ns + round(workload.ramp_up_s * 1e9))


def _settled_ns(records: Sequence[RequestRecord], workload: Workload) -> int | None:
    due = [r.scheduled_ns for r in records if r.scheduled_ns is not None and r.turn == 0]
    if not due:
        return None
    settling = round(_SETTLING * (max(due) - min(due)))
    if workload.turns > 1:
        settling = max(settling, _mean_session_ns(records))
    return min(due) + settling


def _mean_session_ns(records: Sequence[RequestRecord]) -> int:
    """How long sessions last in the mean, from the first request written to the last answer."""
    begun: dict[int, int] = {}
    ended: dict[int, int] = {}
    for record in records:
        number = record.session
        begun[number] = min(record.written_ns, begun.get(number, record.written_ns))
        ended[number] = max(record.ended_ns, ended.get(number, record.ended_ns))
    return round(sum(ended[number] - at for number, at in begun.items()) / len(begun))


def tokens_within(arrivals: Arrivals, span: Span) -> int | None:
    """Tokens that came in ``span``; ``None`` when those of any arrival are unknown."""
    if not arrivals.tokens.all():
        return None
    inside = (arrivals.at_ns > span.start_ns) & (arrivals.at_ns <= span.end_ns)
    return int(arrivals.tokens[inside].sum())


def retention(arrivals: Arrivals, span: Span) -> float | None:
    """The output rate of the last third of ``span`` over that of the first third."""
    binned = _binned(arrivals, span)
    return None if binned is None else _thirds(binned)


def trend(arrivals: Arrivals, span: Span) -> Trend | None:
    """The trend of the output in ``span``; ``None`` where there is too little of it to tell."""
    binned = _binned(arrivals, span)
    if binned is None or binned.sum() < BINS * _TOKENS_PER_BIN:
        return None
    kept = _thirds(binned)
    if kept is None:
        return None
    return Trend(retention=kept, p_value=order_p_value(binned))


def order_p_value(values: Floats) -> float:
    """How often chance alone would order ``values`` in time as much: Kendall's test, two-sided, by
    its normal approximation with ties (scipy would take longer to import than all else here)."""
    count = len(values)
    later, earlier = np.tril_indices(count, -1)
    score = abs(int(np.sign(values[later] - values[earlier]).sum()))
    ties = np.unique(values, return_counts=True)[1]
    spread = _spread(np.array([count])) - _spread(ties)
    return math.erfc(max(score - 1, 0) / math.sqrt(2 * spread)) if spread else 1.0


def _spread(sizes: npt.NDArray[np.int64]) -> float:
    return float((sizes * (sizes - 1) * (2 * sizes + 5)).sum()) / 18


def _binned(arrivals: Arrivals, span: Span) -> Floats | None:
    """Tokens in each slice; ``None`` when those of any arrival are unknown."""
    if not arrivals.tokens.all():
        return None
    inside = (arrivals.at_ns > span.start_ns) & (arrivals.at_ns <= span.end_ns)
    since = (arrivals.at_ns[inside] - span.start_ns - 1) * BINS // (span.end_ns - span.start_ns)
    return np.bincount(since, arrivals.tokens[inside], BINS).astype(np.float64)


def _thirds(binned: Floats) -> float | None:
    first, last = binned[: BINS // 3].sum(), binned[-BINS // 3 :].sum()
    return float(last / first) if first else None
