"""The example of a fleet does what its README says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from patience import PATIENT
from pytest_llmperf.report.validate import validate_report

EXAMPLE = Path(__file__).parents[2] / "examples" / "fleet"
pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    shutil.copytree(EXAMPLE, tmp_path / "fleet", ignore=shutil.ignore_patterns("out", "perf"))
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, module in {"pytest": "pytest", "pytest-llmperf": "pytest_llmperf.cli"}.items():
        (programs / name).write_text(f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n')
        (programs / name).chmod(0o755)
    return tmp_path / "fleet"


def night(fleet: Path, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{fleet.parent / 'bin'}:{os.environ['PATH']}",
        "PYTEST_ADDOPTS": f"{PATIENT} --llmperf-runs=1 --llmperf-no-progress -p no:cacheprovider",
    }
    command = [str(fleet / "night.sh"), *args]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=500
    )


def report(fleet: Path) -> dict[str, Any]:
    path = fleet / "out" / "fleet.json"
    assert validate_report(path) == []
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_night_ends_in_one_report_and_one_verdict(fleet: Path) -> None:
    done = night(fleet)
    assert done.returncode == 0, done.stdout + done.stderr
    found = report(fleet)
    assert (found["verdict"], found["problems"], found["merged"]["notes"]) == ("pass", [], [])
    outcomes = {test["test"].partition("::")[2]: test["outcome"] for test in found["tests"]}
    (newer, older) = sorted(name for name in outcomes if name.startswith("test_everywhere"))
    assert newer.endswith("(product newer)")
    assert older.endswith("(product older)")
    assert sorted(outcomes.values()) == ["passed", "passed", "passed", "skipped"]
    assert found["merged"]["share"] == pytest.approx(1)
    assert (fleet / "out" / "fleet.html").stat().st_size > 0
    assert len(list((fleet / "perf").rglob("*.json"))) == 3


def test_a_gate_that_every_kind_left_out_makes_the_night_red(fleet: Path) -> None:
    done = night(fleet, "-k", "everywhere")
    assert done.returncode == 11
    assert "test_on_the_newer_kind: nobody judged its gate on mean TPOT" in done.stdout
    assert report(fleet)["verdict"] == "inconclusive"


def of_last_night(fleet: Path) -> list[Path]:
    (fleet / "out").mkdir()
    kept = [fleet / "out" / f"fleet.{kind}" for kind in ("json", "html")]
    for path in kept:
        path.write_text("of last night")
    return kept


def test_a_night_without_a_report_is_red_and_not_the_last_one(fleet: Path) -> None:
    old = of_last_night(fleet)
    done = night(fleet, "--no-such-option")
    assert done.returncode == 11
    assert done.stderr.endswith("no session left a report, so there is no verdict\n")
    assert not any(path.exists() for path in old)


def test_reports_that_cannot_be_merged_end_as_merge_says_and_make_no_page(fleet: Path) -> None:
    old = of_last_night(fleet)
    (fleet.parent / "bin" / "pytest").write_text(
        '#!/bin/sh\nwhile [ "$1" != --llmperf-report ]; do shift; done\necho "{}" > "$2"\n'
    )
    done = night(fleet)
    assert done.returncode == 1
    assert done.stderr.startswith("pytest-llmperf: ")
    assert not any(path.exists() for path in old)
