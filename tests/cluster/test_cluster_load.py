"""The load of one run from workers on the nodes of a real Ray cluster."""

from __future__ import annotations

import json
import math
import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import netns  # type: ignore[import-not-found] # lies beside this file
import pytest

from processes import gone, until
from pytest_llmperf import clock
from pytest_llmperf.cluster.crew import RayLoad
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.errors import ClientError
from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.metrics.summary import reduce_pass
from pytest_llmperf.records import MetricValue, Pass
from pytest_llmperf.redact import Secret
from pytest_llmperf.testing import FakeServer, Script
from tiny_load import TINY, TOKENIZE, measured, target

if TYPE_CHECKING:
    from .conftest import Nodes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

WORKLOAD = replace(TINY, output_tokens=16, concurrency=8, requests=80, warmup_requests=4)
LONG = replace(WORKLOAD, output_tokens=400, requests=16)
SCRIPT = Script(ttft_ms=50, itl_ms=10)
#: Until a node that is gone is known to be, and the error is told.
BOUND_S = 90.0
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
        keyed = replace(target(server), headers=(("Authorization", Secret("Bearer right")),))
        with LoadClient(keyed, crew=load.crew(server.url)) as client:
            yield client
    finally:
        load.close()


def asked(address: str, workers: int) -> tuple[Pass, list[int], int]:
    with FakeServer(SCRIPT) as server, loading(address, server, workers) as client:
        return measured(client, server, WORKLOAD)


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


#: So slow that what a busy machine adds is little beside it.
SLOW = Script(ttft_ms=200, itl_ms=40)
FEW = replace(WORKLOAD, output_tokens=8, requests=32)
#: Passes of each number of workers, and how many of them must agree.
BLOCKS, AGREEING = 12, 10
#: How far apart medians may be that are called equal.
MARGIN = 0.05
FIGURES = ("ttft_p50", "ttft_p90", "tpot_p50", "tpot_p90", "output_throughput")


def equal(ratios: Sequence[float], margin: float = MARGIN) -> bool:
    """Whether the median of ``ratios`` is shown to be within ``margin`` of 1. By signs, so nothing
    is assumed of how they are spread: if it were at either end of the margin or beyond, each would
    lie on this side of that end with a chance of one half at most."""
    below = sum(math.log(ratio) < math.log1p(margin) for ratio in ratios)
    above = sum(math.log(ratio) > -math.log1p(margin) for ratio in ratios)
    return min(below, above) >= AGREEING


def test_what_differs_is_called_equal_twice_in_a_hundred_times_at_most() -> None:
    by_luck = sum(math.comb(BLOCKS, agreeing) for agreeing in range(AGREEING, BLOCKS + 1))
    assert by_luck / 2**BLOCKS < 0.02
    inside, outside = [1.0], [1.0 + MARGIN]
    assert equal(AGREEING * inside + 2 * [9.0])
    assert not equal((AGREEING - 1) * inside + 3 * outside)
    assert not equal(BLOCKS * [1 / outside[0]])


def test_one_two_and_four_workers_see_the_same(three: Nodes) -> None:
    """In blocks of one pass each, so that what else this machine does meets all alike."""
    three.grow()
    shuffled = random.Random(0)
    seen: dict[int, list[Mapping[str, MetricValue]]] = {1: [], 2: [], 4: []}
    with FakeServer(SLOW) as server, ExitStack() as stack:
        cluster = stack.enter_context(Cluster.join(three.address))
        clients: dict[int, LoadClient] = {}
        free = sum(node.resources["CPU"] for node in cluster.nodes() if node.alive)
        for workers in seen:
            # Ray is slow to tell of cores that are taken, and clients go by what it tells.
            assert until(partial(has_free_cores, cluster, free))
            client = stack.enter_context(loading(three.address, server, workers))
            client.warm_up(FEW, 1)
            clients[workers] = client
            free -= workers
        for block in range(BLOCKS):
            for workers in shuffled.sample(sorted(clients), len(clients)):
                pass_ = clients[workers].measure(FEW, block)
                run = reduce_pass(pass_, workload=FEW, launch_id="", index=block, devices=1)
                seen[workers].append(run.metrics)
    for workers, figure in product((2, 4), FIGURES):
        pairs = zip(seen[workers], seen[1], strict=True)
        ratios = [number(one, figure) / number(other, figure) for one, other in pairs]
        assert equal(ratios), (workers, figure, ratios)


def has_free_cores(cluster: Cluster, count: float) -> bool:
    return sum(node.free.get("CPU", 0.0) for node in cluster.nodes() if node.alive) == count


def number(metrics: Mapping[str, MetricValue], name: str) -> float:
    value = metrics[name].value
    assert value
    return value


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
        assert until(lambda: all(gone(pid) for pid in pids))
        with loading(three.address, server, 2) as client:
            assert all(record.ok for record in client.measure(WORKLOAD, 1).records)


def inner(directory: Path, address: str, *, tokens: int) -> subprocess.Popen[str]:
    (directory / "test_inner.py").write_text(SUITE.replace("TOKENS", str(tokens)))
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--llmperf-runs=1",
         "--llmperf-report=report.json", "--llmperf-pin=off", f"--llmperf-ray={address}",
         "--llmperf-ray-workers=2"],
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
    assert until(lambda: bool(workers()), 240)
    found = workers()
    process.kill()
    process.communicate()
    assert until(lambda: all(gone(pid) for pid in found))


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


@pytest.mark.usefixtures("_ray")
def test_a_worker_that_is_cut_off_for_five_seconds_is_named() -> None:
    """Its link is down, to us and to the server alike."""
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
            served_there = Target(url=url, model="sim", tokenize=TOKENIZE)
            with LoadClient(served_there, crew=load.crew(url)) as client:
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
    assert cut_off >= 4.0
    assert cut_off > other


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
