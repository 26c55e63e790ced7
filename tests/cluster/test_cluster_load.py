"""The load of one run from workers on the nodes of a real Ray cluster."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf import clock
from pytest_llmperf.cluster.crew import RayLoad
from pytest_llmperf.errors import ClientError
from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.records import Pass, TokenizeCall, Workload
from pytest_llmperf.redact import Secret
from pytest_llmperf.testing import FakeServer, Script

if TYPE_CHECKING:
    from .conftest import Nodes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

TOKENIZE = TokenizeCall(path="/tokenize", text_field="prompt", tokens_field="tokens")
WORKLOAD = Workload(
    name="tiny",
    input_tokens=24,
    output_tokens=16,
    concurrency=8,
    requests=80,
    warmup_requests=4,
    runs=1,
    request_timeout_s=120,
)
LONG = replace(WORKLOAD, output_tokens=400, requests=16)
SCRIPT = Script(ttft_ms=50, itl_ms=10)
#: Until a node that is gone is known to be, and the error is told.
BOUND_S = 90.0
#: This machine may be as busy as it likes, and runs may be short.
UNBOUNDED = [
    word
    for name in ("cpu", "lag", "send_delay", "delivered", "in_flight", "clock", "silence")
    for word in ("-o", f"llmperf_client_{name}=off")
]
SUITE = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sim", model="m", args="--ttft-ms 20 --itl-ms 5"),
    pytest.mark.llm_workload("chat", input_tokens=24, output_tokens=TOKENS, concurrency=4,
                             requests=16, request_timeout="2 min"),
]

def test_it_asks(llm_perf):
    assert llm_perf.run().success_rate == 1.0
"""


@pytest.fixture(scope="module")
def three(nodes: Nodes) -> Nodes:
    while len(nodes.workers) < 2:
        nodes.grow()
    return nodes


@contextmanager
def loading(address: str, server: FakeServer, workers: int) -> Iterator[LoadClient]:
    load = RayLoad(address, workers)
    try:
        target = Target(
            url=server.url,
            model="sim",
            tokenize=TOKENIZE,
            headers=(("Authorization", Secret("Bearer right")),),
        )
        with LoadClient(target, processes=workers, crew=load.crew(server.url)) as client:
            yield client
    finally:
        load.close()


def asked(address: str, workers: int) -> tuple[Pass, list[int], int]:
    """A pass, the digests of the prompts that the server got for it, and the tokens it sent."""
    with FakeServer(SCRIPT) as server, loading(address, server, workers) as client:
        client.warm_up(WORKLOAD, 1)
        before = len(server.truth)
        pass_ = client.measure(WORKLOAD, 1)
        truth = server.truth[before:]
    return pass_, sorted(each.digest for each in truth), sum(each.tokens for each in truth)


def latency_ms(pass_: Pass) -> float:
    times = [record.ended_ns - record.written_ns for record in pass_.records]
    return sum(times) / len(times) / 1e6


def test_one_two_and_four_workers_ask_for_the_same(three: Nodes) -> None:
    passes = {workers: asked(three.address, workers) for workers in (1, 2, 4)}
    one, digests, tokens = passes[1]
    assert tokens == sum(record.output_tokens or 0 for record in one.records) == 80 * 16
    for workers, (pass_, theirs, sent) in passes.items():
        assert (theirs, sent) == (digests, tokens)
        assert [r.index for r in pass_.records] == list(range(80))
        assert all(record.ok for record in pass_.records)
        told = pass_.client.workers
        assert told is not None
        assert len(told) == workers
        # One machine has one clock, so what is found of others must be within its own error.
        for worker in told:
            assert abs(worker.clock_offset_ms or math.inf) <= (worker.clock_error_ms or 0)
        # The server sets the pace: 50 ms and 15 steps of 10 ms, and whatever this machine adds.
        assert latency_ms(pass_) >= 200


def test_a_node_that_dies_while_it_asks_is_named_and_the_next_run_goes_on(three: Nodes) -> None:
    three.grow()
    with FakeServer(SCRIPT) as server:
        with loading(three.address, server, 7) as client:
            client.prepare(LONG)
            pids = client.pids
            killer = threading.Timer(2.0, three.kill_one)
            killer.start()
            watch = clock.Stopwatch()
            with pytest.raises(ClientError, match=r"the load's worker on .* is lost"):
                client.measure(LONG, 1)
            assert watch.elapsed < BOUND_S
            killer.join()
        assert eventually(lambda: all(gone(pid) for pid in pids))
        with loading(three.address, server, 2) as client:
            assert all(record.ok for record in client.measure(WORKLOAD, 1).records)


def inner(directory: Path, address: str, *, tokens: int) -> subprocess.Popen[str]:
    (directory / "test_inner.py").write_text(SUITE.replace("TOKENS", str(tokens)))
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--llmperf-runs=1",
         "--llmperf-report=report.json", "--llmperf-pin=off", f"--llmperf-ray={address}",
         "--llmperf-ray-workers=2", *UNBOUNDED],
        cwd=directory, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def test_a_session_tells_where_its_workers_were(three: Nodes, tmp_path: Path) -> None:
    process = inner(tmp_path, three.address, tokens=16)
    said, _ = process.communicate(timeout=300)
    assert process.returncode == 0, said
    report = json.loads((tmp_path / "report.json").read_text())
    (run,) = report["measurements"][0]["runs"]
    assert run["client"]["processes"] == 2
    assert len(run["client"]["workers"]) == 2
    assert all(worker["node"] for worker in run["client"]["workers"])


def test_a_killed_session_leaves_no_worker(three: Nodes, tmp_path: Path) -> None:
    process = inner(tmp_path, three.address, tokens=4000)
    assert eventually(lambda: bool(workers()), 240)
    found = workers()
    process.kill()
    process.communicate()
    assert eventually(lambda: all(gone(pid) for pid in found))


def workers() -> list[int]:
    """Processes of the load client that a worker process of Ray's started."""
    import psutil

    def is_ours(process: psutil.Process) -> bool:
        parent = process.parent()
        started = "pytest_llmperf.load.worker" in process.cmdline()
        return started and parent is not None and "ray::" in " ".join(parent.cmdline())

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            found += [process.pid] if is_ours(process) else []
    return found


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = clock.Deadline(seconds)
    while not deadline.passed:
        if condition():
            return True
        clock.sleep(0.1)
    return condition()


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (ProcessLookupError, FileNotFoundError):
        return True
    return state == "Z"


@pytest.mark.usefixtures("_ray")
def test_a_worker_that_is_cut_off_for_five_seconds_is_named() -> None:
    """Its link is down, to us and to the server alike."""
    netns = pytest.importorskip("netns")  # lies beside this file
    if why := netns.forbidden():
        pytest.skip(why)
    with netns.Network() as network, served(network.here.address) as url:
        cluster = netns.RayNodes(scratch=Path("/tmp", f"llp-{os.getpid()}"))  # noqa: S108 - a short path
        cluster.head(network.here)
        machines = [network.machine() for _ in range(2)]
        for machine in machines:
            cluster.worker(machine, cpus=1)
        load = RayLoad(cluster.address, 2)
        try:
            target = Target(url=url, model="sim", tokenize=TOKENIZE)
            with LoadClient(target, processes=2, crew=load.crew(url)) as client:
                client.prepare(LONG)

                def cut() -> None:
                    with machines[1].unplugged():
                        clock.sleep(5.0)

                cutting = threading.Timer(2.0, cut)
                cutting.start()
                pass_ = client.measure(replace(LONG, requests=24), 1)
                cutting.join()
        finally:
            load.close()
    told = {worker.node: worker.silent_s or 0 for worker in pass_.client.workers or ()}
    assert len(told) == 2
    (cut_off,) = [silent for node, silent in told.items() if machines[1].address in node]
    (other,) = [silent for node, silent in told.items() if machines[0].address in node]
    assert cut_off >= 4.0 > other


@contextmanager
def served(host: str) -> Iterator[str]:
    command = [sys.executable, "-m", "pytest_llmperf.testing", "--host", host, "--port", "30990"]
    command += ["--ttft-ms", "50", "--itl-ms", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready" in process.stdout.readline()
        try:
            yield f"http://{host}:30990"
        finally:
            process.send_signal(signal.SIGTERM)
