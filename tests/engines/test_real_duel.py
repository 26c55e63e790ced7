"""Real SGLang against itself with a loss planted inside its step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1500), pytest.mark.usefixtures("sglang")]

SLOW_STEP = Path(__file__).with_name("slow_step")
# Three times as long a step, so that any machine shows it at the first look.
SUITE = """
import pytest

SLOW = {{"LLMPERF_SLOW_STEP": "33=compute:2.0", "PYTHONPATH": {path!r}}}
pytestmark = [
    pytest.mark.llm_server(
        "sglang", model="tiny-r1-distill-qwen", env=SLOW, reference={{"env": {{}}}}
    ),
    pytest.mark.llm_no_regression(output_throughput="50%"),
]

@pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=33, concurrency=4, requests=32)
def test_slowed(llm_perf):
    assert llm_perf.run().success_rate == 1.0
"""


def test_a_loss_inside_the_step_is_caught_and_named(tmp_path: Path) -> None:
    (tmp_path / "test_planted.py").write_text(SUITE.format(path=str(SLOW_STEP)))
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(tmp_path),
            "--llmperf-runs=1", "--llmperf-pairs=8", "--llmperf-report=r.json", "test_planted.py",
        ],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"},
        capture_output=True,
        text=True,
        timeout=1400,
        check=False,
    )  # fmt: skip
    said = done.stdout + done.stderr
    assert done.returncode == 10, said
    report = json.loads((tmp_path / "r.json").read_text())
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"], gate["mode"]) == ("fail", "loss_shown", "ab")
    assert gate["loss_low"] > 0
    assert gate["loss"] > 0.4, said
    assert "without LLMPERF_SLOW_STEP" in gate["reason"]
    assert "FAILED test_planted.py::test_slowed - " in done.stdout
    # no run of either side is missing: what was launched was measured
    sides = {run["side"] for each in report["measurements"] for run in each["runs"]}
    assert sides == {"candidate", "reference"}
