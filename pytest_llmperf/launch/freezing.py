"""Holding a server still: it keeps its memory and its connections, and uses no time."""

from __future__ import annotations

import contextlib
import os
import signal

from pytest_llmperf.errors import ServerError

from .tree import process_ids

_PASSES = 2


def freeze(pid: int) -> None:
    """Stop the processes of a server where they stand; it answers nobody until :func:`thaw`.

    ``pid`` is 0 for a server in a container that cannot be seen into. Raises
    :class:`~pytest_llmperf.errors.ServerError` where its processes are not ours to stop.
    """
    if not pid:
        raise _refused("its processes cannot be seen from here")
    try:
        _send(pid, signal.SIGSTOP)
    except PermissionError as error:
        raise _refused(f"its processes are not this user's: {error}") from error


def _refused(why: str) -> ServerError:
    return ServerError(
        "the server cannot be held still while another one is measured",
        cause=why,
        remedy="measure one launch after the other, without --llmperf-side-by-side",
    )


def thaw(pid: int) -> None:
    """Let the processes of a server go on; nothing where :func:`freeze` could not stop them."""
    if pid:
        with contextlib.suppress(PermissionError):
            _send(pid, signal.SIGCONT)


def _send(pid: int, number: signal.Signals) -> None:
    # What a process starts while we go round is found the second time.
    for _ in range(_PASSES):
        for one in process_ids(pid):
            try:
                os.kill(one, number)
            except ProcessLookupError:
                continue
