"""The client watches itself: how busy it is, how late its clock runs, how much it holds."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import msgspec

from pytest_llmperf import clock
from pytest_llmperf.load.rank import p99


class WorkerHealth(msgspec.Struct, kw_only=True):
    """One process over its window; see :class:`~pytest_llmperf.records.ClientHealth`. Of one on
    another machine, what brings us its word adds where that is, how its clock stood to ours and
    for how long nothing was heard; see :class:`~pytest_llmperf.records.LoadWorker`."""

    cpu_s: float
    wall_s: float
    lag_ms_p99: float | None
    lag_ms_max: float | None
    peak_rss_bytes: int
    held_back: bool = False
    node: str | None = None
    clock_offset_ms: float | None = None
    clock_drift_ms: float | None = None
    clock_error_ms: float | None = None
    silent_s: float | None = None


class Vitals:
    """Collects one window's figures."""

    def __init__(self) -> None:
        self._lags_ns: list[int] = []

    def start(self) -> None:
        self._cpu_ns = time.process_time_ns()
        self._began_ns = clock.now_ns()

    def late(self, nanoseconds: int) -> None:
        """How late a tick came."""
        self._lags_ns.append(max(0, nanoseconds))

    def stop(self) -> None:
        self._cpu_ns = time.process_time_ns() - self._cpu_ns
        self._wall_ns = max(1, clock.now_ns() - self._began_ns)

    def report(self, *, held_back: bool) -> WorkerHealth:
        lags = sorted(self._lags_ns)
        return WorkerHealth(
            cpu_s=self._cpu_ns / 1e9,
            wall_s=self._wall_ns / 1e9,
            lag_ms_p99=p99(lags) / 1e6 if lags else None,
            lag_ms_max=lags[-1] / 1e6 if lags else None,
            peak_rss_bytes=peak_rss_bytes(),
            held_back=held_back,
        )


def peak_rss_bytes() -> int:
    """The most memory this process has held.

    Linux carries ``ru_maxrss`` over from the parent through ``exec``, so ask for this program's
    own high-water mark where there is one.
    """
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
