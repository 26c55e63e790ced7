"""A server that pytest starts on one machine, loaded from another: each in a network of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import netns  # type: ignore[import-not-found] # lies beside this file
import pytest

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SUITE = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sim", model="m", args="--ttft-ms 20 --itl-ms 5"),
    pytest.mark.llm_workload("chat", input_tokens=24, output_tokens=16, concurrency=4,
                             requests=16, request_timeout="2 min"),
]

def test_it_asks(llm_perf):
    assert llm_perf.run().success_rate == 1.0
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Two:
    """A cluster of this machine, where its head is, and another one, which has all its cores."""

    address: str
    here: str
    there: str


@pytest.fixture(scope="module")
def two(_ray: None) -> Iterator[Two]:
    if why := netns.forbidden():
        pytest.skip(why)
    with (
        tempfile.TemporaryDirectory(prefix="llp", dir="/tmp", ignore_cleanup_errors=True) as short,
        netns.Network() as network,
    ):
        cluster = netns.RayNodes(scratch=Path(short))
        cluster.head(network.here)
        other = network.machine()
        cluster.worker(other, cpus=2)
        yield Two(address=cluster.address, here=network.here.address, there=other.address)


def session(directory: Path, two: Two, *args: str) -> tuple[int, str, dict[str, Any]]:
    """An inner session's exit status, what it said and its report."""
    (directory / "test_inner.py").write_text(SUITE)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--llmperf-runs=1",
         "--llmperf-report=report.json", "--llmperf-log-dir=logs", "--llmperf-pin=off",
         f"--llmperf-ray={two.address}", "--llmperf-ray-workers=2", *args],
        cwd=directory, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    report = directory / "report.json"
    told = json.loads(report.read_text()) if report.exists() else {}
    return done.returncode, done.stdout + done.stderr, told


def test_a_server_of_this_machine_is_loaded_from_the_other(two: Two, tmp_path: Path) -> None:
    status, said, report = session(tmp_path, two, f"--llmperf-bind={two.here}")
    assert status == 0, said
    (launch,) = report["servers"][0]["launches"]
    assert launch["url"].startswith(f"http://{two.here}:")
    (run,) = report["measurements"][0]["runs"]
    assert run["requests"]["succeeded"] == 16
    workers = run["client"]["workers"]
    assert len(workers) == 2
    assert all(two.there in worker["node"] for worker in workers)


def test_on_loopback_it_is_refused_before_it_is_started(two: Two, tmp_path: Path) -> None:
    status, said, report = session(tmp_path, two)
    assert status == 1, said
    assert f"({two.there}) cannot reach it" in said
    assert "--llmperf-bind" in said
    assert not [launch for server in report.get("servers", ()) for launch in server["launches"]]
    assert not list(tmp_path.glob("logs/*"))
