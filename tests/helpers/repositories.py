"""Git as it is on any machine: without what its user has set, nor what a hook of git's sets for
those that it runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def git(*words: str, at: Path) -> str:
    """What git says in a directory; the test is skipped where there is no git."""
    program = shutil.which("git")
    if program is None:
        pytest.skip("needs git")
    done = subprocess.run(
        [program, *words],
        cwd=at,
        env=git_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.strip()


def git_environment() -> dict[str, str]:
    names = (f"GIT_{who}_{what}" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL"))
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        **dict.fromkeys(names, "toy@invalid"),
        **dict.fromkeys(("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"), os.devnull),
    }
