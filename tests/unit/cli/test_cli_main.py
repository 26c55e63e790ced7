"""What all commands have in common."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Command = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    "command", ["doctor", "validate", "models", "compare", "trend", "baseline", "bisect"]
)
def test_every_command_has_an_example(command: str, status_of: Command) -> None:
    status, out, _ = status_of(command, "--help")
    assert status == 0
    assert f"pytest-llmperf {command}" in out.partition("\nexample:\n")[2]


def test_a_report_that_is_not_there(tmp_path: Path, status_of: Command) -> None:
    status, _, err = status_of("validate", str(tmp_path / "none.json"))
    assert status == 1
    assert "none.json cannot be read: No such file" in err


def test_a_reader_that_has_seen_enough_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest_llmperf.cli", "models", str(tmp_path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 1
