"""One client's health from that of its processes."""

from __future__ import annotations

import pytest

from pytest_llmperf.load.merge import merged_health
from pytest_llmperf.load.send.health import WorkerHealth
from pytest_llmperf.records import NO_CHUNKS, RequestRecord

MS = 1_000_000


def record(
    index: int, written_ms: float, ended_ms: float, scheduled_ms: float | None = None, turn: int = 0
) -> RequestRecord:
    return RequestRecord(
        index=index,
        written_ns=round(written_ms * MS),
        ended_ns=round(ended_ms * MS),
        status=200,
        failure=None,
        finish_reason="length",
        prompt_tokens=1,
        cached_tokens=None,
        output_tokens=1,
        reasoning_tokens=None,
        token_source="usage",
        chunks=NO_CHUNKS,
        scheduled_ns=None if scheduled_ms is None else round(scheduled_ms * MS),
        turn=turn,
    )


def share(cpu_s: float = 0.5, lag_ms: float | None = 1.0) -> WorkerHealth:
    return WorkerHealth(
        cpu_s=cpu_s, wall_s=2.0, lag_ms_p99=lag_ms, lag_ms_max=lag_ms, peak_rss_bytes=100
    )


def test_the_busiest_and_latest_process_speaks_for_all() -> None:
    health = merged_health([share(0.5, 1.0), share(1.5, 7.0), share(0.1, None)], [])
    assert health.cpu_share == pytest.approx(0.75)
    assert health.cpu_s == pytest.approx(2.1)
    assert health.loop_lag_ms_p99 == health.loop_lag_ms_max == 7.0
    assert health.peak_rss_bytes == 300
    assert health.processes == 3


def test_a_closed_loop_has_no_schedule_to_be_late_for() -> None:
    health = merged_health([share()], [record(0, 0, 10), record(1, 0, 10), record(2, 10, 20)])
    assert health.mean_in_flight == pytest.approx(1.5)
    assert health.send_delay_ms_p99 is None
    assert health.offered_rate is health.achieved_rate is None


def test_an_open_loop_is_compared_with_its_schedule() -> None:
    late = [0.0] * 99 + [5.0]
    records = [record(i, 10 * i + d, 10 * i + 50, 10 * i) for i, d in enumerate(late)]
    health = merged_health([share()], records)
    assert health.send_delay_ms_max == pytest.approx(5.0)
    assert health.send_delay_ms_p99 == pytest.approx(5.0)
    assert health.offered_rate == pytest.approx(100.0)
    assert health.achieved_rate == pytest.approx(99 / 0.995)


def test_later_turns_of_a_session_are_no_arrivals() -> None:
    records = [record(0, 0, 1, 0), record(1, 100, 101, 100), record(2, 500, 501, 500, turn=1)]
    assert merged_health([share()], records).offered_rate == pytest.approx(10.0)


def test_the_health_of_nothing() -> None:
    health = merged_health([share(lag_ms=None)], [])
    assert health.mean_in_flight is None
    assert health.loop_lag_ms_p99 is None
