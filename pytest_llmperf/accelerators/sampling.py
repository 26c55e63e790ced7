"""Looking at the devices of one machine for somebody who is on another one."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from pytest_llmperf import clock
from pytest_llmperf.records import Accelerator

from .conditions import Condition
from .detect import detect, watching

#: Which of them a process is shown is no matter of who looks at them.
_SHOWN = ("VISIBLE_DEVICES", "AFFINITY_MASK")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is on a machine, and who tells of it every ``period_s``: nobody where that is
    ``None``. ``advice`` is how to be told more."""

    accelerator: Accelerator
    source: str = ""
    period_s: float | None = None
    advice: str = ""


class Sampler:
    """Made on the machine whose devices it looks at; ``vendor`` is theirs. Raises
    :class:`~pytest_llmperf.errors.UsageMistake` where there are none."""

    def __init__(self, vendor: str) -> None:
        shown = {k: v for k, v in os.environ.items() if not k.endswith(_SHOWN)}
        self._accelerator = detect(vendor, env=shown)
        self._open = ExitStack()
        self._watcher = self._open.enter_context(watching(self._accelerator))

    def found(self) -> Found:
        if self._watcher is None:
            return Found(accelerator=self._accelerator)
        return Found(
            accelerator=self._accelerator,
            source=self._watcher.source,
            period_s=self._watcher.period_s,
            advice=self._watcher.advice,
        )

    def look(self) -> Sequence[Condition]:
        """All devices now; ``at_ns`` is how long ago each was read, as nanoseconds below zero: no
        clock of this machine means anything on another one."""
        if self._watcher is None:
            return ()
        seen = self._watcher.look()
        now_ns = clock.now_ns()
        return [replace(one, at_ns=0 if one.at_ns is None else one.at_ns - now_ns) for one in seen]
