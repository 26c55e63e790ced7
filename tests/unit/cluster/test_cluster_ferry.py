"""Workers elsewhere ask as those here do, and what they saw is told by our clock."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing.connection import Pipe
from pathlib import Path
from typing import IO, Any

import pytest

from pytest_llmperf import clock
from pytest_llmperf.cluster.crew import RayHand
from pytest_llmperf.cluster.ferry import LOST_S, Ferry, Unheard
from pytest_llmperf.cluster.hiring import Hired
from pytest_llmperf.errors import ClientError
from pytest_llmperf.load.child import Processes
from pytest_llmperf.load.client import LoadClient
from pytest_llmperf.load.declare.sources import open_source
from pytest_llmperf.load.hand import Crew
from pytest_llmperf.records import Pass, Workload
from pytest_llmperf.testing import FakeServer, Script
from tiny_load import TINY, measured, target

WORKLOAD = replace(TINY, requests=24)
SCRIPT = Script(ttft_ms=20, itl_ms=2)


#: In a time namespace the monotonic clock of a process, and of those that it starts, may be so
#: far ahead of ours, as on a machine that was started earlier.
AHEAD_S = 1_000_000
#: The process of a node: calls of a relay's methods, until nobody asks any more.
NODE = """
import os, sys
from multiprocessing.connection import Connection
from pytest_llmperf.cluster.relay import Relay
connection, relay = Connection(int(sys.argv[1])), Relay()
try:
    while True:
        method, args = connection.recv()
        if method == "die":
            os._exit(9)
        connection.send(getattr(relay, method)(*args))
except EOFError:
    relay.close()
"""


@cache
def time_namespaces() -> bool:
    """Whether a process here can be given another clock."""
    unshare = shutil.which("unshare")
    command = [unshare or "", "--time", "--monotonic", str(AHEAD_S), "true"]
    return (
        bool(unshare) and not subprocess.run(command, capture_output=True, check=False).returncode
    )


class Afar:
    """A relay in a process; see :class:`~pytest_llmperf.cluster.ferry.Remote`.

    ``before_call`` may delay a call or raise Unheard, as a network does.
    """

    def __init__(self, *, ahead: bool = False) -> None:
        self._ours, its = Pipe()
        namespace = ["unshare", "--time", "--monotonic", str(AHEAD_S), "--fork"] if ahead else []
        command = [*namespace, sys.executable, "-c", NODE, str(its.fileno())]
        self._process = subprocess.Popen(command, pass_fds=(its.fileno(),))
        its.close()
        self.before_call: Callable[[str], None] = lambda _: None
        self.calls: list[str] = []

    def __call__(self, method: str, *args: Any, within_s: float = LOST_S) -> Any:
        self.calls.append(method)
        self.before_call(method)
        try:
            self._ours.send((method, args))
            if not self._ours.poll(within_s):
                raise Unheard(f"it did not answer within {within_s:g} s")
            return self._ours.recv()
        except (EOFError, OSError):
            raise Unheard("its process has ended") from None

    def kill(self) -> None:
        """End its process as a node's end does."""
        with suppress(Unheard):
            self("die")
        self._process.wait()

    def close(self) -> None:
        self._ours.close()
        self._process.wait()


@dataclass
class AfarCrew:
    """Workers in such processes; see :class:`~pytest_llmperf.load.hand.Crew`."""

    wanted: int | None = None
    most: int = 4
    #: Four processes have to hear of it, of a machine as busy as it likes.
    lead_ns: int = 5_000_000_000
    ahead: bool = False
    remotes: list[Afar] = field(default_factory=list)

    def hire(self, first: int, count: int) -> Sequence[RayHand]:
        return [self._hand(number) for number in range(first, first + count)]

    def _hand(self, number: int) -> RayHand:
        remote = Afar(ahead=self.ahead)
        self.remotes.append(remote)
        name = f"node-{number}"
        ours, its = socket.socketpair()
        spill = tempfile.NamedTemporaryFile()  # noqa: SIM115 - closed by the hand
        descriptor = os.open(spill.name, os.O_RDWR)

        def carry() -> None:
            with its:
                Ferry(remote, name, its, descriptor).run()
                os.close(descriptor)
                remote.close()

        threading.Thread(target=carry, daemon=True).start()
        pid = remote("place").pid
        file: IO[bytes] = spill
        return RayHand(hired=Hired(node=name, pid=pid), socket=ours, spill=file)


def totals(pass_: Pass) -> list[object]:
    return [
        (r.index, r.session, r.turn, r.ok, r.prompt_tokens, r.output_tokens, len(r.chunks))
        for r in pass_.records
    ]


def asked(crew: Crew, workload: Workload) -> tuple[Pass, list[int], int]:
    with (
        FakeServer(SCRIPT) as server,
        LoadClient(target(server), crew=crew) as client,
    ):
        return measured(client, server, workload)


@pytest.fixture(scope="module")
def alone() -> tuple[Pass, list[int], int]:
    return asked(Processes(wanted=1), WORKLOAD)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers_sends_the_same_requests(
    alone: tuple[Pass, list[int], int], workers: int
) -> None:
    pass_, digests, tokens = asked(AfarCrew(wanted=workers), WORKLOAD)
    assert totals(pass_) == totals(alone[0])
    assert digests == alone[1]
    assert len(set(digests)) == 24
    assert tokens == alone[2] == 24 * 8
    assert pass_.client.processes == workers
    seen = pass_.client.workers
    assert seen is not None
    assert [worker.node for worker in seen] == [f"node-{number}" for number in range(workers)]


@pytest.mark.skipif(not time_namespaces(), reason="no clock of its own for a process here")
def test_what_another_clock_saw_is_told_by_ours() -> None:
    crew = AfarCrew(wanted=2, ahead=True)
    with (
        FakeServer(SCRIPT) as server,
        LoadClient(target(server), crew=crew) as client,
    ):
        client.prepare(WORKLOAD)
        for seed in (1, 2):
            before = clock.now_ns()
            sent = len(server.truth)
            pass_ = client.measure(WORKLOAD, seed)
            after = clock.now_ns()
            truth = {each.digest: each for each in server.truth[sent:]}
            workers = pass_.client.workers
            assert workers is not None
            error_ns = max(worker.clock_error_ms or 0 for worker in workers) * 1e6
            for worker in workers:
                assert worker.clock_offset_ms == pytest.approx(-AHEAD_S * 1e3, abs=60_000)
                assert worker.clock_drift_ms is not None
            assert before <= pass_.started_ns
            assert len(truth) == 24
            written = sorted(record.written_ns for record in pass_.records)
            received = sorted(each.received_ns for each in truth.values())
            assert all(a <= b + error_ns for a, b in zip(written, received, strict=True))
            for record in pass_.records:
                assert pass_.started_ns - error_ns <= record.written_ns
                assert record.ended_ns <= after + error_ns
                assert all(record.written_ns <= at <= record.ended_ns for at in record.chunks.at_ns)


def test_an_open_loop_goes_on_one_schedule() -> None:
    steady = replace(WORKLOAD, concurrency=None, requests=40, arrivals="constant", rate=40.0)
    pass_, _, _ = asked(AfarCrew(wanted=2), steady)
    due = [record.scheduled_ns or 0 for record in pass_.records]
    assert due == sorted(due)
    assert pass_.client.offered_rate == pytest.approx(40.0, rel=0.01)


def test_a_file_of_prompts_goes_to_where_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    lines = [{"prompt": f"number {n} of many", "output_tokens": 8} for n in range(24)]
    path.write_text("\n".join(map(json.dumps, lines)))
    source, _ = open_source(path)
    read = replace(WORKLOAD, source=source, input_tokens=None, output_tokens=None)
    one = asked(Processes(wanted=1), read)
    crew = AfarCrew(wanted=2)
    two = asked(crew, read)
    assert totals(one[0]) == totals(two[0])
    assert one[1:] == two[1:]
    assert all(remote.calls.count("keep") >= 1 for remote in crew.remotes)


def test_a_worker_whose_node_is_gone_is_named_and_the_client_ends() -> None:
    crew = AfarCrew(wanted=2)
    slow = Script(ttft_ms=3000, itl_ms=2)
    with FakeServer(slow) as server:
        client = LoadClient(target(server), crew=crew)
        with client:
            client.prepare(WORKLOAD)
            lost = crew.remotes[1]
            lost.before_call = lambda method: lost.kill() if method == "hear" else None
            with pytest.raises(ClientError, match="worker on node-1 is lost"):
                client.measure(WORKLOAD, 1)


def test_whatever_fails_on_the_way_is_told() -> None:
    crew = AfarCrew(wanted=1)
    with FakeServer(SCRIPT) as server:
        client = LoadClient(target(server), crew=crew)
        with client:
            client.prepare(WORKLOAD)

            def broken(method: str) -> None:
                if method == "hear":
                    raise KeyError("frame")

            crew.remotes[0].before_call = broken
            with pytest.raises(
                ClientError, match=r"worker on node-0 has failed: KeyError: 'frame'"
            ):
                client.measure(WORKLOAD, 1)


def test_how_long_nothing_was_heard_is_told() -> None:
    crew = AfarCrew(wanted=2)
    with (
        FakeServer(SCRIPT) as server,
        LoadClient(target(server), crew=crew) as client,
    ):
        client.prepare(WORKLOAD)
        silences = iter([0.0, 1.5])  # the first is before it begins

        def delayed(method: str) -> None:
            if method == "hear":
                clock.sleep(next(silences, 0.0))

        client.warm_up(WORKLOAD, 1)
        crew.remotes[0].before_call = delayed
        workers = client.measure(WORKLOAD, 1).client.workers
    assert workers is not None
    assert workers[0].silent_s is not None
    assert workers[0].silent_s >= 1.5


def test_a_worker_that_hears_too_late_when_to_begin_is_lost() -> None:
    crew = AfarCrew(wanted=1, lead_ns=1)
    with (
        FakeServer(SCRIPT) as server,
        LoadClient(target(server), crew=crew) as client,
        pytest.raises(ClientError, match="told to begin"),
    ):
        client.measure(WORKLOAD, 1)
