"""Does what surrounds the test change what it measures?

The same workload on the same simulated server (a fixed time to first token), measured by a plain
pytest run, under coverage, by two xdist workers, and inside a running event loop, in turn. Prints
JSON: for each the median and quartiles of the runs' mean TTFT and p99, and its ratio to the plain
one's of the same round.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

PLAIN = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sim", args="--ttft-ms 20 --itl-ms 2"),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=64, concurrency=8, requests=80),
]

def test_it(llm_perf):
    llm_perf.run()
"""
ASYNC = PLAIN.replace(
    "def test_it(llm_perf):\n    llm_perf.run()",
    "def test_it(llm_perf):\n    import asyncio\n    asyncio.run(llm_perf.arun())",
)
#: A second file keeps the other worker busy computing, as a suite's other tests would.
BUSY = """
import pytest

@pytest.mark.parametrize("n", range(20))
def test_busy(n):
    total = 0
    for number in range(2_000_000):
        total += number
"""
SURROUNDINGS: dict[str, tuple[str, tuple[str, ...]]] = {
    "plain": (PLAIN, ()),
    "coverage": (PLAIN, ("--cov=pytest_llmperf", "--cov-report=")),
    "xdist": (PLAIN, ("-n2",)),
    "async": (ASYNC, ()),
}


def measured(kind: str) -> tuple[list[float], list[float]]:
    """Mean and p99 TTFT of each valid run, ms."""
    source, options = SURROUNDINGS[kind]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "test_perf.py").write_text(source)
        if kind == "xdist":
            (folder / "test_busy.py").write_text(BUSY)
        report = folder / "report.json"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += [*options, f"--llmperf-report={report}", "--llmperf-no-progress", str(folder)]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
        if done.returncode:
            raise SystemExit(f"{kind}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
        document = json.loads(report.read_text())
    runs = [run for each in document["measurements"] for run in each["runs"] if run["valid"]]
    return (
        [run["metrics"]["ttft_mean"] for run in runs],
        [run["metrics"]["ttft_p99"] for run in runs],
    )


def spread(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    return {"q1": round(low, 3), "median": round(middle, 3), "q3": round(high, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    means: dict[str, list[float]] = {kind: [] for kind in SURROUNDINGS}
    tails: dict[str, list[float]] = {kind: [] for kind in SURROUNDINGS}
    ratios: dict[str, list[float]] = {kind: [] for kind in SURROUNDINGS}
    for _ in range(rounds):
        for kind in SURROUNDINGS:
            mean, tail = measured(kind)
            means[kind] += mean
            tails[kind] += tail
            plain = statistics.median(means["plain"][-len(mean) :])
            ratios[kind].append(statistics.median(mean) / plain)
    result = {
        kind: {
            "ttft_mean_ms": spread(means[kind]),
            "ttft_p99_ms": spread(tails[kind]),
            "ratio_to_plain": round(statistics.median(ratios[kind]), 4),
        }
        for kind in SURROUNDINGS
    }
    print(json.dumps({"rounds": rounds, "surroundings": result}, indent=2))


if __name__ == "__main__":
    main()
