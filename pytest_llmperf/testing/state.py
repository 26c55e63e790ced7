"""The one server behind all connections."""

from __future__ import annotations

import json
import os
import random
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pytest_llmperf import clock

from .asked import Asked
from .cache import PrefixCache
from .generation import Generation
from .profiler import FakeProfiler
from .script import Script, Truth
from .tally import Tally
from .wording import Wording, read_answers


class State:
    """What all requests of one server share."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.truth: list[Truth] = []
        self.flushes = 0
        self.connections: set[Any] = set()
        self.tally = Tally()
        self.profiler = FakeProfiler(script.profiler) if script.profiler else None
        self.chance = random.Random(script.seed)
        self.pace = max(0.05, self.chance.gauss(1.0, script.launch_cv))
        self._luck = self.chance.random() if script.logprob_noise else 0.0
        self._answers = read_answers(script.answers)
        self._running: set[int] = set()
        self._cache = PrefixCache(script.cache_page, script.cache_capacity)
        self._spare_step = 0.0

    @property
    def running(self) -> int:
        """Generation requests that have come and not ended."""
        return len(self._running)

    def admit(self, asked: Asked) -> Generation:
        """Count a generation request in, and decide whether the fault befalls it."""
        index = len(self.truth)
        script = self.script
        if script.die_after is not None and index >= script.die_after:
            print(f"sim: dying as told after {script.die_after} requests", flush=True)
            os._exit(script.die_status)
        nth = index - script.fault_from + 1
        truth = Truth(
            index=index,
            received_ns=clock.now_ns(),
            prompt_tokens=len(asked.prompt),
            fault=script.fault if nth > 0 and nth % script.fault_every == 0 else None,
            api=asked.api,
            stream=asked.stream,
            cached_tokens=self._cache.take(asked.prompt) if script.prefix_cache else 0,
            asked_tokens=asked.tokens,
            digest=hash(tuple(asked.prompt)),
        )
        self.truth.append(truth)
        self._running.add(index)
        self.tally.admitted(truth.prompt_tokens, truth.cached_tokens)
        wording = Wording(script, asked.prompt, self._answers, self._luck)
        generation = Generation(script, asked, truth, wording, self._spare_step)
        self._spare_step = generation.steps_of(generation.total) % 1.0
        return generation

    def finish(self, generation: Generation, *, served: bool = True) -> None:
        """A request has ended, or is about to: whoever has the last byte of its response finds
        it counted and logged. Only the first call counts; what was not served is not tallied."""
        truth = generation.truth
        if truth.ended_ns is not None:
            return
        truth.ended_ns = clock.now_ns()
        self._running.discard(truth.index)
        if served:
            self.tally.finished(generation)
        if self.script.truth_log:
            with Path(self.script.truth_log).open("a") as log:
                log.write(json.dumps(asdict(truth)) + "\n")

    def flush(self) -> bool:
        """Empty the prefix cache; false, and nothing is done, while requests run."""
        if self._running:
            return False
        self.flushes += 1
        self._cache.clear()
        self.tally.flushed()
        return True
