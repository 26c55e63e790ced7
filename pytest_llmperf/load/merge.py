"""What several workers saw, as one stream, and what they say of themselves, as one client's."""

from __future__ import annotations

import gc
import heapq
import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.records import ClientHealth, LoadWorker, RequestRecord

from .rank import p99

if TYPE_CHECKING:
    from .messages import Finished
    from .send.health import WorkerHealth


def merged(shares: Sequence[Finished], spills: Sequence[int]) -> Iterator[RequestRecord]:
    """Every request by its index. ``spills`` are descriptors of the files that the shares lie in;
    read is from one place of each at a time, and columns stay where they are."""
    streams = [_stream(share, spill) for share, spill in zip(shares, spills, strict=True)]
    if len(streams) == 1:
        return streams[0]
    return heapq.merge(*streams, key=lambda record: record.index)


def merged_whole(shares: Sequence[Finished], spills: Sequence[int]) -> tuple[RequestRecord, ...]:
    """All of them at once. Looking for cycles among so many new objects, of which none has any,
    would take longer than making them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return tuple(merged(shares, spills))
    finally:
        if collecting:
            gc.enable()


def _stream(share: Finished, spill: int) -> Iterator[RequestRecord]:
    from .read.reading import to_record
    from .read.rows import read_rows
    from .read.spill import SpillReader

    reader = SpillReader(spill, base=share.base)
    for row in read_rows(reader, share.rows_at, share.rows):
        yield to_record(row, reader.chunks(row.chunks_at, row.chunk_count))


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
        workers=tuple(_worker(share) for share in shares if share.node is not None) or None,
    )


def _worker(share: WorkerHealth) -> LoadWorker:
    return LoadWorker(
        node=share.node or "",
        cpu_share=share.cpu_s / share.wall_s,
        loop_lag_ms_p99=share.lag_ms_p99,
        peak_rss_bytes=share.peak_rss_bytes,
        clock_offset_ms=share.clock_offset_ms,
        clock_drift_ms=share.clock_drift_ms,
        clock_error_ms=share.clock_error_ms,
        silent_s=share.silent_s,
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
