"""One process's perf session: blocks, the plan of the collected tests, judging."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_llmperf.accelerators.detect import detect
from pytest_llmperf.declared import workload_from
from pytest_llmperf.engines.base import Engine
from pytest_llmperf.engines.registry import resolve
from pytest_llmperf.errors import ClientError, UsageMistake
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.gates.design import Prior
from pytest_llmperf.records import (
    Accelerator,
    Api,
    LaunchRecord,
    NoiseProfile,
    RegressionGate,
    ServerRequest,
    Side,
    Verdict,
    Workload,
)
from pytest_llmperf.settings import Settings

from .block import Block
from .built import build_reference
from .conclusions import Conclusions
from .devices import Allotment
from .duel import Duel, Rules
from .handle import LlmPerf, ServerHandle
from .judge import Bench, select_here, unmeasured
from .kept import KeptRequests
from .keys import ApiKeys
from .limits_from import Elsewhere, gone
from .limits_from import told as limits_told
from .load_over_ray import ray_load
from .measurement import Measurement
from .memory import Here, Memory
from .placing import Placing, remote
from .planning import USUAL, Asked, Premises, plan_lines, reach
from .profiling import Profiling, Wanted
from .progress import Progress
from .refusals import for_server
from .surroundings import Surroundings


class PerfSession:
    """Holds what tests of one process share. Makes nothing before it is asked."""

    def __init__(
        self,
        settings: Settings,
        progress: Progress,
        *,
        engines: Callable[[], Mapping[str, Engine]],
        here: Here,
    ) -> None:
        self.settings = settings
        self._here = here
        self.memory: Memory | None = None
        if settings.store and settings.mode == "on":
            self.memory = Memory(settings.store, here, update=settings.update_baseline)
        self.conclusions = Conclusions(settings, self.memory)
        self.kept = KeptRequests(settings.requests_dir, self.conclusions)
        #: Lines for the end of the summary.
        self.notes = self.conclusions.notes
        self.progress = progress
        self.launches: list[LaunchRecord] = []
        self.family = settings.family
        self._log_dir = settings.log_dir
        self._engines = engines
        self._offered: Mapping[str, Engine] | None = None
        self._blocks: dict[ServerRequest, Block] = {}
        self._duels: dict[ServerRequest, Duel] = {}
        #: Decides the order of launches; drawn anew in each session, and reported.
        self.seed = secrets.randbits(32) if here.seed is None else here.seed
        self._planned: dict[ServerRequest, list[Workload]] = {}
        self._gates: dict[ServerRequest, dict[Workload, list[RegressionGate]]] = {}
        self._statistics: tuple[str, ...] = ()
        self._placing = Placing(settings, self.engine)
        self._ray = ray_load(settings)
        beside = settings.profiles_dir
        self.profiling = Profiling(
            directory=lambda: beside or self._logs / "profiles", home=beside and beside.parent
        )

    # --- planning ---------------------------------------------------------------------------

    def count_gates(self, expectations: Sequence[Expectation]) -> None:
        """Fix the family of gates: every gate collected, also those deselected afterwards; of a
        shard those that are to run."""
        if not self.settings.family:
            self.family = max(1, sum(expectation.gates for expectation in expectations))

    def note_limits(self, elsewhere: Elsewhere, expectations: Sequence[Expectation]) -> None:
        """Say how this checkout's limits differ from those that count, and read levels there."""
        self.notes += [
            f"limits from {elsewhere.name}: {each}" for each in limits_told(expectations, elsewhere)
        ]
        self.conclusions.problems += [
            f"{test} has a gate at {elsewhere.name} and is gone here; if that is meant, judge by "
            "limits of a commit without it"
            for test in gone(expectations, elsewhere)
        ]
        if self.memory is not None:
            self.memory.read_levels_at(elsewhere.root)

    def check(self, expectation: Expectation) -> None:
        """Raise UsageMistake for what cannot be met here, before any launch: limits that contradict
        each other, an API that the engine does not have, devices that are not here."""
        self.conclusions.running = expectation.nodeid
        self._check_api(expectation)
        self._placing.check(expectation.server)
        if expectation.server is not None and expectation.limits:
            select_here(expectation, self.accelerator(expectation.server))

    def _check_api(self, expectation: Expectation) -> None:
        if expectation.server is None or expectation.workload is None:
            return
        self._check_engine(expectation.server, expectation.workload.api)
        if expectation.regressions and expectation.server.reference is not None:
            self._check_engine(expectation.server.reference, expectation.workload.api)

    def _check_engine(self, request: ServerRequest, api: Api) -> None:
        engine = self.engine(request.engine)
        if api not in engine.apis:
            known = " or ".join(repr(name) for name in engine.apis)
            raise UsageMistake(
                f"llm_workload(api={api!r}): the engine {engine.name!r} does not have it; "
                f"use api={known}."
            )

    def plan(self, expectations: Iterable[Expectation]) -> None:
        """Note what will run, so that the tests of a block can share launches."""
        names: dict[str, None] = {}
        for expectation in expectations:
            names |= dict.fromkeys(limit.metric for limit in expectation.limits)
            names |= dict.fromkeys(gate.metric for gate in expectation.regressions)
            if expectation.server is None or expectation.workload is None:
                continue
            self.conclusions.expect(expectation)
            if expectation.regressions:
                gates = self._gates.setdefault(expectation.server, {})
                known = gates.setdefault(expectation.workload, [])
                known += [gate for gate in expectation.regressions if gate not in known]
            workloads = self._planned.setdefault(expectation.server, [])
            if expectation.workload not in workloads:
                workloads.append(expectation.workload)
        self._statistics = tuple(names)

    def plan_lines(self) -> Iterator[str]:
        """What would be launched for the tests that :meth:`plan` was told of, for people. Raises
        UsageMistake after the last line where some of it could not be."""
        asked = [
            Asked(request=request, workloads=workloads, gates=self._gates.get(request, {}))
            for request, workloads in self._planned.items()
        ]
        return plan_lines(asked, self._premises())

    def _premises(self) -> Premises:
        return Premises(
            launches=self.settings.launches,
            most_pairs=self.settings.pairs,
            family=max(1, self.family),
            family_alpha=self.settings.family_alpha,
            assumed_sigma=math.sqrt(2) * self.settings.launch_cv,
            noise=lambda request, workload: self._noise(request, workload)[1],
            remembers=self.memory is not None,
            release=self.settings.anchor or "",
            side_by_side=self.settings.side_by_side,
            budget_s=self.settings.budget_s,
            devices=lambda request: self.accelerator_to_report(request).count,
            check=self._placing.check,
            check_beside=self._placing.check_beside,
        )

    # --- running ----------------------------------------------------------------------------

    def block(self, request: ServerRequest) -> Block:
        """The block of a request; the same one for every test that asks for it."""
        if request not in self._blocks:
            planned = self._planned.get(request, [])
            key = ApiKeys.of(os.environ).own
            self._blocks[request] = self._new_block(request, planned, "candidate", key)
        return self._blocks[request]

    def _new_block(
        self,
        request: ServerRequest,
        planned: list[Workload],
        side: Side,
        api_key: str | None,
        like: Allotment | None = None,
    ) -> Block:
        allotment = None if request.url else self._placing.allotment(request)
        if allotment and like:
            allotment = allotment.as_many_as(like)
        return Block(
            request=request,
            engine=self.engine(request.engine),
            accelerator=allotment.usual if allotment else self.accelerator(request),
            allotment=allotment,
            around=self._surroundings(),
            planned=planned,
            side=side,
            api_key=api_key,
        )

    def handle(self, request: ServerRequest) -> ServerHandle:
        """What the ``llm_server`` fixture of a request is."""
        return ServerHandle(self.block(request), self._duel(request))

    def _duel(self, request: ServerRequest) -> Duel | None:
        gates = self._gates.get(request)
        if request.reference is None or not gates:
            return None
        if request not in self._duels:
            candidate = self.block(request)
            reference, name = build_reference(
                request.reference, self.settings, self._here.root, self.progress.say
            )
            key = ApiKeys.of(os.environ).for_reference(reference.url, request.url)
            self._duels[request] = Duel(
                candidate=candidate,
                reference=self._new_block(
                    reference, candidate.planned, "reference", key, like=candidate.allotment
                ),
                name=name,
                release=self.settings.anchor or "",
                gates=gates,
                priors=lambda workload: self._noise(request, workload)[0],
                rules=Rules(
                    alpha=self.settings.family_alpha / max(1, self.family),
                    most_pairs=self.settings.pairs,
                    budget_s=self.settings.budget_s,
                    compare_with_itself=self.settings.compare_with_itself,
                    seed=self.seed,
                    one_block=self.settings.anchor is not None,
                    side_by_side=self.settings.side_by_side,
                ),
            )
        return self._duels[request]

    def engine(self, name: str) -> Engine:
        if self._offered is None:
            self._offered = self._engines()
        return resolve(name, self._offered)

    def accelerator(self, request: ServerRequest | None = None) -> Accelerator:
        """What a request runs on, of the devices here those that it is given; ``remote`` for an
        endpoint unless stated. Without a request, all that is here."""
        if request is None:
            return self._placing.detected(self.settings.accelerator)
        if request.url is not None:
            return remote(request.url, request.accelerator)
        if request in self._blocks:
            return self._blocks[request].accelerator
        return self._placing.allotment(request).usual

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
            if self.settings.calibrate and perf.declared is not None and error is None:
                self._calibrate_beside(perf.declared, expectation, perf.server.accelerator)
            return []
        if perf.declared is None:
            return unmeasured(expectation, error)
        return self.conclusions.reach(
            expectation, perf.declared, perf.server.accelerator, self.bench
        )

    def want_profile(self, perf: LlmPerf) -> None:
        """Note a test that has failed, if a gate of it has and profiles are asked for."""
        failed = any(verdict.verdict == "fail" for verdict in perf.verdicts)
        measured = perf.declared
        if self.settings.profile_on_fail and failed and measured is not None:
            wanted = Wanted(
                test=perf.expectation.nodeid,
                workload=measured.workload,
                compared=measured.reference is not None,
            )
            self.profiling.want(perf.server.id, wanted)

    def profile(self, request: ServerRequest) -> None:
        """Make the profiles that tests of a request have asked for; none is to run any more."""
        duel = self._duels.get(request)
        self.profiling.make(self.block(request), duel.reference if duel else None)

    def _calibrate_beside(
        self, measured: Measurement, expectation: Expectation, accelerator: Accelerator
    ) -> None:
        """A test that judges nothing does not fail for too few launches to calibrate by."""
        try:
            self.conclusions.calibrate(measured, expectation, accelerator)
        except ClientError as error:
            self.notes.append(f"{expectation.nodeid}: {error}")

    def in_reach(self, profile: NoiseProfile) -> dict[str, float | None]:
        """The loss that a comparison could show for each metric of a calibration: those of gates
        and the usual ones."""
        names = dict.fromkeys((*self._statistics, *USUAL))
        premises = self._premises()
        return {
            name: reach(name, profile.pair_sigma[name], premises)
            for name in names
            if name in profile.pair_sigma
        }

    def _noise(
        self, request: ServerRequest, workload: Workload
    ) -> tuple[Mapping[str, Prior], NoiseProfile | None]:
        return self.conclusions.noise(request, workload, self.accelerator(request))

    @property
    def bench(self) -> Bench:
        return Bench(
            family=max(1, self.family),
            family_alpha=self.settings.family_alpha,
            launch_cv=self.settings.launch_cv,
            strict=self.settings.strict,
            release=self.settings.anchor or "",
        )

    @for_server("the servers' logs cannot be kept", "--llmperf-log-dir")
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
        if self.memory is not None:
            self.memory.close()
        for duel in self._duels.values():
            duel.close()
        for block in self._blocks.values():
            block.close()
        if self._ray is not None:
            self._ray.close()

    def drain_launches(self) -> list[LaunchRecord]:
        """Launch records made since the last call."""
        drained, self.launches = self.launches, []
        return drained

    @property
    def _logs(self) -> Path:
        if self._log_dir is None:
            raise RuntimeError("keep_logs() comes before the first block")
        return self._log_dir

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            progress=self.progress,
            log_dir=self._logs,
            cache_dir=self.settings.cache_dir,
            lock_dir=self.settings.lock_dir,
            launches=self.settings.launches,
            statistics=self._statistics,
            bounds=self.settings.health,
            prices=self.settings.prices,
            client_processes=self.settings.client_processes,
            ray=self._ray,
            bind=self.settings.bind,
            pin=self.settings.pin,
            nodes=self._placing.nodes,
            subjects=self.memory is not None,
            fingerprints=self.settings.mode == "on" and self.settings.quality != "off",
            questions=self.settings.questions if self.settings.mode == "on" else (),
            remember=lambda record: self.launches.append(record),
            measured=self.conclusions.keep_launch,
            keep=self.kept.keep,
        )
