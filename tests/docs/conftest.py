"""A shell as a reader has one, for pages whose commands are run."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from patience import PATIENT

#: Commands of ours, and the modules that they are.
COMMANDS = {"pytest": "pytest", "pytest-llmperf": "pytest_llmperf.cli"}
QUICK = "--llmperf-runs 1 --llmperf-quality off --llmperf-no-progress"

Run = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path, str, str], Run]:
    """``reader(place, plugin, options)`` runs commands in a directory, with the text of a plugin
    beside ours and options of pytest's; the simulator stands in there for what a reader has."""

    def prepared(place: Path, plugin: str, options: str) -> Run:
        env = environment(tmp_path_factory.mktemp("tools"), plugin, options)

        def run(command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["/bin/sh", "-c", command],
                cwd=place,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                encoding="utf-8",
                timeout=300,
                check=False,
            )

        return run

    return prepared


def environment(tools: Path, plugin: str, options: str) -> dict[str, str]:
    """As in the reader's own: both commands on the path, and nothing of the pytest around us."""
    for name, module in COMMANDS.items():
        script = tools / name
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {module} "$@"\n')
        script.chmod(0o755)
    (tools / "readers_stand_in.py").write_text(plugin, encoding="utf-8")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "COV_"))}
    ahead = [str(tools), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(ahead),
        "PYTEST_ADDOPTS": f"-p readers_stand_in {QUICK} {PATIENT} {options}",
        "PYTEST_LLMPERF_RUNTIME_DIR": str(tools),
        "PYTHONIOENCODING": "utf-8",
        "COLUMNS": "80",
    }
