"""A block: all tests that ask for the same server, and the launches that serve them.

The first test's set-up makes the first launch. ``measure`` makes the others, measuring on each
every planned workload that still lacks it, so that tests share launches. The last launch stays up
for the tests that follow, each of which is measured when its turn comes.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from pytest_llmperf.engines.base import Engine
from pytest_llmperf.errors import ClientError, ServerError
from pytest_llmperf.launch.container import PYTHON
from pytest_llmperf.launch.container_tool import find_image, into_container
from pytest_llmperf.launch.ports import claim_port, release_port
from pytest_llmperf.load.client import LoadProgress
from pytest_llmperf.models.sizes import size_of
from pytest_llmperf.records import (
    Accelerator,
    Fingerprint,
    Json,
    LaunchPlan,
    LaunchRecord,
    Placement,
    Run,
    ServerRequest,
    Side,
    Workload,
)
from pytest_llmperf.redact import Secret

from .bring_up import attach, launch
from .clients import FindCrew, who_asks
from .cores import split_cores
from .device import DeviceHold
from .devices import Allotment
from .fitting import check_fit
from .measurement import Measurement, measurement_id, summarise
from .one_run import Measuring
from .progress import which_run
from .ranks import Ranks, RanksHere
from .refusals import for_client, for_server
from .server import LiveServer
from .starting import as_found, join, model_path, over_its_nodes, request_here
from .surroundings import Surroundings


@dataclass(slots=True, kw_only=True)
class Block:
    """The launches of one server request."""

    request: ServerRequest
    engine: Engine
    accelerator: Accelerator
    around: Surroundings
    planned: list[Workload] = field(default_factory=list)
    side: Side = "candidate"
    #: Of the endpoint, where one is attached to.
    api_key: str | None = field(default=None, repr=False)
    #: What this launch is for, where that is not counted from one to so many.
    stage: str = ""
    launched: int = 0
    live: LiveServer | None = None
    subject: Mapping[str, Json] = field(default_factory=dict)
    #: Which questions were answered rightly; ``None`` before they were asked.
    solved: tuple[bool, ...] | None = None
    #: Which devices it may be given, where there is a choice.
    allotment: Allotment | None = None
    device: DeviceHold = field(init=False)
    #: Where the ranks of a server over several nodes meet.
    _meeting: int = 0
    _runs: dict[Workload, list[Run]] = field(default_factory=dict)
    _fingerprints: dict[str, Fingerprint] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.device = DeviceHold(
            accelerator=self.accelerator,
            lock_dir=self.around.lock_dir,
            allotment=self.allotment,
        )

    @property
    def id(self) -> str:
        """Names the request in reports: equal requests have equal ids, in every process."""
        digest = hashlib.sha256(self.request.identity.encode()).hexdigest()[:8]
        return f"{self.request.engine}-{digest}"

    @property
    def _has_subject(self) -> bool:
        compared = self.side == "reference" or self.request.reference is not None
        return compared or self.around.subjects

    @property
    def _log_name(self) -> str:
        side = "-reference" if self.side == "reference" else ""
        return f"{self.id}{side}-{os.getpid()}"

    @property
    def attached(self) -> bool:
        return self.request.url is not None

    @property
    def label(self) -> str:
        """Engine, version and model for status lines."""
        version = self.live.identity.version if self.live else None
        parts = (
            f"{self.engine.name} {version}" if version else self.engine.name,
            self.request.model,
            self.accelerator.product,
        )
        return " · ".join(part for part in parts if part)

    def open(self) -> LiveServer:
        """Make sure a server is up; raises ServerError with nothing left running."""
        if self.live is None:
            self.live = self._attach() if self.attached else self._launch()
            self.subject = self.live.record.subject or self.subject
        return self.live

    def close(self) -> None:
        """Stop the server, wait until its device's memory is free, release the device."""
        live, self.live = self.live, None
        try:
            if live is not None:
                live.stop()
                self.device.wait_for_memory()
        finally:
            # By the next close it may be another server's.
            release_port(self._meeting)
            self._meeting = 0
            self.device.give_back()

    def freeze(self) -> None:
        """Hold the server that is up still."""
        if self.live is not None:
            self.live.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        if self.live is not None:
            self.live.thaw()

    @for_client()
    def warm_up(self, workload: Workload) -> float:
        """Send the warm-up requests of ``workload``; the seconds that measuring it will take."""
        self.around.progress.update(partial(self._run_line, workload, None, None))
        try:
            return self.open().warm_up(workload)
        finally:
            self.around.progress.clear()

    def measure_pair(self, workload: Workload, pair: int, turn: int | None = None) -> None:
        """Measure ``workload`` on the launch that is up, for a pair of launches; with ``turn`` only
        that one of its runs."""
        self._measure_here(workload, pair=pair, turn=turn)
        self.around.progress.clear()

    def runs(self, workload: Workload) -> tuple[Run, ...]:
        """Every run of ``workload`` so far."""
        return tuple(self._runs.get(workload, ()))

    def measure_point(self, workload: Workload, doing: str) -> Measurement:
        """Measure ``workload`` on the launch that is up, and no other; ``doing`` is shown."""
        progress = self.around.progress
        test = progress.test
        progress.test = f"{test} ── {doing}"
        progress.say(progress.test)
        try:
            return self.measure(workload, launches=1)
        finally:
            progress.test = test

    def measure(self, workload: Workload, *, launches: int | None = None) -> Measurement:
        """Measure ``workload`` on so many launches, by default as many as the session asks for."""
        wanted = 1 if self.attached else launches or self.around.launches
        while self._seen(workload) < wanted:
            if workload in self.open().runs:
                self.close()
                continue
            self._measure_here(workload)
            if self._seen(workload) < wanted:
                self._measure_others(wanted)
        self.around.progress.clear()
        return self.result(workload)

    def result(self, workload: Workload) -> Measurement:
        """What was measured of ``workload`` so far."""
        runs = self.runs(workload)
        return Measurement(
            id=measurement_id(self.id, workload),
            server_id=self.id,
            workload=workload,
            runs=runs,
            summary=summarise(runs),
            subject=self.subject,
            fingerprints={
                id_: self._fingerprints[id_]
                for id_ in dict.fromkeys(run.launch_id for run in runs)
                if id_ in self._fingerprints
            },
            solved=self.solved,
        )

    def _seen(self, workload: Workload) -> int:
        return len({run.launch_id for run in self._runs.get(workload, ())})

    def _measure_others(self, wanted: int) -> None:
        """This launch is about to end: measure on it what other tests of the block will need."""
        for other in self.planned:
            if self._seen(other) < wanted and other not in self.open().runs:
                try:
                    self._measure_here(other)
                except (ServerError, ClientError):
                    # A dead server is everyone's; what went wrong with this workload alone, on
                    # the server's side or ours, its own test will tell.
                    self.open().check()

    @for_client()
    def _measure_here(
        self, workload: Workload, pair: int | None = None, turn: int | None = None
    ) -> None:
        live = self.open()

        def show(index: int | None, progress: LoadProgress | None) -> None:
            self.around.progress.update(lambda: self._run_line(workload, index, progress))

        how = Measuring(
            statistics=self.around.statistics,
            bounds=self.around.bounds,
            prices=self.around.prices,
            keep=partial(self.around.keep, self.id, workload, self.side, pair),
        )
        runs = live.measure(
            workload,
            show,
            how,
            visit=pair or 0,
            turn=turn,
            fingerprint=self.around.fingerprints and (pair is not None or self.around.subjects),
        )
        self._ask_beside(live, workload)
        placed = (replace(run, side=self.side, pair=pair) for run in runs)
        self._runs.setdefault(workload, []).extend(placed)
        if runs and (turn is None or turn == workload.runs - 1):
            self.around.measured(self, workload, runs[-1].launch_id)

    def _ask_beside(self, live: LiveServer, workload: Workload) -> None:
        """Keep what the launch said to the fixed prompts; ask the questions once a side."""
        if live.fingerprint is not None:
            self._fingerprints[live.record.id] = live.fingerprint
        if self.around.questions and self.solved is None:
            progress = self.around.progress
            asked = len(self.around.questions)
            progress.update(lambda: f"{progress.test} ── {self.side}: asking {asked} questions")
            self.solved = live.solve(self.around.questions, workload)

    def _run_line(
        self, workload: Workload, index: int | None, progress: LoadProgress | None
    ) -> str:
        """What a waiting person sees: which launch, which run, how far, how fast, how long yet."""
        launch = self.stage or f"launch {self.launched}/{self.around.launches}"
        parts = ["attached" if self.attached else launch, *which_run(workload, index, progress)]
        return f"{self.around.progress.test} ── {' · '.join(parts)}"

    # --- bringing a server up ---------------------------------------------------------------

    def _attach(self) -> LiveServer:
        key = self.api_key
        return attach(
            self.engine,
            self.request.url or "",
            model=self.request.model,
            server_id=self.id,
            accelerator=self.accelerator,
            crew=self._who_asks(),
            headers=(("Authorization", Secret(f"Bearer {key}")),) if key else (),
            remember=self._remember,
            with_subject=self._has_subject,
        )

    def _who_asks(self, cores: tuple[int, ...] | None = None) -> FindCrew:
        return who_asks(self.around.ray, processes=self.around.client_processes, cores=cores)

    def _launch(self) -> LiveServer:
        progress = self.around.progress
        self._check_within_reach()
        with for_server("the lock of its device could not be taken", "--llmperf-lock-dir"):
            self.device.take(progress.test, lambda said: progress.say(f"{progress.test} ── {said}"))
        self.accelerator = self.device.accelerator
        try:
            live = self._start()
        except BaseException:
            self.close()
            raise
        finally:
            self.around.progress.clear()
        self.accelerator = as_found(self.accelerator, live.ranks.accelerator)
        return live

    def _check_within_reach(self) -> None:
        """Raise UsageMistake where those who are to ask could not reach a server started here."""
        if self.around.ray is None:
            return
        line = f"{self.label} ── joining the Ray cluster that the load comes from"
        self.around.progress.update(lambda: line)
        try:
            self.around.ray.check(self.around.bind)
        finally:
            self.around.progress.clear()

    @for_server("the server could not be started", "--llmperf-log-dir")
    def _start(self) -> LiveServer:
        cores = split_cores(
            self.accelerator,
            self.planned,
            processes=self.around.client_processes,
            pin=self.around.pin,
        )
        model = model_path(self.request.model or "", self.engine, self.around.cache_dir)
        image = self.request.image and find_image(self.request.image, self.request.container)
        port = claim_port(self.around.bind)
        plan: LaunchPlan | None = None
        ranks: Ranks = RanksHere()
        try:
            placement = Placement(
                host=self.around.bind,
                port=port,
                accelerator=self.accelerator,
                model_path=model,
                served_name=self.request.model or self.engine.name,
                python=self.request.python or (PYTHON if image else sys.executable),
                cores=cores.server,
                scratch=self.around.log_dir,
                environ=image.env if image else None,
                size=size_of(model),
                profiles=self.around.profiles,
            )
            here = request_here(self.request, self.allotment, self.accelerator)
            plan = self._fitting(self.engine.plan(here, placement), placement)
            plan, self._meeting = over_its_nodes(
                plan, self.request, self.around.nodes, self.allotment, self.accelerator
            )
            self.launched += 1
            ranks = self._join(plan)
            return launch(
                self.engine,
                into_container(plan, image, placement) if image else plan,
                placement,
                server_id=self.id,
                log_path=self.around.log_dir / f"{self._log_name}-{self.launched}.log",
                crew=self._who_asks(cores.client),
                held_fds=self.device.descriptors,
                on_progress=self._show_start,
                remember=self._remember,
                with_subject=self._has_subject,
                ranks=ranks,
            )
        except BaseException as error:
            try:
                ranks.give_up(error)
            finally:
                for each in (port, *(rank.port for rank in (plan.others if plan else ()))):
                    release_port(each)
            raise

    def _fitting(self, plan: LaunchPlan, placement: Placement) -> LaunchPlan:
        """The plan, unless the model cannot fit; the first time its recipe is told."""
        note = check_fit(
            self.engine.name,
            plan.argv,
            self.request.args,
            size=placement.size,
            accelerator=placement.accelerator,
        )
        if plan.recipe and not self.launched:
            self.around.progress.say(f"{self.label} ── recipe: {plan.recipe}")
        return replace(plan, notes=(*plan.notes, note)) if note else plan

    def _join(self, plan: LaunchPlan) -> Ranks:
        if self.request.ray is not None:
            line = f"{self.label} ── joining the Ray cluster at {self.request.ray}"
            self.around.progress.say(line)
        label = f"{self._log_name}-{self.launched}-{secrets.token_hex(4)}"
        return join(self.request, plan, self.accelerator, label)

    def _remember(self, record: LaunchRecord) -> None:
        self.around.remember(replace(record, side=self.side))

    def _show_start(self, what: str, seconds: float) -> None:
        said = f": {what}" if what not in ("", "starting") else ""
        self.around.progress.update(lambda: f"{self.label} ── starting {seconds:.0f} s{said}")
