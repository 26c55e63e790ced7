"""A long session: does what pytest's process holds stay bounded, and is every gate in the report?

Tests of four gates each, one after another on one simulated server, every one with a workload of
its own and so measured by itself. Prints JSON: memory, open files, threads and children of
pytest's process over the tenths of the session, what a test adds to its memory beside what the
report keeps of it, and what the report lacks.

    python -m benchmarks.long_suite --tests 500            # 2,000 gates
    python -m benchmarks.long_suite --minutes 30           # as many tests as fit, about
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TENTHS = 10
GATES = 4
#: A test's own time, for --minutes: launches aside, what one took on two cores (AMD EPYC).
SECONDS_PER_TEST = 1.0
SUITE = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sim", model="m", args="--ttft-ms 4 --itl-ms 2"),
    pytest.mark.llm_floor(output_throughput="1 tok/s", throughput_per_user="1 tok/s"),
    pytest.mark.llm_ceiling(ttft_p50="100 s", e2e_mean="100 s"),
]


@pytest.mark.parametrize("seed", range({tests}))
@pytest.mark.llm_workload(
    "chat", input_tokens=8, output_tokens=16, requests=20, concurrency=4, warmup_requests=1
)
def test_one_of_many(llm_perf, seed):
    assert llm_perf.run().success_rate == 1.0
"""
#: Runs in pytest's process and looks at it behind each test.
WATCH = """
import json
import os
from pathlib import Path

import psutil
import pytest

ME = psutil.Process()


@pytest.hookimpl(trylast=True)
def pytest_runtest_logfinish(nodeid):
    memory = ME.memory_full_info()
    with Path("watched.jsonl").open("a") as file:
        file.write(json.dumps({
            "uss": memory.uss,
            "files": ME.num_fds(),
            "threads": ME.num_threads(),
            "children": len(ME.children()),
        }) + "\\n")
"""


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tests", type=int, default=500)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--timeout", type=float, default=7200.0, help="seconds, at most")
    asked = parser.parse_args(argv)
    tests = asked.tests if asked.minutes is None else int(60 * asked.minutes / SECONDS_PER_TEST)
    with tempfile.TemporaryDirectory() as scratch:
        print(json.dumps(_session(Path(scratch), tests, asked.timeout), indent=1))
    return 0


def _session(where: Path, tests: int, timeout_s: float) -> dict[str, Any]:
    (where / "test_many.py").write_text(SUITE.format(tests=tests))
    (where / "conftest.py").write_text(WATCH)
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--llmperf-runs=1",
            "--llmperf-no-progress", "--llmperf-report=r.json",
        ],
        cwd=where,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )  # fmt: skip
    watched = [json.loads(line) for line in (where / "watched.jsonl").read_text().splitlines()]
    report = json.loads((where / "r.json").read_text())
    return {
        "exit_status": done.returncode,
        "tests": tests,
        "gates_missing": tests * GATES - len(report["gates"]),
        "gates": report["counts"]["gates"],
        "runs_invalid": report["counts"]["invalid_runs"],
        "launches": report["counts"]["launches"],
        "report_bytes_per_test": (where / "r.json").stat().st_size // tests,
        "uss_bytes_per_test": _slope([each["uss"] for each in watched]),
        "tenths": _tenths(watched),
    }


def _tenths(watched: Sequence[dict[str, int]]) -> dict[str, list[float]]:
    """The median of each figure over each tenth of the session."""
    size = max(1, len(watched) // TENTHS)
    parts = [watched[at : at + size] for at in range(0, size * TENTHS, size)]
    return {
        name: [statistics.median(each[name] for each in part) for part in parts if part]
        for name in watched[0]
    }


def _slope(values: Sequence[int]) -> float | None:
    """What a test adds, behind the first tenth, in which modules load and pools fill: the median
    over pairs that are half of the rest apart (Theil and Sen's, thinned)."""
    settled = values[len(values) // TENTHS :]
    apart = len(settled) // 2
    if not apart:
        return None
    return statistics.median(
        (later - sooner) / apart for sooner, later in zip(settled, settled[apart:], strict=False)
    )


if __name__ == "__main__":
    sys.exit(main())
