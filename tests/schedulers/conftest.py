"""A place in which the examples for schedulers run from their own files, on the simulator."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

import ranks_stand_in
from patience import PATIENT
from pytest_llmperf.report.validate import validate_report

EXAMPLES = Path(__file__).parents[2] / "examples" / "schedulers"
PLAYER = Path(__file__).with_name("player.py")
PLUGINS = "-p ranks_stand_in -p machine"
COMMANDS = ("sbatch", "srun", "scontrol", "python3", "ray")
#: A machine of its own for each job of an array.
MACHINE = """
import os


def pytest_llmperf_fingerprint(facts):
    if "PRETEND" in os.environ:
        facts["product"] = os.environ["NAME"]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """``root`` is the directory of a project with the suite in ``tests/perf``; its scheduler's
    commands are stand-ins."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.root,
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            check=False,
            timeout=500,
        )

    def asked(self, name: str) -> list[dict[str, Any]]:
        """What a command was asked, in order."""
        log = self.root / "asked.jsonl"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [each for each in map(json.loads, lines) if each["name"] == name]

    def report(self, path: str | Path, *, simulated: bool = True) -> dict[str, Any]:
        assert validate_report(self.root / path) == []
        document: dict[str, Any] = json.loads((self.root / path).read_text(encoding="utf-8"))
        assert document["simulated"] == simulated
        return document


@pytest.fixture
def place(tmp_path: Path) -> Place:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in COMMANDS:
        log = tmp_path / "asked.jsonl"
        _program(programs / name, f"{sys.executable} {PLAYER} {name} {log}")
    _program(programs / "pytest", f"{sys.executable} -m pytest")
    _program(programs / "pytest-llmperf", f"{sys.executable} -m pytest_llmperf.cli")
    shutil.copytree(EXAMPLES / "tests", tmp_path / "tests" / "perf")
    shutil.copy(ranks_stand_in.__file__, tmp_path)
    (tmp_path / "machine.py").write_text(MACHINE, encoding="utf-8")
    kept = {name: os.environ[name] for name in ("HOME", "XDG_RUNTIME_DIR") if name in os.environ}
    return Place(
        root=tmp_path,
        environment={
            **kept,
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}",
            "PYTEST_ADDOPTS": f"{PLUGINS} {PATIENT} --llmperf-runs=1 --llmperf-no-progress "
            "--llmperf-pin=off",
            "PERF_ENGINE": "sglang",
            "PERF_MODEL": "m",
            "TMPDIR": str(tmp_path),
        },
    )


def _program(path: Path, command: str) -> None:
    path.write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
