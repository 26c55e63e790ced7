"""Holding a server still: it keeps its memory and its connections, and uses no time."""

from __future__ import annotations

import os
import signal

from .tree import process_ids

_PASSES = 2


def freeze(pid: int) -> None:
    """Stop the processes of a server where they stand; it answers nobody until :func:`thaw`."""
    _send(pid, signal.SIGSTOP)


def thaw(pid: int) -> None:
    """Let the processes of a server go on."""
    _send(pid, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    # What a process starts while we go round is found the second time.
    for _ in range(_PASSES):
        for one in process_ids(pid):
            try:
                os.kill(one, number)
            except ProcessLookupError:
                continue
