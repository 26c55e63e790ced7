"""The examples for Slurm, run from their files."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from tests.schedulers.conftest import Place

pytestmark = pytest.mark.timeout(600)
SLURM = Path(__file__).parents[2] / "examples" / "schedulers" / "slurm"
BASH = shutil.which("bash") or "bash"
SCRIPTS = sorted(SLURM.iterdir())


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_bash(script: Path) -> None:
    done = subprocess.run([BASH, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_session_on_one_node(place: Place) -> None:
    done = place.run(["sbatch", "--wait", str(SLURM / "one-node.sbatch")])
    assert done.returncode == 0, (place.root / "job-1.log").read_text()
    report = place.report("out/1.json")
    assert [gate["reason_code"] for gate in report["gates"]] == ["learning"]
    assert report["suite"]["shards"] is None
    (asked,) = place.asked("sbatch")
    assert asked["options"]["--gpus-per-node"] == "1"


def test_the_exit_code_of_a_job_is_that_of_pytest(place: Place) -> None:
    test = place.root / "tests" / "perf" / "test_r1.py"
    slow = '@pytest.mark.llm_floor(output_throughput="1000000000 tok/s")\ndef test_one_device'
    test.write_text(test.read_text().replace("def test_one_device", slow))
    assert place.run(["sbatch", "--wait", str(SLURM / "one-node.sbatch")]).returncode == 10


def test_a_server_over_two_nodes(place: Place) -> None:
    done = place.run(["sbatch", "--wait", str(SLURM / "two-nodes.sbatch")])
    assert done.returncode == 0, (place.root / "job-1.log").read_text()
    report = place.report("out/1.json")
    match = report["environment"]["fingerprint"]["match"]
    assert (match["parallel_tp"], match["parallel_nodes"]) == (16, 2)
    (asked,) = place.asked("sbatch")
    assert (asked["options"]["--nodes"], asked["options"]["--gpus-per-node"]) == ("2", "8")
    (step,) = place.asked("srun")
    assert step["options"] == {
        "--overlap": "", "--nodes": "1", "--ntasks": "1", "--nodelist": "node-b",
        "--gpus-per-node": "8",
    }  # fmt: skip
    at = step["command"].index("--node-rank")
    assert step["command"][at + 1] == "1"
    assert not psutil.pid_exists(step["pid"])  # the step ended with its server


def test_a_fleet_gets_one_verdict(place: Place) -> None:
    done = place.run([str(SLURM / "fleet.sh"), "h100", "mi300x"], PRETEND="yes")
    assert done.returncode == 0, done.stdout + done.stderr
    report = place.report("out/fleet.json")
    assert len(report["tests"]) == 2
    assert report["environment"]["fingerprint"]["match"]["product"] == "h100; mi300x"
    assert report["merged"]["share"] <= 1
    assert report["merged"]["notes"] == []


def test_a_fleet_of_one_kind_is_no_fleet(place: Place) -> None:
    done = place.run([str(SLURM / "fleet.sh"), "one", "other"])
    # Both partitions are this machine here, and one report holds no test twice.
    log = (place.root / "job-3.log").read_text()
    assert done.returncode == 1
    assert "was measured by 2 sessions on the same environment" in log
    assert [place.report(f"out/{name}.json")["suite"]["shard"] for name in ("one", "other")] == [
        1,
        2,
    ]
    first, second, last = (each["options"] for each in place.asked("sbatch"))
    assert (first["--partition"], second["--partition"]) == ("one", "other")
    assert last["--dependency"] == "afterany:1:2"


def test_a_shard_that_left_no_report_is_missed(place: Place) -> None:
    broken = place.root / "bin" / "pytest"
    working = broken.read_text()
    broken.write_text(working.replace("#!/bin/sh", '#!/bin/sh\n[ "$NAME" = other ] && exit 1'))
    done = place.run([str(SLURM / "fleet.sh"), "one", "other"])
    log = (place.root / "job-3.log").read_text()
    assert "no report: out/other.json" in log
    assert "there is no report of shard 2 of 2" in log
    assert done.returncode == 11


def test_a_fleet_that_left_no_report_is_red_and_not_the_last_one(place: Place) -> None:
    broken = place.root / "bin" / "pytest"
    broken.write_text("#!/bin/sh\nexit 1\n")
    old = place.root / "out" / "fleet.json"
    old.parent.mkdir()
    old.write_text("{}")
    done = place.run([str(SLURM / "fleet.sh"), "one", "other"])
    log = (place.root / "job-3.log").read_text()
    assert done.returncode == 11
    assert log.endswith("no session left a report, so there is no verdict\n")
    assert not old.exists()


def test_a_fleet_of_nothing_is_a_mistake(place: Place) -> None:
    done = place.run([str(SLURM / "fleet.sh")])
    assert (done.returncode, done.stderr) == (2, "usage: fleet.sh PARTITION...\n")
