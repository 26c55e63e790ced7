"""Real SGLang over a Ray cluster of two nodes on this machine: one launch, its ranks told,
measured, and lost by one of them."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(900), pytest.mark.usefixtures("sglang")]

#: SGLang asks for a GPU for each rank, with ``--device cpu`` too.
NODE = {"num_cpus": 1, "num_gpus": 1, "object_store_memory": 100_000_000}

OVER_RAY = """
import os, signal
import psutil
import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="tiny-r1", ray="ADDRESS", nodes=2,
                           args="--tp 2", accelerator="cpu", timeout="10 min",
                           # The package for CUDA must not find the NCCL that came with it.
                           env={"SGLANG_CPU_OMP_THREADS_BIND": "CORES",
                                "SGLANG_NCCL_SO_PATH": "none"}),
    pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=6,
                             request_timeout="2 min"),
]


def test_it_serves(llm_perf, llm_server):
    run = llm_perf.run()
    assert run.success_rate == 1.0
    args = llm_server.args
    assert (args["use_ray"], args["nnodes"], args["tp_size"]) == (True, 2, 2)


def test_a_lost_rank_is_told(llm_perf, llm_server):
    ours = psutil.Process(os.getppid()).children(recursive=True)
    ranks = [p for p in ours if "ray::SchedulerActor" in " ".join(words(p))]
    assert len(ranks) == 2
    ranks[1].send_signal(signal.SIGKILL)
    llm_perf.run("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=6, seed=1)


def words(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []
"""


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if importlib.util.find_spec("ray") is None:
        if os.environ.get("LLMPERF_ENGINES_REQUIRED") == "1":
            pytest.fail("Ray must be installed where engine tests are required", pytrace=False)
        pytest.skip("Ray is not installed: make test runs this")
    from ray.cluster_utils import Cluster

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    made: Any = Cluster(initialize_head=True, head_node_args={"include_dashboard": False, **NODE})
    try:
        made.add_node(**NODE)
        yield made.address
    finally:
        made.shutdown()


def test_sglang_serves_over_ray_and_a_lost_rank_is_named(
    pytester: pytest.Pytester, address: str
) -> None:
    core = max(os.sched_getaffinity(0))
    pytester.makepyfile(OVER_RAY.replace("CORES", f"{core}|{core}").replace("ADDRESS", address))
    result = pytester.runpytest_subprocess(
        "--llmperf-pin=off",
        "--llmperf-runs=1",
        "--llmperf-report=report.json",
        f"--llmperf-log-dir={pytester.path / 'logs'}",
    )
    result.stdout.fnmatch_lines(["*pp0 tp? of the server, on node *, is gone*"])
    launch = json.loads((pytester.path / "report.json").read_text())["servers"][0]["launches"][0]
    assert launch["failure"] is None
    assert [rank["name"].split()[-1] for rank in launch["ranks"]] == ["tp0", "tp1"]
    assert len({rank["node"] for rank in launch["ranks"]}) == 2
    assert result.parseoutcomes().get("passed") == 1
