"""The example for Ray Jobs, run from its files."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.schedulers.conftest import Place

pytestmark = pytest.mark.timeout(600)
EXAMPLES = Path(__file__).parents[2] / "examples" / "schedulers"
BASH = shutil.which("bash") or "bash"
SCRIPTS = sorted((EXAMPLES / "ray-jobs").glob("*.sh"))


@pytest.fixture
def submit(place: Place) -> str:
    """A copy of the example, which is the working directory of the job."""
    copy = place.root / "schedulers"
    shutil.copytree(EXAMPLES, copy)
    return str(copy / "ray-jobs" / "submit.sh")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_every_script_is_bash(script: Path) -> None:
    done = subprocess.run([BASH, "-n", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_job_measures_and_its_verdict_is_the_exit_status(place: Place, submit: str) -> None:
    done = place.run([submit], REPORTS=str(place.root / "reports"))
    assert done.returncode == 0, done.stdout + done.stderr
    (asked,) = place.asked("ray")
    id_ = asked["options"]["--submission-id"]
    assert place.report(f"reports/{id_}.json")["merged"] is None
    assert place.report(f"reports/{id_}-verdict.json")["exit_status"] == 0
    assert json.loads(asked["options"]["--runtime-env-json"]) == {"pip": ["pytest-llmperf[sql]"]}
    assert list((place.root / "reports" / "perf").rglob("*.json"))  # the store outlives the copy


def test_a_slower_server_is_10_though_ray_says_1(place: Place, submit: str) -> None:
    test = place.root / "schedulers" / "tests" / "test_r1.py"
    slow = '@pytest.mark.llm_floor(output_throughput="1000000000 tok/s")\ndef test_one_device'
    test.write_text(test.read_text().replace("def test_one_device", slow))
    done = place.run([submit], REPORTS=str(place.root / "reports"))
    assert done.returncode == 10, done.stdout + done.stderr


def test_a_job_that_left_no_report_is_said_to(place: Place, submit: str) -> None:
    (place.root / "bin" / "pytest").write_text("#!/bin/sh\nexit 3\n")
    done = place.run([submit], REPORTS=str(place.root / "reports"))
    assert done.returncode == 1
    assert "the session left no report: ray job logs perf-" in done.stderr
    assert place.run([submit]).returncode == 1
