"""One process's perf session: blocks, the plan of the collected tests, judging."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_llmperf.accelerators.detect import detect
from pytest_llmperf.declared import workload_from
from pytest_llmperf.engines.base import Engine
from pytest_llmperf.engines.registry import resolve
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.records import (
    Accelerator,
    Device,
    LaunchRecord,
    ServerRequest,
    Verdict,
    Workload,
)
from pytest_llmperf.settings import Settings

from .block import Block, Surroundings
from .handle import LlmPerf, ServerHandle
from .judge import Bench, judge, select_here, unmeasured
from .progress import Progress

API_KEY_VARIABLE = "LLMPERF_API_KEY"


class PerfSession:
    """Holds what tests of one process share. Makes nothing before it is asked."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        *,
        engines: Callable[[], Mapping[str, Engine]],
    ) -> None:
        self.settings = settings
        self.progress = progress
        self.launches: list[LaunchRecord] = []
        self.family = settings.family
        self._log_dir = settings.log_dir
        self._engines = engines
        self._offered: Mapping[str, Engine] | None = None
        self._blocks: dict[ServerRequest, Block] = {}
        self._planned: dict[ServerRequest, list[Workload]] = {}
        self._statistics: tuple[str, ...] = ()
        self._accelerators: dict[str | None, Accelerator] = {}

    # --- planning ---------------------------------------------------------------------------

    def count_gates(self, expectations: Sequence[Expectation]) -> None:
        """Fix the family of gates: every gate collected, also those deselected afterwards."""
        if not self.settings.family:
            self.family = max(1, sum(expectation.gates for expectation in expectations))

    def check(self, expectation: Expectation) -> None:
        """Raise UsageMistake for what cannot be met here, before any launch: limits that contradict
        each other, an API that the engine does not have."""
        self._check_api(expectation)
        if expectation.server is not None and expectation.limits:
            select_here(expectation, self.accelerator(expectation.server))

    def _check_api(self, expectation: Expectation) -> None:
        if expectation.server is None or expectation.workload is None:
            return
        engine, api = self.engine(expectation.server.engine), expectation.workload.api
        if api not in engine.apis:
            known = " or ".join(repr(name) for name in engine.apis)
            raise UsageMistake(
                f"llm_workload(api={api!r}): the engine {engine.name!r} does not have it; "
                f"use api={known}."
            )

    def plan(self, expectations: Sequence[Expectation]) -> None:
        """Note what will run, so that the tests of a block can share launches."""
        names: dict[str, None] = {}
        for expectation in expectations:
            names |= dict.fromkeys(limit.metric for limit in expectation.limits)
            if expectation.server is None or expectation.workload is None:
                continue
            workloads = self._planned.setdefault(expectation.server, [])
            if expectation.workload not in workloads:
                workloads.append(expectation.workload)
        self._statistics = tuple(names)

    # --- running ----------------------------------------------------------------------------

    def block(self, request: ServerRequest) -> Block:
        """The block of a request; the same one for every test that asks for it."""
        if request not in self._blocks:
            self._blocks[request] = Block(
                request=request,
                engine=self.engine(request.engine),
                accelerator=self.accelerator(request),
                around=self._surroundings(),
                planned=self._planned.get(request, []),
            )
        return self._blocks[request]

    def engine(self, name: str) -> Engine:
        if self._offered is None:
            self._offered = self._engines()
        return resolve(name, self._offered)

    def accelerator(self, request: ServerRequest | None = None) -> Accelerator:
        """What a request runs on: detected once, ``remote`` for an endpoint unless stated."""
        wanted = request.accelerator if request else self.settings.accelerator
        if request is not None and request.url is not None:
            return _remote(request.url, wanted)
        if wanted not in self._accelerators:
            self._accelerators[wanted] = detect(wanted)
        return self._accelerators[wanted]

    def perf(self, server: ServerHandle, expectation: Expectation) -> LlmPerf:
        """What the ``llm_perf`` fixture of a test is."""

        def make(what: object, overrides: Mapping[str, object]) -> Workload:
            return workload_from(
                what, overrides, self.settings, needed=1, directories=expectation.directories
            )

        return LlmPerf(server, expectation, make, short=self.settings.mode == "smoke")

    def conclude(self, perf: LlmPerf, error: BaseException | None) -> list[Verdict]:
        """Decide every gate of a test whose body has ended, in ``error`` if in one."""
        expectation = perf.expectation
        if not expectation.gates:
            return []
        if perf.declared is None:
            return unmeasured(expectation, error)
        return judge(expectation, perf.declared, perf.server.accelerator, self.bench)

    @property
    def bench(self) -> Bench:
        return Bench(
            family=max(1, self.family),
            family_alpha=self.settings.family_alpha,
            launch_cv=self.settings.launch_cv,
            strict=self.settings.strict,
        )

    def keep_logs(self, fallback: Callable[[], Path]) -> None:
        """Say where server logs go when no option does."""
        if self._log_dir is None:
            self._log_dir = fallback()
        self._log_dir.mkdir(parents=True, exist_ok=True)

    def accelerator_to_report(self, request: ServerRequest | None = None) -> Accelerator:
        """The accelerator of a request; what is here, where the one it asks for is not."""
        try:
            return self.accelerator(request)
        except UsageMistake:
            return detect()

    def close(self) -> None:
        """Stop whatever still runs; pytest's own teardown normally did already."""
        for block in self._blocks.values():
            block.close()

    def drain_launches(self) -> list[LaunchRecord]:
        """Launch records made since the last call."""
        drained, self.launches = self.launches, []
        return drained

    def _surroundings(self) -> Surroundings:
        if self._log_dir is None:
            raise RuntimeError("keep_logs() comes before the first block")
        return Surroundings(
            progress=self.progress,
            log_dir=self._log_dir,
            cache_dir=self.settings.cache_dir,
            lock_dir=self.settings.lock_dir,
            launches=self.settings.launches,
            statistics=self._statistics,
            bounds=self.settings.health,
            client_processes=self.settings.client_processes,
            api_key=os.environ.get(API_KEY_VARIABLE),
            remember=lambda record: self.launches.append(record),
        )


def _remote(url: str, stated: str | None) -> Accelerator:
    """An endpoint's hardware: what the user states, else unknown."""
    device = Device(vendor="remote", product=stated or "remote endpoint", index=0, uuid=url)
    return Accelerator(devices=(device,), source="stated" if stated else "attached")
