"""What a keeper is told: the job that :mod:`.keeper` describes."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_llmperf.redact import redact_argv

from . import leftovers

#: Nobody waits for a server whose test run is gone; it gets no time to drain its requests.
_ORPHAN_GRACE_S = 2.0
#: What the server's helpers get for tidying up once the server itself has ended.
REST_GRACE_S = 1.0
KILL_S = 30.0


def job(
    argv: Sequence[str],
    env: Mapping[str, str],
    *,
    launch_id: str,
    log_path: Path,
    grace_s: float,
    held_fds: Sequence[int],
    port: int = 0,
    end: Sequence[str] = (),
) -> dict[str, object]:
    """``end`` is a command that ends what does not end with the process of ``argv``; ``grace_s``
    is what that gets to end by itself."""
    return {
        "argv": argv,
        "env": env,
        "log": str(log_path.absolute()),
        "parent": os.getpid(),
        "grace_s": grace_s,
        "orphan_grace_s": _ORPHAN_GRACE_S,
        "rest_grace_s": REST_GRACE_S,
        "kill_s": KILL_S,
        "end": end,
        "end_s": leftovers.END_S,
        "launch": launch_id,
        "run_file": str(leftovers.run_file(launch_id)),
        "note": {
            "place": leftovers.this_place(),
            "argv": redact_argv(argv),
            "port": port,
            "end": end,
        },
        "held_fds": list(held_fds),
    }


def seconds_to_end(*, end: Sequence[str] = ()) -> float:
    """The most that a keeper takes to end everything, beyond the grace."""
    return REST_GRACE_S + KILL_S + (leftovers.END_S if end else 0.0)
