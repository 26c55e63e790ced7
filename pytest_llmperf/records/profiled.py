"""What an engine's own profiler has left."""

from __future__ import annotations

from dataclasses import dataclass

from .common import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One more pass of a workload under the engine's profiler, for ``test``, whose gate failed.

    ``traces`` are its files, by the way to them from the report's directory where a report is
    written. ``reason`` says in a sentence why there are none; "" where there are. ``server_id`` is
    what was asked for, as in a :class:`LaunchRecord`. The pass took ``seconds``, ``None`` where it
    did not come to its end; ``own_launch`` says that a server was started for it.
    """

    test: str
    server_id: str
    side: Side
    workload: str
    traces: tuple[str, ...] = ()
    reason: str = ""
    seconds: float | None = None
    own_launch: bool = False
