"""The pretended profiler, with the words and habits of SGLang's."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .script import ProfilerKind, Truth

_STARTED = "Start profiling.\n"
_STOPPED = "Stop profiling. This will take some time.\n"
_BROKEN = "Internal Server Error"


class FakeProfiler:
    """Writes what was sent between start and stop as a Chrome trace, a step for each chunk."""

    def __init__(self, kind: ProfilerKind) -> None:
        self._kind = kind
        self._asked: dict[str, Any] | None = None
        self._from = 0
        self._count = 0

    def start(self, body: bytes, truth: Sequence[Truth]) -> tuple[int, object]:
        """Status and text, as for :meth:`stop`."""
        asked = json.loads(body or b"{}")
        if self._kind == "refuses" or self._asked is not None or "output_dir" not in asked:
            return 500, _BROKEN
        self._asked, self._from = asked, len(truth)
        return 200, _STARTED

    def stop(self, truth: Sequence[Truth]) -> tuple[int, object]:
        """After as many steps as were asked for it has stopped by itself, and is refused."""
        asked, self._asked = self._asked, None
        if asked is None:
            return 500, _BROKEN
        most = asked.get("num_steps")
        steps = list(islice(_steps(truth[self._from :]), most))
        self._count += 1
        place = Path(asked["output_dir"])
        place.mkdir(parents=True, exist_ok=True)
        with gzip.open(place / f"{self._count}-TP-0.trace.json.gz", "wt") as file:
            json.dump({"traceEvents": steps, "activities": asked.get("activities")}, file)
        return (500, _BROKEN) if len(steps) == most else (200, _STOPPED)


def _steps(truth: Sequence[Truth]) -> Iterator[dict[str, object]]:
    for each in truth:
        began = each.received_ns
        for sent in each.chunks:
            yield {
                "name": "step[DECODE bs=1]",
                "ph": "X",
                "pid": 0,
                "tid": each.index,
                "ts": began / 1e3,
                "dur": (sent.at_ns - began) / 1e3,
            }
            began = sent.at_ns
