"""Several sessions, or workers of one, on one accelerator and on several."""

from __future__ import annotations

import json
import signal
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.faults.conftest import Record, Suite

#: Each test has a server of its own, which writes down when it answered what.
TESTS = """
def logged(name):
    return sim(f"--truth-log {os.getcwd()}/{name}-{os.getpid()}.truth")
"""
ONE = """
@logged("{name}")
@CHAT
@FLOOR
def test_{name}(llm_perf): llm_perf.run()
"""


def spans(directory: Path) -> list[tuple[int, int]]:
    """From the first request to the last answer of each server, on the clock of all."""
    found = []
    for path in directory.glob("*.truth"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found.append(
            (min(line["received_ns"] for line in lines), max(line["ended_ns"] for line in lines))
        )
    return sorted(found)


def apart(found: list[tuple[int, int]]) -> bool:
    return all(one[1] < other[0] for one, other in pairwise(found))


def test_two_sessions_on_one_device_take_turns_and_say_for_whom_they_wait(
    suite: Suite, record: Record
) -> None:
    suite.write(TESTS + "".join(ONE.format(name=name) for name in "ab"))
    first = suite.start(report="first.json")
    second = suite.start(report="second.json")
    outcomes = [first.end(), second.end()]
    for outcome in outcomes:
        assert outcome.status == 0, outcome.said
        assert outcome.whole
    found = spans(suite.path)
    assert len(found) == 4
    assert apart(found)
    record("sharing", "two sessions on one device", "never at the same time", times=4)


def test_workers_on_one_device_take_turns(suite: Suite, record: Record) -> None:
    names = [f"w{number}" for number in range(4)]
    suite.write(TESTS + "".join(ONE.format(name=name) for name in names))
    outcome = suite.run("-n4")
    assert outcome.status == 0, outcome.said
    assert outcome.whole
    found = spans(suite.path)
    assert len(found) == 4
    assert apart(found)
    record("sharing", "-n4 on one device", "never at the same time", times=4)


HOLD = """
@sim()
@CHAT
def test_hold(llm_server):
    open("held", "w").close()
    time.sleep(600)
"""


def test_who_waits_is_told_for_whom_and_gets_the_device_of_one_that_was_killed(
    suite: Suite, record: Record
) -> None:
    suite.write(HOLD)
    holder = suite.start("-k", "test_hold", report="holder.json")
    holder.until((suite.path / "held").exists)
    said = suite.path / "said"
    waiting = suite.start("-k", "test_next", report="waiting.json", progress=said)
    waiting.until(lambda: "waiting for device" in said.read_text())
    line = next(each for each in said.read_text().splitlines() if "waiting for device" in each)
    assert f"held by process {holder.pid}" in line
    assert "test_hold" in line
    record("sharing", "a device that another session holds", "waits, and says who holds it")
    holder.signal(signal.SIGKILL)
    outcome = waiting.end()
    holder.end()
    assert outcome.status == 0, outcome.said
    assert outcome.ended("test_next") == ("passed", "")
    record("sharing", "the session that holds a device is killed", "the next one gets the device")


#: Four devices that are not there, and the simulator by the name of an engine with flags for them.
FOUR_DEVICES = """
from dataclasses import replace
from pytest_llmperf.accelerators.base import alike, visible
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.records import Device
from pytest_llmperf.session import placing
GPUS = [Device(vendor="nvidia", product="Big One", index=i, uuid=f"GPU-{i}") for i in range(4)]
class Spread(Sim):
    def plan(self, request, placement):
        argv = request.args if placement.port == 0 else ()
        plan = super().plan(replace(request, args=()), placement)
        return replace(plan, argv=(*plan.argv, *argv))
def pytest_configure(config):
    placing.detect = lambda wanted=None, env=None: alike(
        visible(GPUS, (env or {}).get("CUDA_VISIBLE_DEVICES")), "test"
    )
def pytest_llmperf_engines():
    return {"sglang": Spread()}
"""
#: Each waits for the other to have its server up, which it would for ever on one device.
MEET = """
@pytest.mark.llm_server("sglang", model="m", args="--tp 2")
@CHAT
@FLOOR
def test_it(llm_server, llm_perf):
    open(f"up-{os.getpid()}", "w").close()
    until = clock.Deadline(60)
    while len([name for name in os.listdir() if name.startswith("up-")]) < 2:
        assert not until.passed
        time.sleep(0.05)
    llm_perf.run()
"""


def test_sessions_on_different_devices_run_at_the_same_time(
    suite: Suite, record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    suite.write(MEET, conftest=FOUR_DEVICES)
    going = [suite.start("-k", "test_it", report=f"{name}.json") for name in "ab"]
    used = []
    for each in going:
        outcome = each.end()
        assert outcome.status == 0, outcome.said
        used += outcome.report["servers"][0]["launches"][0]["devices"]
    assert sorted(used) == ["GPU-0", "GPU-1", "GPU-2", "GPU-3"]
    record("sharing", "two sessions on different devices", "both at the same time", times=2)
