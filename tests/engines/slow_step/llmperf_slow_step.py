"""A plugin of SGLang that makes the scheduler's step slower: a regression that is truly there.

``LLMPERF_SLOW_STEP`` says which batches, how, and by how much: ``97=sleep:0.11 98=compute:0.11``
makes each step of requests that ask for 97 tokens last 11 % longer by sleeping, and of those that
ask for 98 by multiplying matrices. Without it the plugin does nothing at all. This directory on
the ``PYTHONPATH`` of a server is all it takes.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

_SPEC = "LLMPERF_SLOW_STEP"


def register() -> None:
    """Called by SGLang in each of its processes."""
    spec = os.environ.get(_SPEC)
    if not spec:
        return
    from sglang.srt.plugins.hook_registry import HookRegistry, HookType

    HookRegistry.register(
        "sglang.srt.managers.scheduler.Scheduler.run_batch", SlowStep(spec), HookType.AROUND
    )


class SlowStep:
    """Around ``Scheduler.run_batch``: a share of the time of each step, once more."""

    def __init__(self, spec: str) -> None:
        self._rules = dict(map(_rule, spec.split()))
        self._ended = 0.0

    def __call__(self, run: Callable[..., Any], scheduler: Any, batch: Any, *rest: Any) -> Any:
        began = time.perf_counter()
        result = run(scheduler, batch, *rest)
        ended = time.perf_counter()
        rule = self._rules.get(_asked(batch))
        if rule is not None:
            # A step is the whole round of the loop, what is done with the tokens included; after
            # a rest there was no round before this one.
            since = began if batch.after_idle_gap else self._ended
            waste, share = rule
            waste(ended + share * (ended - since))
        self._ended = time.perf_counter()
        return result


def _asked(batch: Any) -> int:
    return int(batch.reqs[0].sampling_params.max_new_tokens or 0) if batch.reqs else 0


def _rule(text: str) -> tuple[int, tuple[Callable[[float], None], float]]:
    tokens, _, what = text.partition("=")
    how, _, share = what.partition(":")
    return int(tokens), ({"sleep": _sleep, "compute": _compute}[how], float(share))


def _sleep(until: float) -> None:
    time.sleep(max(0.0, until - time.perf_counter()))


def _compute(until: float) -> None:
    import torch

    square = torch.ones(64, 64)
    while time.perf_counter() < until:
        square @ square
