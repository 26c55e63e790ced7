"""What git knows about the person and the checkout."""

from __future__ import annotations

import shutil
import subprocess

from pytest_llmperf.errors import LlmPerfError

_TIMEOUT_S = 5.0


def author() -> str | None:
    """ "Name <address>" as git is configured here, or what there is of it."""
    name, address = _ask("config", "user.name"), _ask("config", "user.email")
    if name and address:
        return f"{name} <{address}>"
    return name or address


def author_or(given: str | None) -> str:
    """Who is named for what is written: who was given, or else whom git knows.

    Raises :class:`~pytest_llmperf.errors.LlmPerfError` where there is nobody to name.
    """
    found = given or author()
    if found is None:
        raise LlmPerfError(
            "nobody to name: git knows no user.name and no user.email here. Give --author."
        )
    return found


def commit() -> str | None:
    """The commit that is checked out in the current directory; ``None`` outside of a checkout."""
    return _ask("rev-parse", "HEAD")


def directory() -> str | None:
    """Where git keeps what is its own, the same for each commit; ``None`` outside a checkout."""
    return _ask("rev-parse", "--absolute-git-dir")


def _ask(*args: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(
            [git, *args], capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
