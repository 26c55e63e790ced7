"""The main job on real SGLang: inner pytest sessions start it, measure it, and lose it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from pytest_llmperf import clock

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200), pytest.mark.usefixtures("sglang")]

SHORT = "input_tokens=48, output_tokens=24, concurrency=4, requests=20"

TINY_R1 = f"""
import json, urllib.request
import pytest
from pytest_llmperf import LimitMissed

pytestmark = [pytest.mark.llm_server("sglang", model="tiny-r1"),
              pytest.mark.llm_workload("chat", {SHORT})]

@pytest.mark.llm_floor(output_throughput="0.01 tok/s")
@pytest.mark.llm_ceiling(ttft_p50="10 min")
def test_chat(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0
    for one in run.runs:
        assert (one.input_tokens_mean, one.output_tokens_mean) == (48, 24)
        assert one.token_source == "usage"

@pytest.mark.llm_workload("chat", {SHORT}, api="completions")
def test_completions(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0
    assert all(one.input_tokens_mean == 48 for one in run.runs)

@pytest.mark.parametrize("api", ["chat", "completions", "generate"])
@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
def test_every_api(llm_perf, api, stream):
    run = llm_perf.run("chat", {SHORT}, api=api, stream=stream, runs=1)
    assert run.success_rate == 1.0
    (one,) = run.valid_runs
    assert (one.input_tokens_mean, one.output_tokens_mean) == (48, 24)
    assert one.token_source == "usage"
    assert run.e2e_p50 > 0
    assert (run.ttft_p50 is not None) is stream

def test_an_open_loop(llm_perf):
    run = llm_perf.run("chat", input_tokens=48, output_tokens=24, rate=4, requests=16, runs=1,
                       slo={{"ttft": "10 min", "e2e": "10 min"}})
    assert run.success_rate == run.goodput_share == 1.0
    assert run.ttft_from_schedule_p50 >= run.ttft_p50

def test_conversations_share_what_was_said(llm_perf):
    run = llm_perf.run("sessions", input_tokens=64, output_tokens=16, turn_input_tokens=16,
                       think_time=0, concurrency=2, requests=16, runs=1)
    assert run.success_rate == 1.0
    (one,) = run.valid_runs
    assert one.input_tokens_mean == 64 + 1.5 * 32
    assert run.cache_hit_rate > 0.3

def test_a_time_bounded_run(llm_perf):
    run = llm_perf.run("chat", input_tokens=48, output_tokens=8, concurrency=2, duration="3 s",
                       runs=1)
    assert run.success_rate == 1.0
    assert run.runs[0].sent > 2

@pytest.mark.xfail(strict=True, raises=LimitMissed)
@pytest.mark.llm_floor(output_throughput="100000000 tok/s")
def test_floor_that_must_fail(llm_perf):
    llm_perf.run()

def test_it_is_r1(llm_server):
    assert llm_server.engine == "sglang"
    assert llm_server.version
    assert llm_server.args["port"] == int(llm_server.url.rpartition(":")[2])
    body = {{"model": llm_server.model, "max_tokens": 96, "temperature": 0, "ignore_eos": True,
            "messages": [{{"role": "user", "content": "What is 1+1?"}}]}}
    url = llm_server.url + "/v1/chat/completions"
    kind = {{"Content-Type": "application/json"}}
    request = urllib.request.Request(url, json.dumps(body).encode(), kind)
    message = json.load(urllib.request.urlopen(request, timeout=120))["choices"][0]["message"]
    assert message["reasoning_content"]
"""

ONE_TEST = """
import pytest
@pytest.mark.llm_server("sglang", model="{model}")
@pytest.mark.llm_workload("chat", {workload})
def test_{name}(llm_perf):
    assert llm_perf.run().success_rate == 1.0
"""
LONG = "input_tokens=48, output_tokens=512, concurrency=4, requests=400"


def report_of(pytester: pytest.Pytester) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return document


def wait_for(what: str, condition: Callable[[], object], seconds: float = 400.0) -> None:
    deadline = clock.Deadline(seconds)
    while not condition():
        assert not deadline.passed, f"waited {seconds:.0f} s for {what}"
        clock.sleep(0.1)


def servers_below(pid: int) -> list[psutil.Process]:
    """Servers (the first process of each) among the descendants of a process."""
    found = []
    for child in psutil.Process(pid).children(recursive=True):
        try:
            command = child.cmdline()
        except psutil.Error:
            continue
        if "sglang.launch_server" in command and "keeper.py" not in " ".join(command):
            found.append(child)
    return found


def test_tiny_r1_is_served_measured_judged_and_reported(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_r1=TINY_R1)
    result = pytester.runpytest_subprocess("--llmperf-report=r.json", "--junitxml=j.xml")
    result.assert_outcomes(passed=12, xfailed=1)
    assert result.ret == 0
    report = report_of(pytester)
    assert report["verdict"] == "pass"
    assert report["simulated"] is False
    assert report["counts"]["launches"] == 1
    assert report["servers"][0]["version"]
    assert {gate["verdict"] for gate in report["gates"]} <= {"pass", "inconclusive", "fail"}
    assert "llmperf.output_throughput" in (pytester.path / "j.xml").read_text()
    # Thinking and answer are told apart, by the server's own count.
    chat = next(m for m in report["measurements"] if m["test"].endswith("test_chat"))
    assert all(0 < run["tokens"]["reasoning_mean"] < 24 for run in chat["runs"])
    assert servers_below(os.getpid()) == []


def test_under_xdist_one_server_is_alive_at_any_moment(pytester: pytest.Pytester) -> None:
    qwen = ONE_TEST.format(model="tiny-r1-distill-qwen", workload=SHORT, name="qwen")
    llama = ONE_TEST.format(model="tiny-r1-distill-llama", workload=SHORT, name="llama")
    pytester.makepyfile(test_qwen=qwen, test_llama=llama)
    command = [sys.executable, "-m", "pytest", "-n2", "--llmperf-report=r.json"]
    counts: set[int] = set()
    with (pytester.path / "out").open("w") as out:
        process = subprocess.Popen(command, cwd=pytester.path, stdout=out, stderr=out)
        watching = threading.Thread(target=lambda: counts.update(watch(process)))
        watching.start()
        status = process.wait(timeout=900)
        watching.join()
    assert status == 0, (pytester.path / "out").read_text()
    assert counts == {0, 1}
    report = report_of(pytester)
    assert report["counts"]["launches"] == 2
    assert {test["outcome"] for test in report["tests"]} == {"passed"}


def watch(process: subprocess.Popen[bytes]) -> Iterator[int]:
    """How many servers are alive below a process, again and again until it ends."""
    while process.poll() is None:
        try:
            yield len(servers_below(process.pid))
        except psutil.Error:
            return
        clock.sleep(0.1)


def test_kill_9_of_pytest_while_measuring_leaves_nothing(pytester: pytest.Pytester) -> None:
    process, _ = begin_long_run(pytester)
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.wait()
    gone_or_zombie = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    wait_for(
        "the server's processes to end",
        lambda: all(not p.is_running() or p.status() in gone_or_zombie for p in family),
        120,
    )


def test_ctrl_c_while_the_server_starts_leaves_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=ONE_TEST.format(model="tiny-r1", workload=SHORT, name="it"))
    process = subprocess.Popen(
        [sys.executable, "-m", "pytest", "--llmperf-report=r.json"],
        cwd=pytester.path,
        stdout=subprocess.PIPE,
    )
    wait_for("the server to be started", lambda: servers_below(process.pid))
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == pytest.ExitCode.INTERRUPTED
    assert process.stdout is not None
    process.stdout.close()
    assert not any(child.is_running() for child in family)
    assert report_of(pytester)["complete"] is False


def test_a_server_killed_while_measuring_is_broken_and_explained(
    pytester: pytest.Pytester,
) -> None:
    process, log = begin_long_run(pytester)
    servers_below(process.pid)[0].send_signal(signal.SIGKILL)
    assert process.wait(timeout=300) == 11, log.read_text()
    said = log.read_text()
    assert "SIGKILL" in said
    assert "whole log:" in said
    assert report_of(pytester)["tests"][0]["outcome"] == "broken"


def begin_long_run(pytester: pytest.Pytester) -> tuple[subprocess.Popen[bytes], Path]:
    """A pytest session in the middle of measuring a workload of many minutes."""
    pytester.makepyfile(test_long=ONE_TEST.format(model="tiny-r1", workload=LONG, name="long"))
    log = pytester.path / "out"
    command = [sys.executable, "-m", "pytest", "-x", "--llmperf-report=r.json"]
    command += [f"--llmperf-log-dir={pytester.path / 'logs'}"]
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=pytester.path, stdout=out, stderr=out)

    def measuring() -> bool:
        assert process.poll() is None, log.read_text()
        logs = list((pytester.path / "logs").glob("*.log"))
        # SGLang logs its batches: several of them mean that the load is on.
        return any(path.read_text(errors="replace").count("Decode batch") > 3 for path in logs)

    wait_for("the load", measuring)
    return process, log
