"""What several processes say of themselves, as one client's health."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.records import ClientHealth, RequestRecord

from .rank import p99

if TYPE_CHECKING:
    from .send.health import WorkerHealth


def merged_health(shares: Sequence[WorkerHealth], records: Sequence[RequestRecord]) -> ClientHealth:
    """The client over one pass: shares and lags are the worst process', memory the sum."""
    lags = [share.lag_ms_p99 for share in shares if share.lag_ms_p99 is not None]
    worst = [share.lag_ms_max for share in shares if share.lag_ms_max is not None]
    delays = sorted(
        (record.written_ns - record.scheduled_ns) / 1e6
        for record in records
        if record.scheduled_ns is not None
    )
    first_turns = [record for record in records if record.turn == 0]
    return ClientHealth(
        cpu_share=max(share.cpu_s / share.wall_s for share in shares),
        loop_lag_ms_p99=max(lags, default=None),
        loop_lag_ms_max=max(worst, default=None),
        peak_rss_bytes=sum(share.peak_rss_bytes for share in shares),
        mean_in_flight=_in_flight(records),
        processes=len(shares),
        held_back=any(share.held_back for share in shares),
        cpu_s=math.fsum(share.cpu_s for share in shares),
        send_delay_ms_p99=p99(delays) if delays else None,
        send_delay_ms_max=delays[-1] if delays else None,
        offered_rate=_rate([record.scheduled_ns for record in first_turns]),
        achieved_rate=_rate([record.written_ns for record in first_turns]) if delays else None,
    )


def _in_flight(records: Sequence[RequestRecord]) -> float | None:
    """Little's law: time spent in flight over the time that passed."""
    if not records:
        return None
    span = max(r.ended_ns for r in records) - min(r.written_ns for r in records)
    waited = sum(record.ended_ns - record.written_ns for record in records)
    return waited / span if span > 0 else None


def _rate(times_ns: Sequence[int | None]) -> float | None:
    """Sessions begun per second, if each has its time."""
    known = [at for at in times_ns if at is not None]
    if len(known) < 2 or len(known) < len(times_ns) or max(known) == min(known):
        return None
    return (len(known) - 1) / ((max(known) - min(known)) / 1e9)
