"""A way to the terminal that pytest's capture does not take."""

from __future__ import annotations

import os
import sys

import pytest

#: A duplicate of the real standard error, taken before pytest captures it; absent if there is none.
TERMINAL = pytest.StashKey[int]()


def keep_terminal(config: pytest.Config) -> None:
    """Taken before capture begins."""
    try:
        config.stash[TERMINAL] = os.dup(sys.stderr.fileno())
    except (AttributeError, OSError, ValueError):
        # No standard error of the system's (a daemon, an IDE, a test of a plugin): stay silent.
        return


def release_terminal(config: pytest.Config) -> None:
    fd = config.stash.get(TERMINAL, None)
    if fd is not None:
        del config.stash[TERMINAL]
        os.close(fd)
