"""What befalls a session: signals, a clock that is set, too few descriptors, a lost device."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf import clock
from pytest_llmperf.store import open_store

if TYPE_CHECKING:
    from tests.faults.conftest import Going, Outcome, Record, Suite

#: A test that is over, one that goes on until it is ended, and a mark for either.
LONG = """
@sim()
@CHAT
@FLOOR
def test_before(llm_perf): llm_perf.run()

@sim("--itl-ms 3", env={"SLOW_TO_END": "1"})
@pytest.mark.llm_workload("chat", **{**LOAD, "requests": 100000, "warmup_requests": 1})
@FLOOR
def test_long(llm_server, llm_perf):
    threading.Timer(1.0, lambda: open("measuring", "w").close()).start()
    llm_perf.run()
"""
#: The simulator takes its time to end, so that a signal can come meanwhile.
SLOW_TO_END = """
from dataclasses import replace
from pytest_llmperf.engines import sim
plan_of = sim.Sim.plan
def plan(self, request, placement):
    found = plan_of(self, request, placement)
    if ("SLOW_TO_END", "1") not in found.env:
        return found
    code = ("import signal, subprocess, sys; signal.signal(signal.SIGTERM, lambda *_: "
            "open('ending', 'w').close()); subprocess.run(sys.argv[1:])")
    argv = (placement.python, "-c", code, *found.argv)
    return replace(found, argv=argv, stop_grace_s=60.0)
sim.Sim.plan = plan
"""


def begun(suite: Suite, conftest: str = "") -> Going:
    suite.write(LONG, conftest=conftest)
    going = suite.start("--llmperf-store=perf")
    going.until((suite.path / "measuring").exists)
    return going


def interrupted(suite: Suite, outcome: Outcome) -> None:
    """Nothing of what was measured is lost, nothing runs on, and the next session is as any."""
    assert outcome.left == [], outcome.said
    assert outcome.report["complete"] is False
    assert outcome.ended("test_before") == ("passed", "")
    assert remembered(suite.path / "perf") == {"test_it.py::test_before"}
    again = suite.run("-k", "test_before or test_next")
    assert again.status == 0, again.said
    assert again.whole


def remembered(where: Path) -> set[str]:
    store = open_store(str(where), where)
    try:
        return {one.test for one in store.observations()}
    finally:
        store.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_session_in_order(
    suite: Suite, record: Record, number: signal.Signals
) -> None:
    going = begun(suite)
    going.signal(number)
    outcome = going.end()
    assert outcome.status == pytest.ExitCode.INTERRUPTED, outcome.said
    interrupted(suite, outcome)
    record(
        "machine", f"{number.name} while a server is measured", "interrupted; the report is there"
    )


def test_a_second_interrupt_hurries_the_end_and_loses_nothing(suite: Suite, record: Record) -> None:
    going = begun(suite, SLOW_TO_END)
    going.signal(signal.SIGINT)
    going.until((suite.path / "ending").exists)
    going.signal(signal.SIGINT)
    outcome = going.end()
    assert outcome.status != 0, outcome.said
    interrupted(suite, outcome)
    record("machine", "SIGINT twice, the second while servers end", "the same, without grace")


def test_a_kill_leaves_nothing_and_loses_no_finished_test(suite: Suite, record: Record) -> None:
    going = begun(suite)
    going.signal(signal.SIGKILL)
    outcome = going.end()
    assert outcome.status == -signal.SIGKILL
    assert outcome.left == []
    assert outcome.report == {}
    assert remembered(suite.path / "perf") == {"test_it.py::test_before"}
    suite.write(LONG.replace("100000", "8"))
    again = suite.run("--llmperf-store=perf")
    assert again.status == 0, again.said
    assert again.whole
    record("machine", "SIGKILL while a server is measured", "nothing runs on; see the series below")


# --- the wall clock --------------------------------------------------------------------------

#: Takes an hour off the wall clock of a process once the file CLOCK_SET_BACK names is there.
SHIM = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int done = real(id, now);
    const char *flag = getenv("CLOCK_SET_BACK");
    if (id == CLOCK_REALTIME && flag && access(flag, F_OK) == 0) now->tv_sec -= 3600;
    return done;
}
"""
SET_BACK = """
@sim()
@pytest.mark.llm_workload("chat", **{**LOAD, "requests": 200})
@FLOOR
def test_it(llm_perf):
    def back(): open(os.environ["CLOCK_SET_BACK"], "w").close()
    threading.Timer(1.0, back).start()
    before = time.time()  # noqa
    llm_perf.run()
    time.sleep(1.0)
    assert time.time() < before - 3000  # noqa

"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler")
def test_a_wall_clock_that_is_set_back_changes_no_order_and_no_duration(
    suite: Suite, record: Record, tmp_path: Path
) -> None:
    (tmp_path / "shim.c").write_text(SHIM)
    command = ["cc", "-shared", "-fPIC", "-o", "shim.so", "shim.c", "-ldl"]
    subprocess.run(command, cwd=tmp_path, check=True)
    suite.write(SET_BACK)
    env = {"LD_PRELOAD": str(tmp_path / "shim.so"), "CLOCK_SET_BACK": str(tmp_path / "back")}
    outcome = suite.run("--llmperf-store=perf", env=env)
    assert outcome.status == 0, outcome.said
    report = outcome.report
    first, second = (run for each in report["measurements"] for run in each["runs"])
    starts = [launch["started_at"] for server in report["servers"] for launch in server["launches"]]
    stamps = [starts[0], first["started_at"], starts[1], second["started_at"], report["created"]]
    moments = [datetime.fromisoformat(stamp) for stamp in stamps]
    assert moments == sorted(moments)
    assert (moments[-1] - moments[0]).total_seconds() < 600
    assert all(0 < run["duration_s"] < 600 for run in (first, second))
    store = open_store(str(tmp_path / "perf"), tmp_path)
    assert [one.test for one in store.observations()] == [
        "test_it.py::test_it",
        "test_it.py::test_next",
    ]
    store.close()
    record("machine", "wall clock set back by an hour during a run", "order and durations hold")


# --- descriptors -----------------------------------------------------------------------------

PLAIN = """
@sim()
@CHAT
@FLOOR
def test_it(llm_perf): llm_perf.run()
"""


def few(files: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))


def test_too_few_descriptors_are_told(suite: Suite, record: Record) -> None:
    """Whichever step is the first that lacks one: each is an error that says so."""
    suite.write(PLAIN)
    told = 0
    for files in (18, 22, 26):
        outcome = suite.run(before=few(files))
        if outcome.status == 0:
            continue  # that many do
        assert outcome.report or "Too many open files" in outcome.said, outcome.said
        for test in outcome.report.get("tests", []):
            if test["outcome"] == "passed":
                continue
            assert test["outcome"] == "broken", test["message"]
            assert "Too many open files" in test["message"], test["message"]
            assert "ulimit -n" in test["message"], test["message"]
            told += 1
    assert told
    record("machine", "out of file descriptors", "error: says so, and `ulimit -n`", times=told)


#: A test that takes all descriptors but a few, and gives them back.
EATEN = """
import resource
@sim()
@CHAT
@FLOOR
def test_eaten(llm_server, llm_perf):
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 256))
    held = []
    try:
        while True: held.append(os.open(os.devnull, os.O_RDONLY))
    except OSError: pass
    for each in held[:2]: os.close(each)
    try: llm_perf.run()
    finally:
        for each in held[2:]: os.close(each)
"""


def test_descriptors_that_run_out_in_a_test_harm_only_that(suite: Suite, record: Record) -> None:
    suite.write(EATEN)
    outcome = suite.run()
    assert outcome.whole, outcome.said
    kind, message = outcome.ended("test_eaten")
    assert kind == "broken", message
    assert "Too many open files" in message
    assert "ulimit -n" in message
    assert outcome.ended("test_next") == ("passed", "")
    record("machine", "out of file descriptors in a test", "error: says so; the next test has them")


# --- the device ------------------------------------------------------------------------------

#: A binding to NVML with one device, which is lost when the file ``lost`` is there.
NVML = """
import os, pathlib
LOST = pathlib.Path(__file__).with_name("lost")
FOREIGN = pathlib.Path(__file__).with_name("foreign")
class NVMLError(Exception): pass
NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU, NVML_SUCCESS = 1, 2, 0, 0
class _Memory:
    total, used = 8 * 2**30, 2**30
class _Process:
    def __init__(self, pid): self.pid = pid
def nvmlInit(): pass
def nvmlShutdown(): pass
def _ask(value):
    if LOST.exists(): raise NVMLError("GPU is lost")
    return value
def nvmlSystemGetDriverVersion(): return _ask("570.0")
def nvmlDeviceGetCount(): return _ask(1)
def nvmlDeviceGetHandleByIndex(index): return _ask("handle")
def nvmlDeviceGetHandleByUUID(uuid): return _ask("handle")
def nvmlDeviceGetUUID(handle): return _ask("GPU-made-up")
def nvmlDeviceGetName(handle): return _ask("NVIDIA Made Up")
def nvmlDeviceGetMemoryInfo(handle): return _ask(_Memory)
def nvmlDeviceGetPowerUsage(handle): return _ask(250000)
def nvmlDeviceGetFieldValues(handle, fields): raise NVMLError("Not Supported")
def nvmlDeviceGetClockInfo(handle, kind): return _ask(1980)
def nvmlDeviceGetTemperature(handle, kind): return _ask(50)
def nvmlDeviceGetComputeRunningProcesses(handle):
    own = [int(p) for p in pathlib.Path(FOREIGN).read_text().split()] if FOREIGN.exists() else []
    return _ask([_Process(pid) for pid in own])
def __getattr__(name):
    if name.startswith("nvml"):
        def unknown(*_): raise NVMLError("Not Supported")
        return unknown
    raise AttributeError(name)
"""
DEVICE = """
ENERGY = pytest.mark.llm_ceiling(joules_per_output_token="100000 J/tok")
LOAD3 = pytest.mark.llm_workload("chat", **{**LOAD, "requests": 2000})
@sim()
@LOAD3
@ENERGY
@FLOOR
def test_lost(llm_perf):
    threading.Timer(1.5, lambda: open("lost", "w").close()).start()
    try: llm_perf.run()
    finally: os.unlink("lost")
"""
SHARED = """
import psutil
# Devices are asked once a second.
@sim()
@pytest.mark.llm_workload("chat", **{**LOAD, "requests": 500})
@FLOOR
def test_shared(llm_server, llm_perf):
    port = llm_server.url.rpartition(":")[2]
    (server,) = (p for p in psutil.Process().children(recursive=True) if port in p.cmdline())
    with open("foreign", "w") as file: file.write(f"{server.pid} 1")
    try: llm_perf.run()
    finally: os.unlink("foreign")
"""


@pytest.fixture
def made_up(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What makes a suite find the device that is not there."""
    (suite.path / "pynvml.py").write_text(NVML)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    paths = [str(suite.path), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def test_a_device_that_is_lost_leaves_holes_that_say_so(
    suite: Suite, record: Record, made_up: dict[str, str]
) -> None:
    suite.write(DEVICE)
    outcome = suite.run(env=made_up)
    assert outcome.whole, outcome.said
    assert outcome.status == 11, outcome.said
    gates = {
        gate["metric"]: gate for gate in outcome.report["gates"] if "test_lost" in gate["test"]
    }
    product = outcome.report["environment"]["accelerators"][0]["product"]
    assert product == "NVIDIA Made Up"
    energy = gates["joules_per_output_token"]
    assert (energy["verdict"], energy["covered"]) == ("inconclusive", False), energy["reason"]
    assert gates["output_throughput"]["verdict"] == "pass"
    assert outcome.ended("test_next") == ("passed", "")
    record("machine", "device lost during a run", "not covered: what the device was to tell")


def test_a_foreign_process_on_the_device_spoils_the_run(
    suite: Suite, record: Record, made_up: dict[str, str]
) -> None:
    suite.write(SHARED)
    outcome = suite.run(env=made_up)
    assert outcome.whole, outcome.said
    gate = outcome.gate("test_shared")
    assert gate["verdict"] == "inconclusive"
    assert "was used by process 1 as well" in json.dumps(outcome.report["measurements"])
    assert outcome.ended("test_next") == ("passed", "")
    record("sharing", "a foreign process on the device", "inconclusive: the run is invalid")


def test_the_clock_of_latencies_is_not_the_one_that_is_set() -> None:
    before = clock.now_ns()
    assert clock.stamp() <= clock.stamp()
    assert clock.now_ns() >= before
