"""The load client's child process: clean, obedient, and gone when its parent is."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from processes import gone, until
from pytest_llmperf.errors import ClientError, ServerError
from pytest_llmperf.load.child import Processes, clean_environment
from pytest_llmperf.load.client import LoadClient, LoadProgress, Target, processes_needed
from pytest_llmperf.load.compose.plan import Plan
from pytest_llmperf.load.compose.prompts import IdPool, Part
from pytest_llmperf.load.compose.rehearsal import Recipe
from pytest_llmperf.load.send.connect import parse_origin
from pytest_llmperf.load.send.supply import Shard
from pytest_llmperf.load.worker import pace_of
from pytest_llmperf.records import Workload
from pytest_llmperf.testing import FakeServer, Script, self_signed
from tiny_load import TINY, TOKENIZE, target

WORKLOAD = replace(TINY, request_timeout_s=20)


def test_a_pass_comes_back_whole() -> None:
    with FakeServer(Script(ttft_ms=5, itl_ms=1)) as server, LoadClient(target(server)) as client:
        client.prepare(WORKLOAD)
        warm = client.warm_up(WORKLOAD, 1)
        before = len(server.truth)
        measured = client.measure(WORKLOAD, 1)
        truth = server.truth[before:]
    assert len(warm.records) == 3
    assert [record.index for record in measured.records] == list(range(12))
    assert all(record.ok and record.status == 200 for record in measured.records)
    assert {record.prompt_tokens for record in measured.records} == {24}
    assert measured.seed == 1
    health = measured.client
    assert 0 < health.cpu_share < 5
    assert health.peak_rss_bytes > 1_000_000
    assert health.mean_in_flight is not None
    assert 1 < health.mean_in_flight <= 4.01
    assert sum(each.tokens for each in truth) == 12 * 8


def test_time_to_first_token_is_never_less_than_the_servers() -> None:
    one_by_one = Workload(
        name="tiny", input_tokens=24, output_tokens=8, concurrency=1, requests=8,
        warmup_requests=1, runs=1,
    )  # fmt: skip
    with FakeServer(Script(ttft_ms=20, itl_ms=2)) as server, LoadClient(target(server)) as client:
        records = client.measure(one_by_one, 1).records
        truth = server.truth[-8:]
    for record, true in zip(records, truth, strict=True):
        assert record.written_ns <= true.received_ns
        arrived = [chunk.at_ns for chunk in record.chunks if chunk.kind != "none"]
        sent = [chunk.at_ns for chunk in true.chunks]
        assert all(there <= here for there, here in zip(sent, arrived, strict=True))
        assert arrived == sorted(arrived)


def test_both_apis_are_asked_in_the_same_process() -> None:
    other = Workload(
        name="tiny", input_tokens=30, output_tokens=8, concurrency=2, requests=4,
        warmup_requests=1, runs=1, api="completions",
    )  # fmt: skip
    with FakeServer(Script(ttft_ms=2, itl_ms=0.5)) as server, LoadClient(target(server)) as client:
        assert all(record.ok for record in client.measure(WORKLOAD, 1).records)
        assert {record.prompt_tokens for record in client.measure(other, 1).records} == {30}


def test_progress_is_told_while_a_pass_runs() -> None:
    told: list[LoadProgress] = []
    script = Script(ttft_ms=300, itl_ms=10)
    with FakeServer(script) as server, LoadClient(target(server)) as client:
        client.measure(WORKLOAD, 1, told.append)
    assert told
    assert all(each.total == 12 and 0 <= each.done <= 12 for each in told)
    assert [each.done for each in told] == sorted(each.done for each in told)


def test_what_the_server_refuses_is_quoted() -> None:
    script = Script(max_context_tokens=30)
    with FakeServer(script) as server, LoadClient(target(server)) as client:
        with pytest.raises(ServerError, match="maximum context length of 30 tokens"):
            client.prepare(WORKLOAD)
        with pytest.raises(ServerError, match="maximum context length"):
            client.measure(WORKLOAD, 1)


def test_a_server_that_is_gone_is_named() -> None:
    with FakeServer() as server:
        client = LoadClient(target(server))
        client.prepare(WORKLOAD)
        port = server.port
    with client, pytest.raises(ServerError, match=f"cannot connect to 127.0.0.1:{port}"):
        client.measure(WORKLOAD, 1)


def test_a_server_that_was_never_there_is_named() -> None:
    nowhere = Target(url="http://127.0.0.1:9", model="sim")
    with LoadClient(nowhere) as client, pytest.raises(ServerError, match="cannot connect"):
        client.prepare(WORKLOAD)


def test_a_server_that_dies_in_the_middle_gives_failures_and_no_hang() -> None:
    with FakeServer() as server:
        port = server.port
    command = [sys.executable, "-m", "pytest_llmperf.testing", "--port", str(port)]
    command += ["--ttft-ms", "2", "--die-after", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with LoadClient(
            Target(url=f"http://127.0.0.1:{port}", model="sim", tokenize=TOKENIZE)
        ) as client:
            records = client.measure(WORKLOAD, 1).records
    failures = {record.failure for record in records if not record.ok}
    assert len(records) == 12
    assert failures
    assert failures <= {"cut", "connect"}
    assert any(record.ok for record in records)


def test_a_child_that_dies_is_reported_with_what_it_said() -> None:
    with FakeServer() as server, LoadClient(target(server)) as client:
        os.kill(client.pids[0], signal.SIGKILL)
        with pytest.raises(ClientError, match=r"ended by itself \(status -9\)"):
            client.prepare(WORKLOAD)


def test_an_interrupt_from_the_keyboard_is_left_to_the_parent() -> None:
    with FakeServer() as server, LoadClient(target(server)) as client:
        os.kill(client.pids[0], signal.SIGINT)
        assert all(record.ok for record in client.warm_up(WORKLOAD, 1).records)


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no core pinning here")
def test_the_child_stays_on_its_cores() -> None:
    core = min(os.sched_getaffinity(0))
    with FakeServer() as server, LoadClient(target(server), crew=Processes((core,))) as client:
        assert os.sched_getaffinity(client.pids[0]) == {core}


def test_closing_ends_the_child_and_may_be_repeated() -> None:
    with FakeServer() as server:
        client = LoadClient(target(server))
        (pid,) = client.pids
        client.close()
        client.close()
        assert client.pids == ()
        assert gone(pid)
        with pytest.raises(ClientError, match="closed"):
            client.prepare(WORKLOAD)


PARENT = """
import sys
from pytest_llmperf import clock
from pytest_llmperf.load.client import LoadClient, Target
client = LoadClient(Target(url="http://127.0.0.1:9", model="sim"))
print(client.pids[0], flush=True)
clock.sleep(60)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
def test_a_killed_parent_leaves_no_child() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert not gone(child)
        parent.kill()
    assert until(lambda: gone(child))


def test_the_child_is_not_traced_debugged_or_profiled() -> None:
    kept = clean_environment(
        {
            "PATH": "/bin",
            "COVERAGE_PROCESS_START": "x",
            "COV_CORE_SOURCE": "x",
            "PYTHONASYNCIODEBUG": "1",
            "PYTHONDEVMODE": "1",
            "PYDEVD_USE_FRAME_EVAL": "1",
            "PYTHONPATH": "/mine",
        }
    )
    assert kept["PATH"] == "/bin"
    assert kept["PYTHONPATH"].split(os.pathsep)[0] == "/mine"
    assert set(kept) == {"PATH", "PYTHONPATH"}


def test_several_processes_ask_for_the_same_as_one() -> None:
    script = Script(ttft_ms=5, itl_ms=1, reasoning_fraction=0.5)
    passes = []
    for processes in (1, 3):
        with (
            FakeServer(script) as server,
            LoadClient(target(server), crew=Processes(wanted=processes)) as client,
        ):
            client.warm_up(WORKLOAD, 1)
            passes.append(client.measure(WORKLOAD, 1))
            assert len(client.pids) == processes
    one, three = passes
    assert (one.client.processes, three.client.processes) == (1, 3)
    totals = [
        [(r.index, r.ok, r.prompt_tokens, r.output_tokens, len(r.chunks)) for r in each.records]
        for each in passes
    ]
    assert totals[0] == totals[1]
    assert all(record.written_ns >= each.started_ns for each in passes for record in each.records)


def test_several_processes_share_out_an_open_loop_on_one_time_base() -> None:
    asked = Workload(
        name="tiny", input_tokens=24, output_tokens=8, concurrency=None, requests=60,
        warmup_requests=1, runs=1, arrivals="constant", rate=200.0,
    )  # fmt: skip
    with (
        FakeServer(Script(ttft_ms=5, itl_ms=1)) as server,
        LoadClient(target(server), crew=Processes(wanted=2)) as client,
    ):
        measured = client.measure(asked, 1)
    scheduled = [record.scheduled_ns or 0 for record in measured.records]
    assert scheduled == sorted(scheduled)
    gaps = [b - a for a, b in itertools.pairwise(scheduled)]
    assert all(abs(gap - 5_000_000) <= 1 for gap in gaps)
    assert all(record.written_ns >= (record.scheduled_ns or 0) for record in measured.records)
    assert measured.client.offered_rate == pytest.approx(200.0)
    assert measured.client.send_delay_ms_p99 is not None


def test_a_workload_says_how_many_processes_it_needs() -> None:
    few = WORKLOAD
    many = replace(WORKLOAD, concurrency=1000, requests=1000)
    fast = replace(WORKLOAD, concurrency=None, arrivals="poisson", rate=2500.0)
    assert [processes_needed(each, 8) for each in (few, many, fast)] == [1, 4, 3]
    assert processes_needed(many, 2) == 2
    assert processes_needed(replace(fast, final_rate=100_000.0), 8) == 8


def test_one_process_that_cannot_go_on_leaves_the_others_usable() -> None:
    """A server that is gone is told once; the processes then take the next command."""
    with FakeServer() as server:
        client = LoadClient(target(server), crew=Processes(wanted=2))
        client.prepare(WORKLOAD)
    with client:
        for _ in range(2):
            with pytest.raises(ServerError, match="cannot connect"):
                client.measure(WORKLOAD, 1)


def test_over_tls_the_same_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = self_signed(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(files.cert))
    script = Script(ttft_ms=5, itl_ms=1, reasoning_fraction=0.5)
    with FakeServer(script, tls=files) as server, LoadClient(target(server)) as client:
        assert server.url.startswith("https://")
        records = client.measure(WORKLOAD, 1).records
        truth = server.truth[-12:]
    assert all(record.ok and record.prompt_tokens == 24 for record in records)
    assert sum(record.output_tokens or 0 for record in records) == sum(t.tokens for t in truth)


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path: Path) -> None:
    with (
        FakeServer(tls=self_signed(tmp_path)) as server,
        LoadClient(target(server)) as client,
        pytest.raises(ServerError, match="certificate verify failed"),
    ):
        client.prepare(WORKLOAD)


@pytest.mark.parametrize("key", ["right", "wrong"])
def test_a_key_goes_with_every_request(key: str) -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=0.2, api_key="right")) as server:
        keyed = replace(target(server), headers=(("Authorization", f"Bearer {key}"),))
        with LoadClient(keyed) as client:
            if key == "right":
                assert all(record.ok for record in client.measure(WORKLOAD, 1).records)
            else:
                with pytest.raises(ServerError, match="401"):
                    client.prepare(WORKLOAD)


@pytest.mark.parametrize(("concurrency", "processes"), [(2, 4), (5, 4), (1, 3)])
def test_every_request_is_sent_however_processes_share_the_slots(
    concurrency: int, processes: int
) -> None:
    asked = replace(WORKLOAD, concurrency=concurrency, requests=20)
    with (
        FakeServer(Script(ttft_ms=5, itl_ms=1)) as server,
        LoadClient(target(server), crew=Processes(wanted=processes)) as client,
    ):
        client.warm_up(asked, 1)
        result = client.measure(asked, 1)
        assert len(client.pids) == min(concurrency, processes)
    assert [record.index for record in result.records] == list(range(20))
    assert all(record.ok for record in result.records)


def test_warming_up_knows_neither_ramp_nor_time_limit() -> None:
    asked = replace(WORKLOAD, requests=None, duration_s=5.0, ramp_up_s=2.0)
    target_, origin = Target(url="http://h:1", model="m"), parse_origin("http://h:1")
    recipe = Recipe(usage="final", pool=IdPool(ids=tuple(range(99))))
    parts: tuple[Part, ...] = ("measured", "warmup")
    paces = {}
    for part in parts:
        plan = Plan(asked, recipe, target_, origin, seed=1, part=part)
        paces[part] = pace_of(asked, plan, Shard(), part)
    assert (paces["measured"].ramp_up_ns, paces["measured"].duration_ns) == (2 * 10**9, 5 * 10**9)
    assert (paces["warmup"].ramp_up_ns, paces["warmup"].duration_ns) == (0, None)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("habit", ["close_each", "drop_each"])
def test_a_server_that_closes_after_each_answer_loses_no_request(habit: str, stream: bool) -> None:
    """Said or unsaid: what is written on a connection that is about to be closed would be lost."""
    asked = replace(WORKLOAD, requests=40, stream=stream)
    closing = {habit: True}
    script = Script(ttft_ms=2, itl_ms=0.2, **closing)  # type: ignore[arg-type]
    with FakeServer(script) as server, LoadClient(target(server)) as client:
        records = client.measure(asked, 1).records
    assert [record.failure for record in records] == [None] * 40
    assert sum(record.connect_ns is not None for record in records) >= 36


@pytest.mark.parametrize(("cap", "held_back"), [(2, True), (60, False)])
def test_any_process_that_held_a_request_back_says_so(cap: int, held_back: bool) -> None:
    """Each has its share of the cap, and may hold back while the sum is below it."""
    asked = replace(WORKLOAD, concurrency=cap, requests=12, arrivals="constant", rate=1000.0)
    with (
        FakeServer(Script(ttft_ms=100, itl_ms=1)) as server,
        LoadClient(target(server), crew=Processes(wanted=2)) as client,
    ):
        assert client.measure(asked, 1).client.held_back is held_back
