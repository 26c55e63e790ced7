"""A window's order of events, against the fake server's truth: who begins when, and who waits."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from pytest_llmperf.errors import ServerError
from pytest_llmperf.load.compose.asking import post
from pytest_llmperf.load.planned import Asked, Session, Turn
from pytest_llmperf.load.read.reading import to_record
from pytest_llmperf.load.read.spill import SpillReader, SpillWriter
from pytest_llmperf.load.send import supply as supply_module
from pytest_llmperf.load.send.backlog import Backlog
from pytest_llmperf.load.send.connect import parse_origin
from pytest_llmperf.load.send.health import WorkerHealth
from pytest_llmperf.load.send.supply import Shard, Supply
from pytest_llmperf.load.send.window import Pace, Window
from pytest_llmperf.records import RequestRecord
from pytest_llmperf.testing import FakeServer, Script, Truth

TOKENS = 4
MS = 1_000_000


@dataclass
class Talks:
    """Sessions of ``turns`` requests each; ``sessions`` of them, or without end."""

    url: str
    sessions: int | None
    turns: int = 1
    pause_ms: float = 0.0
    tokens: int = TOKENS
    due_ns: Sequence[int] | None = field(default=None)

    def session(self, number: int) -> Session:
        return Session(
            turns=tuple(self._turn(number, at) for at in range(self.turns)),
            pause_ns=round(self.pause_ms * MS),
        )

    def _turn(self, number: int, at: int) -> Turn:
        content = {
            "model": "sim",
            "messages": [{"role": "user", "content": f"{number}.{at}"}],
            "max_tokens": self.tokens,
            "stream": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        return Turn(
            index=number * self.turns + at,
            payload=post(
                parse_origin(self.url), "/v1/chat/completions", json.loads(json.dumps(content)), ()
            ),
            asked=Asked(output_tokens=self.tokens, api="chat"),
            session=number,
            turn=at,
        )


@dataclass
class Seen:
    records: list[RequestRecord]
    truth: list[Truth]
    health: WorkerHealth
    start_ns: int


@dataclass
class Address:
    """A server whose truth nobody asks for."""

    url: str
    truth: list[Truth] = field(default_factory=list)


def run(
    server: FakeServer | Address,
    talks: Talks,
    pace: Pace = Pace(slots=1),  # noqa: B008 - immutable
    *,
    timeout_s: float = 10.0,
    most_bytes: int | None = None,
    ahead: int | None = None,
) -> Seen:
    from pytest_llmperf import clock

    start = 0

    def supply() -> Supply:
        if ahead is not None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(supply_module, "_AHEAD_SESSIONS", ahead)
                return Supply(talks, Shard(), at_least=ahead)
        return Supply(talks, Shard(), at_least=2 * max(1, pace.slots))

    async def go(backlog: Backlog) -> WorkerHealth:
        nonlocal start
        window = Window(
            parse_origin(server.url),
            supply(),
            pace,
            backlog,
            timeout_s=timeout_s,
        )
        await window.open()
        start = clock.now_ns() + 5 * MS
        return await window.run(start)

    with tempfile.TemporaryFile() as file:
        spill = SpillWriter(file.fileno())
        backlog = Backlog(spill) if most_bytes is None else Backlog(spill, most_bytes=most_bytes)
        health = asyncio.run(go(backlog))
        rows = backlog.drain()
        reader = SpillReader(file.fileno())
        records = [to_record(row, reader.chunks(row.chunks_at, row.chunk_count)) for row in rows]
    records.sort(key=lambda record: record.index)
    return Seen(records, server.truth, health, start)


def most_at_once(records: Sequence[RequestRecord]) -> int:
    edges = [(r.written_ns, 1) for r in records] + [(r.ended_ns, -1) for r in records]
    level = most = 0
    for _, step in sorted(edges):
        level += step
        most = max(most, level)
    return most


def test_a_closed_loop_keeps_its_slots_full_and_no_more() -> None:
    with FakeServer(Script(ttft_ms=10, itl_ms=1)) as server:
        seen = run(server, Talks(server.url, 30), Pace(slots=5))
    assert [record.index for record in seen.records] == list(range(30))
    assert all(record.ok for record in seen.records)
    assert all(record.scheduled_ns is None for record in seen.records)
    assert most_at_once(seen.records) == 5


def test_a_ramp_begins_slots_one_after_another() -> None:
    with FakeServer(Script(ttft_ms=200, itl_ms=1)) as server:
        seen = run(server, Talks(server.url, 4), Pace(slots=4, ramp_up_ns=80 * MS))
    begun = [(record.written_ns - seen.start_ns) / MS for record in seen.records]
    assert all(at >= 20 * number for number, at in enumerate(begun))
    assert len(seen.records) == 4


def test_an_open_loop_waits_for_nobody() -> None:
    due = [round(5 * MS * number) for number in range(20)]
    with FakeServer(Script(ttft_ms=150, itl_ms=1)) as server:
        seen = run(server, Talks(server.url, 20, due_ns=due), Pace(due_ns=due))
    for record, offset in zip(seen.records, due, strict=True):
        assert record.scheduled_ns == seen.start_ns + offset
        assert record.written_ns >= record.scheduled_ns
    assert all(record.ok for record in seen.records)
    assert most_at_once(seen.records) == 20


def test_a_cap_makes_requests_wait_and_the_record_shows_it() -> None:
    due = [0] * 6
    with FakeServer(Script(ttft_ms=40, itl_ms=0)) as server:
        seen = run(server, Talks(server.url, 6, due_ns=due), Pace(due_ns=due, cap=2))
    assert most_at_once(seen.records) == 2
    waits = sorted((r.written_ns - (r.scheduled_ns or 0)) / MS for r in seen.records)
    assert waits[2] >= 40
    assert waits[4] >= 80
    assert seen.health.held_back


def test_a_cap_that_nobody_met_held_nothing_back() -> None:
    due = [0] * 2
    with FakeServer(Script(ttft_ms=5, itl_ms=0)) as server:
        seen = run(server, Talks(server.url, 2, due_ns=due), Pace(due_ns=due, cap=2))
    assert not seen.health.held_back


def test_a_sessions_turns_follow_one_another_after_a_pause() -> None:
    with FakeServer(Script(ttft_ms=10, itl_ms=1)) as server:
        seen = run(server, Talks(server.url, 3, turns=3, pause_ms=30), Pace(slots=3))
    assert len(seen.records) == 9
    for earlier, later in zip(seen.records, seen.records[1:], strict=False):
        if later.turn:
            assert later.session == earlier.session
            assert later.written_ns - earlier.ended_ns >= 29 * MS
            assert later.scheduled_ns is not None


def test_a_time_bounded_loop_begins_nothing_afterwards() -> None:
    with FakeServer(Script(ttft_ms=20, itl_ms=1)) as server:
        seen = run(server, Talks(server.url, None), Pace(slots=3, duration_ns=200 * MS))
    assert len(seen.records) > 6
    assert [record.index for record in seen.records] == list(range(len(seen.records)))
    assert max(record.written_ns for record in seen.records) <= seen.start_ns + 230 * MS
    assert all(record.ok for record in seen.records)


def test_a_lost_turn_does_not_end_its_session() -> None:
    script = Script(ttft_ms=1, itl_ms=0.2, fault="cut", fault_every=2)
    with FakeServer(script) as server:
        seen = run(server, Talks(server.url, 4, turns=3), Pace(slots=2))
    assert len(seen.records) == 12
    assert sum(record.failure == "cut" for record in seen.records) == 6


def test_a_slow_response_is_given_up_in_its_own_time() -> None:
    script = Script(ttft_ms=1, itl_ms=0.2, fault="stall", fault_every=3)
    with FakeServer(script) as server:
        seen = run(server, Talks(server.url, 9), Pace(slots=3), timeout_s=0.3)
    assert sum(record.failure == "timeout" for record in seen.records) == 3
    assert sum(record.ok for record in seen.records) == 6


@pytest.mark.parametrize("most_bytes", [1, 20_000])
def test_decoding_within_the_window_changes_nothing(most_bytes: int) -> None:
    """However little may wait, records are those of a run that decodes afterwards."""
    script = Script(ttft_ms=20, itl_ms=4, reasoning_fraction=0.5)
    with FakeServer(script) as server:
        talks = Talks(server.url, 8, tokens=40)
        seen = run(server, talks, Pace(slots=4), most_bytes=most_bytes)
    for record in seen.records:
        assert record.ok
        assert record.output_tokens == 40
        carried = [chunk for chunk in record.chunks if chunk.kind != "none"]
        assert [chunk.cumulative_tokens for chunk in carried] == list(range(1, 41))
        assert [chunk.kind for chunk in carried] == ["reasoning"] * 20 + ["answer"] * 20
        assert record.chunks[-1].at_ns <= record.ended_ns


def test_connections_idle_for_long_are_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    from pytest_llmperf.load.send import pool

    monkeypatch.setattr(pool, "_STALE_NS", 30 * MS)
    with FakeServer(Script(ttft_ms=1, itl_ms=0)) as server:
        seen = run(server, Talks(server.url, 1, turns=3, pause_ms=150), Pace(slots=1))
    assert all(record.ok for record in seen.records)
    assert [record.connect_ns is not None for record in seen.records] == [False, True, True]


def test_a_server_that_goes_away_fails_every_request_left() -> None:
    """One slot: the next request is asked for while the news of the last refusal is being told."""
    with FakeServer() as server:
        port = server.port
    command = [sys.executable, "-m", "pytest_llmperf.testing", "--port", str(port)]
    command += ["--ttft-ms", "1", "--die-after", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        seen = run(Address(f"http://127.0.0.1:{port}"), Talks(f"http://127.0.0.1:{port}", 8))
    failures = [record.failure for record in seen.records]
    assert failures[:4] == [None, None, None, "cut"]
    # A dying process may still take a connection before its listening socket is closed.
    assert set(failures[4:]) <= {"connect", "cut"}
    assert failures[-1] == "connect"


def test_an_error_in_the_midst_ends_the_window_and_is_told() -> None:
    class Broken(Talks):
        def session(self, number: int) -> Session:
            if number == 4:
                raise ServerError("no more prompts")
            return super().session(number)

    pace = Pace(slots=1, duration_ns=5000 * MS)
    with (
        FakeServer(Script(ttft_ms=1, itl_ms=0)) as server,
        pytest.raises(ServerError, match="no more prompts"),
    ):
        run(server, Broken(server.url, None), pace, ahead=2)


def test_a_server_that_is_gone_gives_one_failure_for_each_request() -> None:
    with FakeServer() as server:
        url = server.url

    async def go() -> None:
        window = Window(
            parse_origin(url),
            Supply(Talks(url, 3), Shard(), at_least=1),
            Pace(slots=1),
            Backlog(SpillWriter(-1)),
            timeout_s=1,
        )
        with pytest.raises(OSError, match=r"111|refused|failed"):
            await window.open()

    asyncio.run(go())
