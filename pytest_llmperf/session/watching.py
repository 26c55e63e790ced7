"""Watching the devices while a run is measured."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.accelerators.conditions import Condition, Watcher, troubles
from pytest_llmperf.accelerators.detect import watching
from pytest_llmperf.metrics.energy import LARGEST_GAP_S, Window
from pytest_llmperf.metrics.telemetry import reduce_looks, within
from pytest_llmperf.records import Accelerator, Device, Telemetry

#: How long a driver that hangs may hold up the end of a run, beyond what its last look took.
_LET_GO_S = 2.0
_SILENT = "no answer came while the run lasted: see whether its driver hangs"
_PROC = Path("/proc")
_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)
_KIB = 1024

#: As :func:`~pytest_llmperf.accelerators.detect.watching`.
Watching = Callable[[Accelerator], AbstractContextManager[Watcher | None]]
#: Which of these process ids of the server on this machine, or which others, may use a device.
Sharing = Callable[[Device, Sequence[int]], Sequence[int]]


@dataclass(slots=True)
class Seen:
    """What was seen so far; ``own`` tells the process ids of the server on this machine. ``cpu_s``
    is what looking cost the thread that did, ``took_s`` how long the last look lasted."""

    accelerator: Accelerator
    own: Callable[[], Sequence[int]]
    sharing: Sharing = lambda _, own: own
    samples: list[Sequence[Condition]] = field(default_factory=list)
    watcher: Watcher | None = None
    cpu_s: float = 0.0
    took_s: float = 0.0

    def troubles(self, window: Window | None) -> list[str]:
        """Why a run in ``window`` says little about the server, in words."""
        if window is None or not (inside := within(self.samples, window)):
            return []
        own = self.own()
        return [
            why
            for device in self.accelerator.devices
            for why in troubles(
                replace(self.accelerator, devices=(device,)), inside, self.sharing(device, own)
            )
        ]

    def telemetry(self, window: Window | None) -> Telemetry | None:
        """What the devices were like in ``window``; ``None`` where nobody can tell anything."""
        found = self._of_devices(window)
        if self.accelerator.vendor != "cpu" or self.accelerator.nodes > 1:
            return found
        if (peak := peak_resident(self.own())) is None:
            return found
        base = found or Telemetry()
        return replace(base, peak_memory_bytes=peak, peak_memory_of="processes")

    def _of_devices(self, window: Window | None) -> Telemetry | None:
        watcher, samples = self.watcher, list(self.samples)
        if watcher is None or window is None:
            return None
        looks = len(samples)
        missing = _too_seldom(watcher) if looks else _SILENT
        return replace(
            reduce_looks(self.accelerator, samples, window, missing=missing),
            source=watcher.source,
            period_s=watcher.period_s,
            cpu_share=round(self.cpu_s / looks / watcher.period_s, 6) if looks else None,
        )


def here(accelerator: Accelerator) -> AbstractContextManager[Watcher | None]:
    """Asking about the devices of this machine."""
    return watching(accelerator)


@contextmanager
def watched(
    accelerator: Accelerator,
    own: Callable[[], Sequence[int]],
    watch: Watching = here,
    sharing: Sharing = lambda _, own: own,
) -> Iterator[Seen]:
    """Sample the devices of ``accelerator`` as long as the context lasts, in a thread of its own:
    at once, every period, and once more at the end, for what was drawn until then. Nothing at all
    where nobody can be asked. ``watch`` is who knows whom to ask, by default this machine; by
    ``sharing`` the server may use a device with others of its processes than those here."""
    seen = Seen(accelerator, own, sharing)
    with watch(accelerator) as watcher:
        if watcher is None:
            yield seen
            return
        seen.watcher = watcher
        over, gone = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=_sample, args=(watcher, seen, over, gone), name="llmperf-watch", daemon=True
        )
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join(_LET_GO_S + seen.took_s)
            # What a driver that hangs says later belongs to no run any more.
            gone.set()
            if thread.is_alive():
                watcher.hangs.set()


def _sample(watcher: Watcher, seen: Seen, over: threading.Event, gone: threading.Event) -> None:
    last = False
    while not last and not gone.is_set():
        last = over.is_set()
        before_ns = clock.now_ns()
        found = watcher.look()
        after_ns = clock.now_ns()
        if gone.is_set():
            return
        seen.samples.append(_stamped(found, (before_ns + after_ns) // 2))
        seen.cpu_s, seen.took_s = time.thread_time(), (after_ns - before_ns) / 1e9
        if not last:
            # By the clock; one that takes its time has a rest all the same.
            over.wait(max(watcher.period_s - seen.took_s, watcher.period_s / 2))


def _stamped(found: Iterable[Condition], at_ns: int) -> list[Condition]:
    return [replace(one, at_ns=at_ns) if one.at_ns is None else one for one in found]


def _too_seldom(watcher: Watcher) -> str:
    """Why samples of ``watcher`` cannot tell energy, however good they are."""
    if watcher.period_s <= LARGEST_GAP_S:
        return ""
    advice = f": {watcher.advice}" if watcher.advice else ""
    return (
        f"{watcher.source or 'its tool'} is asked every {watcher.period_s:g} s, and energy needs a "
        f"sample every {LARGEST_GAP_S:.0f} s{advice}"
    )


def peak_resident(pids: Iterable[int], proc: Path = _PROC) -> int | None:
    """The largest resident sets that these processes ever had, in bytes, added up; pages that they
    share count for each. ``None`` where the kernel tells of none of them."""
    peaks = [peak for pid in pids if (peak := _peak(proc / str(pid) / "status")) is not None]
    return sum(peaks) if peaks else None


def _peak(status: Path) -> int | None:
    try:
        found = _PEAK.search(status.read_text())
    except OSError:
        return None  # ended meanwhile, or somebody else's
    return int(found[1]) * _KIB if found else None
