"""A server over a real Ray cluster: found, watched, lost by a node, and gone without a trace.

What is served by is :mod:`stand_in`: SGLang as Ray and a client see it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf import clock
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.cluster.messages import ClusterNode

if TYPE_CHECKING:
    from pytest_llmperf.cluster.member import Member

    from .conftest import Nodes

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

STAND_IN = Path(__file__).with_name("stand_in.py")
PATIENCE_S = 240.0

SUITE = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="tiny-r1", python="PYTHON", ray="ADDRESS", nodes=2,
                           args="--tp 2 ARGS", accelerator="cpu", timeout="3 min",
                           env={"STAND_IN_TOLD": "by the test",
                                # there is no SGLang for its plugin to plug into
                                "PYTEST_LLMPERF_SGLANG_CPU": "0"}),
    pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=TOKENS, concurrency=2,
                             requests=8, request_timeout="2 min"),
]

def test_it_serves(llm_perf, llm_server):
    open("ready", "w").close()
    run = llm_perf.run()
    assert run.success_rate == 1.0
"""


class Inner:
    """An inner pytest session, on its way."""

    def __init__(self, directory: Path, address: str, *, args: str = "", tokens: int = 16) -> None:
        python = directory / "python"
        python.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {STAND_IN} "$@"\n')
        python.chmod(0o755)
        text = SUITE.replace("PYTHON", str(python)).replace("ADDRESS", address)
        text = text.replace("ARGS", args).replace("TOKENS", str(tokens))
        (directory / "test_inner.py").write_text(text)
        self._directory = directory
        self._output = directory / "output"
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--llmperf-runs=1",
                 "--llmperf-report=report.json", "--llmperf-log-dir=logs", "--llmperf-pin=off"],
                cwd=directory, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def when(self, what: Callable[[], bool]) -> None:
        deadline = clock.Deadline(PATIENCE_S)
        while not what():
            assert self.process.poll() is None, self.ended()
            assert not deadline.passed, self.ended()
            clock.sleep(0.1)

    def serves(self) -> bool:
        return (self._directory / "ready").exists()

    def ended(self) -> str:
        """What it said, when it has ended; it is ended after a while."""
        timer = threading.Timer(PATIENCE_S, self.process.kill)
        timer.start()
        self.process.wait()
        timer.cancel()
        return self._output.read_text()

    @property
    def launch(self) -> dict[str, Any]:
        report = json.loads((self._directory / "report.json").read_text())
        launch: dict[str, Any] = report["servers"][0]["launches"][0]
        return launch


@pytest.fixture
def two(nodes: Nodes) -> Nodes:
    if not nodes.workers:
        nodes.grow()
    _await(nodes.address, lambda seen: sum(node.alive for node in seen) == 2)
    return nodes


def _await(address: str, wanted: Callable[[tuple[ClusterNode, ...]], bool]) -> None:
    deadline = clock.Deadline(PATIENCE_S)
    with Cluster.join(address) as cluster:
        while not wanted(seen := cluster.nodes()):
            assert not deadline.passed, seen
            clock.sleep(0.2)


def what_is_left(member: Member) -> list[str]:
    """Of all jobs that are over or should be; called in a member."""
    import ray

    from pytest_llmperf.cluster import state

    own = ray.get_runtime_context().get_job_id()
    others = [job for job in state._jobs() if job.job_id.hex() != own]
    held = [state._held(job.job_id.hex(), over=bool(job.is_dead)) for job in others]
    # Ray leaves out what a node has nothing of at the moment.
    taken = [
        f"accelerators of {node}"
        for node in state.nodes(member)
        if node.alive and node.free.get("GPU", 0.0) != node.resources["GPU"]
    ]
    jobs = [f"job {job.id}" for job in held if not job.over]
    return [*(what for job in held for what in job.holds), *jobs, *taken]


def nothing_is_left(address: str) -> None:
    deadline = clock.Deadline(30.0)
    with Cluster.join(address) as cluster:
        while left := cluster.call(what_is_left):
            assert not deadline.passed, left
            clock.sleep(0.2)


def test_ranks_are_told_and_nothing_is_left(two: Nodes, tmp_path: Path) -> None:
    inner = Inner(tmp_path, two.address)
    said = inner.ended()
    assert inner.process.returncode == 0, said
    ranks = inner.launch["ranks"]
    assert [rank["name"] for rank in ranks] == ["dp0 pp0 tp0", "dp0 pp0 tp1"]
    assert len({rank["node"] for rank in ranks}) == 2
    log = Path(tmp_path, inner.launch["log"]).read_text()
    assert log.count("'told': 'by the test'") == 2  # each rank has the variables of env=
    nothing_is_left(two.address)


def test_a_node_that_dies_while_serving_is_named(two: Nodes, tmp_path: Path) -> None:
    inner = Inner(tmp_path, two.address, tokens=4000)
    inner.when(inner.serves)
    clock.sleep(2.0)
    two.kill_one()
    said = inner.ended()
    assert inner.process.returncode == 11, said
    assert "of the Ray cluster died" in said or "of the server, on node" in said
    nothing_is_left(two.address)


def test_a_node_that_dies_while_starting_is_named(two: Nodes, tmp_path: Path) -> None:
    inner = Inner(tmp_path, two.address, args="--slow-s 120")
    inner.when(lambda: any("Connected to Ray" in _read(log) for log in tmp_path.glob("logs/*")))
    _await(two.address, lambda seen: all(node.free.get("GPU", 0) == 0 for node in seen))
    two.kill_one()
    said = inner.ended()
    assert inner.process.returncode == 11, said
    assert "of the Ray cluster died" in said or "of the server, on node" in said
    nothing_is_left(two.address)


def _read(path: Path) -> str:
    return path.read_text(errors="replace")


def test_a_rank_that_fails_is_named_with_its_node(two: Nodes, tmp_path: Path) -> None:
    inner = Inner(tmp_path, two.address, args="--fail-rank 1")
    said = inner.ended()
    assert inner.process.returncode == 11, said
    assert "dp0 pp0 tp1, on node" in said
    assert "the weights of this rank are not here" in said
    nothing_is_left(two.address)


def test_a_cluster_without_room_is_told_before_anything_starts(two: Nodes, tmp_path: Path) -> None:
    inner = Inner(tmp_path, two.address, args="--tp 8")
    said = inner.ended()
    assert inner.process.returncode == 11, said
    assert "has no room for the server" in said
    assert "the server needs 2 nodes with 1 CPU and 4 GPU each" in said
    assert not list(tmp_path.glob("logs/*"))


def test_nothing_outlives_a_killed_pytest(two: Nodes, tmp_path: Path) -> None:
    inner = Inner(tmp_path, two.address, tokens=4000)
    inner.when(inner.serves)
    inner.process.kill()
    inner.process.wait()
    nothing_is_left(two.address)
