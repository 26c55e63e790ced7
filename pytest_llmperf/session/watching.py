"""Watching the devices while a run is measured."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pytest_llmperf.accelerators.conditions import Condition, Watcher, troubles
from pytest_llmperf.accelerators.detect import watching
from pytest_llmperf.records import Accelerator

#: How long a driver that hangs may hold up the end of a run.
_LET_GO_S = 2.0


@dataclass(slots=True)
class Seen:
    """What was seen so far; ``own`` tells the process ids of the server."""

    accelerator: Accelerator
    own: Callable[[], Sequence[int]]
    samples: list[Sequence[Condition]] = field(default_factory=list)

    @property
    def troubles(self) -> list[str]:
        """Why the run says little about the server, in words."""
        if not self.samples:
            return []
        return troubles(self.accelerator, self.samples, self.own())


@contextmanager
def watched(accelerator: Accelerator, own: Callable[[], Sequence[int]]) -> Iterator[Seen]:
    """Sample the devices of ``accelerator`` as long as the context lasts, in a thread of its own;
    nothing at all where nobody can be asked."""
    seen = Seen(accelerator, own)
    with watching(accelerator) as watcher:
        if watcher is None:
            yield seen
            return
        over = threading.Event()
        thread = threading.Thread(
            target=_sample, args=(watcher, seen.samples, over), name="llmperf-watch", daemon=True
        )
        thread.start()
        try:
            yield seen
        finally:
            over.set()
            thread.join(_LET_GO_S)


def _sample(watcher: Watcher, samples: list[Sequence[Condition]], over: threading.Event) -> None:
    # Not at the very beginning: a device that rested takes a moment to raise its clocks.
    while not over.wait(watcher.period_s):
        samples.append(watcher.look())
