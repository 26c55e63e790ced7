"""A session that is killed keeps every launch that it had measured."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import clock
from pytest_llmperf.records import Observation
from pytest_llmperf.store import open_store

# Before pytester takes note of the modules that it will forget again: it loads only once.
pytest.importorskip("sqlalchemy.dialects.sqlite")

SERVER, SLOWER = "--ttft-ms 5 --itl-ms 2", "--ttft-ms 5 --itl-ms 3"
TEST = f"""
import pytest
pytestmark = [
    pytest.mark.llm_server("sim", model="m", args="{SERVER}"),
    pytest.mark.llm_no_regression(tpot_mean="20%"),
]
LOAD = {{"input_tokens": 8, "output_tokens": 32, "requests": 16}}
@pytest.mark.llm_workload("chat", concurrency=4, **LOAD)
def test_a(llm_perf): llm_perf.run()
@pytest.mark.llm_workload("chat", concurrency=2, **LOAD)
def test_b(llm_perf): llm_perf.run()
"""
OPTIONS = (
    "-q",
    "--llmperf-runs=1",
    "--llmperf-no-progress",
    "--llmperf-quality=off",
    "--llmperf-report=r.json",
    f"--llmperf-reference-args={SLOWER}",
)
LONG_S = 90.0


def remembered(where: str, directory: Path) -> list[Observation]:
    store = open_store(where, directory)
    try:
        return store.observations()
    finally:
        store.close()


def killed_after(launches: int, where: str, directory: Path) -> int:
    """Kill a session, with all that it has started for its own use, once so many launches are in
    the store; its status."""
    command = [sys.executable, "-m", "pytest", *OPTIONS, f"--llmperf-store={where}"]
    with subprocess.Popen(command, cwd=directory, stdout=subprocess.DEVNULL) as child:
        deadline = clock.Deadline(LONG_S)
        while sum(len(one.launches) for one in remembered(where, directory)) < launches:
            assert child.poll() is None, "it ended before it could be killed"
            assert not deadline.passed
            clock.sleep(0.05)
        os.kill(child.pid, signal.SIGKILL)
        return child.wait()


@pytest.mark.parametrize("where", ["perf", "sqlite:///perf.db"])
def test_launches_that_were_measured_survive_a_kill(pytester: pytest.Pytester, where: str) -> None:
    # Nothing is decided for long, so that there is something to kill.
    pytester.makepyfile(test_it=TEST.replace("20%", "0.1%"))
    assert killed_after(4, where, pytester.path) == -signal.SIGKILL
    found = remembered(where, pytester.path)
    # What the other test would have been judged by goes with the session: it had not begun.
    assert {one.test for one in found} == {"test_it.py::test_a"}
    for one in found:
        assert one.launches
        assert one.part_of is one.verdict is None
        assert not one.judged
        assert not one.gates
        assert all(launch.metrics["tpot_mean"] > 0 for launch in one.launches)
        ids = [launch.launch_id for launch in one.launches]
        assert len(set(ids)) == len(ids)

    pytester.makepyfile(test_it=TEST)
    # The next session is one more, and what was kept launch by launch is there once.
    report = session(pytester, where)
    after = remembered(where, pytester.path)
    assert len(after) == len(found) + 2
    assert [one for one in after if one in found] == found
    for gate in report["gates"]:
        (whole,) = (each for each in after if each not in found and each.test == gate["test"])
        runs = next(one for one in report["measurements"] if one["id"] == gate["measurement"])
        launched = [run["launch_id"] for run in runs["runs"] if run["valid"]]
        assert [launch.launch_id for launch in whole.launches] == launched
        assert whole.verdict == gate["verdict"]


def test_a_test_that_never_ran_leaves_nothing(pytester: pytest.Pytester) -> None:
    skipped = '@pytest.mark.skip\n@pytest.mark.llm_workload("chat", concurrency=2'
    changed = TEST.replace('@pytest.mark.llm_workload("chat", concurrency=2', skipped)
    assert changed != TEST
    pytester.makepyfile(test_it=changed)
    session(pytester, "perf")
    assert {one.test for one in remembered("perf", pytester.path)} == {"test_it.py::test_a"}


def test_what_ends_by_itself_leaves_one_file_for_each_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST)
    session(pytester, "perf")
    assert len(list((pytester.path / "perf").rglob("*.json"))) == 2


def session(pytester: pytest.Pytester, where: str) -> dict[str, Any]:
    result = pytester.runpytest(*OPTIONS, f"--llmperf-store={where}")
    assert result.ret == 0
    found: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return found
