"""SGLang over two ranks on this machine: one launch, measured, told, and lost by its other rank."""

from __future__ import annotations

import json
import os

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500), pytest.mark.usefixtures("sglang")]

TWO_RANKS = """
import os, signal
import psutil
import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="tiny-r1-distill-llama", nodes=2, args="--tp 2",
                           accelerator="cpu", timeout="20 min",
                           # Ranks on one NUMA node have to be told their cores, and the package
                           # for CUDA must not find the NCCL that came with it.
                           env={"SGLANG_CPU_OMP_THREADS_BIND": "CORES",
                                "SGLANG_NCCL_SO_PATH": "none"}),
    pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=6),
]


def test_it_serves(llm_perf, llm_server):
    run = llm_perf.run()
    assert run.success_rate == 1.0
    args = llm_server.args
    assert (args["nnodes"], args["node_rank"], args["tp_size"]) == (2, 0, 2)


def test_a_lost_rank_is_told(llm_perf, llm_server):
    ranks = [p for p in psutil.process_iter() if "--node-rank 1" in " ".join(cmdline(p))
             and mine(p)]
    assert ranks
    for rank in ranks:
        rank.send_signal(signal.SIGKILL)
    llm_perf.run("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=6, seed=1)


def cmdline(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def mine(process):
    return any(parent.pid == os.getpid() for parent in process.parents())
"""


def test_two_ranks_serve_and_a_dead_one_is_named(pytester: pytest.Pytester) -> None:
    core = max(os.sched_getaffinity(0))
    pytester.makepyfile(TWO_RANKS.replace("CORES", f"{core}|{core}"))
    result = pytester.runpytest_subprocess(
        "--llmperf-pin=off",
        "--llmperf-runs=1",
        "--llmperf-report=report.json",
        f"--llmperf-log-dir={pytester.path / 'logs'}",
    )
    result.stdout.fnmatch_lines(["*rank 1 of the sglang server, on this machine, was killed by*"])
    launch = json.loads((pytester.path / "report.json").read_text())["servers"][0]["launches"][0]
    assert launch["failure"] is None
    assert any("--node-rank 1" in note for note in launch["notes"])
    outcomes = result.parseoutcomes()
    assert outcomes.get("passed") == 1
