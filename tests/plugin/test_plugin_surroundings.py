"""What surrounds a test stays out of what it measures: coverage, xdist, an event loop."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

MARKS = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sim", args="--ttft-ms 10 --itl-ms 1"),
    pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=8),
]
"""


def measurements(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(path.read_text())["measurements"]
    return found


def test_the_client_is_not_measured_for_coverage(pytester: pytest.Pytester) -> None:
    """Even where coverage is told to follow every subprocess."""
    pytester.makepyfile(MARKS + "def test_it(llm_perf):\n    assert llm_perf.run().ttft_p50\n")
    coveragerc = pytester.path / ".coveragerc"
    coveragerc.write_text("[run]\npatch = subprocess\nparallel = true\n")
    result = pytester.runpytest_subprocess(
        "--cov=pytest_llmperf",
        f"--cov-config={coveragerc}",
        "--cov-report=json:cov.json",
        "--llmperf-runs=1",
        "--llmperf-report=report.json",
    )
    result.assert_outcomes(passed=1)
    files = json.loads((pytester.path / "cov.json").read_text())["files"]
    executed = {Path(name).name: each["summary"]["covered_lines"] for name, each in files.items()}
    assert executed["client.py"] > 0, "coverage must have been on in the test's own process"
    assert executed.get("window.py", 0) == 0
    assert executed.get("worker.py", 0) == 0
    assert measurements(pytester.path / "report.json")


@pytest.mark.parametrize("call", ["await llm_perf.arun()", "llm_perf.run()"])
def test_a_running_event_loop_is_left_alone(pytester: pytest.Pytester, call: str) -> None:
    pytester.makepyfile(
        MARKS
        + f"""
import asyncio

def test_it(llm_perf):
    asyncio.run(measure(llm_perf))

async def measure(llm_perf):
    ticks = 0

    async def tick():
        nonlocal ticks
        while True:
            await asyncio.sleep(0.001)
            ticks += 1

    ticking = asyncio.create_task(tick())
    run = {call}
    assert run.success_rate == 1.0
    assert asyncio.get_running_loop().is_running()
    ticking.cancel()
    assert {"ticks" if "await" in call else "not ticks"}
"""
    )
    result = pytester.runpytest_subprocess("--llmperf-runs=1")
    result.assert_outcomes(passed=1)


def test_two_workers_measure_one_after_the_other(pytester: pytest.Pytester) -> None:
    body = "def test_it(llm_perf):\n    assert llm_perf.run().success_rate == 1.0\n"
    pytester.makepyfile(test_a=MARKS + body, test_b=MARKS.replace("10", "11") + body)
    result = pytester.runpytest_subprocess(
        "-n2", "--llmperf-runs=1", "--llmperf-report=report.json"
    )
    result.assert_outcomes(passed=2)
    found = measurements(pytester.path / "report.json")
    assert len(found) == 2
