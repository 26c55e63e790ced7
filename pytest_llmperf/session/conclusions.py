"""What becomes of a measured test: its verdicts, and what is remembered of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pytest_llmperf.expectations import Expectation
from pytest_llmperf.gates.design import Prior
from pytest_llmperf.records import (
    Accelerator,
    GateHistory,
    NoiseProfile,
    ServerRequest,
    Verdict,
    Workload,
)
from pytest_llmperf.settings import Settings
from pytest_llmperf.store import StoreError

from .attempts import Attempt
from .block import Block
from .judge import Bench, judge
from .measurement import Measurement
from .memory import Memory
from .past import Past
from .quality import Quality, assess, told_by


class Conclusions:
    """Those of one process' session. ``memory`` is absent where nothing is remembered.

    ``profiles`` are what a calibration found, ``qualities`` what is known of the outputs of
    servers that were compared, and ``histories`` what sessions measured of each gated metric, all
    by test. ``problems`` are sentences that make a session red, ``notes`` are for the summary.
    """

    def __init__(self, settings: Settings, memory: Memory | None) -> None:
        self.settings = settings
        self.memory = memory
        #: The node id of the test that runs.
        self.running = ""
        self._expected: dict[tuple[ServerRequest, Workload], list[Expectation]] = {}
        self.profiles: dict[str, NoiseProfile] = {}
        self.qualities: dict[str, Quality] = {}
        self.histories: dict[str, dict[str, GateHistory]] = {}
        self.problems: list[str] = []
        self.notes: list[str] = []
        self._concluded: dict[str, tuple[Measurement, list[Verdict]]] = {}

    def expect(self, expectation: Expectation) -> None:
        """Note a test that is going to run."""
        if expectation.gates and expectation.server and expectation.workload:
            asked = expectation.server, expectation.workload
            self._expected.setdefault(asked, []).append(expectation)

    def reach(
        self,
        expectation: Expectation,
        measured: Measurement,
        accelerator: Accelerator,
        bench: Bench,
    ) -> list[Verdict]:
        """Decide every gate of a test by what was measured, and remember both."""
        if self.settings.calibrate:
            self.calibrate(measured, expectation, accelerator)
            return []
        known = self._concluded.get(expectation.nodeid)
        if known is not None and known[0].runs == measured.runs:
            return known[1]  # a plugin runs the test again: nothing was measured since
        past = self._recall(measured, expectation, accelerator)
        attempts = self._attempts(measured, expectation, accelerator, past)
        verdicts = judge(expectation, measured, accelerator, bench, past, attempts)
        verdicts = self._beside_outputs(expectation, measured, past, verdicts)
        self.histories[expectation.nodeid] = self._histories(
            measured, expectation, accelerator, past, verdicts
        )
        self._keep(measured, expectation, accelerator, verdicts, attempts)
        self._concluded[expectation.nodeid] = measured, verdicts
        return verdicts

    def _beside_outputs(
        self,
        expectation: Expectation,
        measured: Measurement,
        past: Past | StoreError | None,
        verdicts: list[Verdict],
    ) -> list[Verdict]:
        """The verdicts with what is known of the servers' outputs, where those are asked for."""
        mode = self.settings.quality
        if mode == "off":
            return verdicts
        accepted = past if isinstance(past, Past) and past.accepted else None
        if measured.reference is None and measured.solved is None and accepted is None:
            return verdicts
        found = assess(measured, accepted, alpha=self.settings.family_alpha)
        self.qualities[expectation.nodeid] = found
        return told_by(verdicts, found, mode)

    def _attempts(
        self,
        measured: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        past: Past | StoreError | None,
    ) -> dict[str, Attempt]:
        """Which attempt each regression gate is at; none where nothing is decided or remembered."""
        compared, against = measured.comparison, ""
        if compared is not None:
            against = compared.against
        elif isinstance(past, Past) and past.level is not None:
            against = past.level.id
        if self.memory is None or not against or self.settings.compare_with_itself:
            return {}
        release = self.settings.anchor
        try:
            if release is not None and compared is not None:
                most_pairs = self.settings.pairs
                return self.memory.nights(measured, expectation, accelerator, release, most_pairs)
            return self.memory.attempts(measured, expectation, accelerator, against)
        except StoreError as error:
            self._note(error)
            return {}

    def _recall(
        self, measured: Measurement, expectation: Expectation, accelerator: Accelerator
    ) -> Past | StoreError | None:
        """What a regression gate without a reference is judged by; a broken store is told by it."""
        if self.memory is None or not expectation.regressions or measured.comparison is not None:
            return None
        try:
            return self.memory.recall(measured, expectation, accelerator)
        except StoreError as error:
            return error

    def _histories(
        self,
        measured: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        past: Past | StoreError | None,
        verdicts: Sequence[Verdict],
    ) -> dict[str, GateHistory]:
        """For the report; also of gates that are judged without it."""
        if self.memory is None or isinstance(past, StoreError) or not verdicts:
            return {}
        metrics = dict.fromkeys(verdict.metric for verdict in verdicts)
        try:
            return self.memory.histories(measured, expectation, accelerator, metrics)
        except StoreError as error:
            self.notes.append(f"{expectation.nodeid}: no history in the report. {error}")
            return {}

    def calibrate(
        self, measured: Measurement, expectation: Expectation, accelerator: Accelerator
    ) -> None:
        """Remember how much the launches of ``measured`` differ, whether a gate asks or not: they
        were made, and plans and gates of other tests on the same server and workload may."""
        if self.memory is not None and expectation.server is not None:
            profile = self.memory.calibrations.remember(measured, expectation.server, accelerator)
            self.profiles[expectation.nodeid] = profile

    def noise(
        self, request: ServerRequest, workload: Workload, accelerator: Accelerator
    ) -> tuple[Mapping[str, Prior], NoiseProfile | None]:
        """What a calibration found, as priors of gates."""
        if self.memory is None:
            return {}, None
        try:
            profile = self.memory.calibrations.of(request, workload, accelerator)
        except StoreError as error:
            self._note(error)
            return {}, None
        if profile is None:
            return {}, None
        sure = {n: s for n, s in profile.pair_sigma.items() if n not in profile.bimodal}
        return {n: Prior(sigma=s, df=profile.pair_df) for n, s in sure.items() if s > 0}, profile

    def keep_launch(self, block: Block, workload: Workload, launch_id: str) -> None:
        """Remember a launch as soon as it was measured, for the test that runs: a killed session
        loses no more of it than what is under way."""
        if self.memory is None or self.settings.calibrate or block.side == "reference":
            return
        for expectation in self._expected.get((block.request, workload), ()):
            # A test that shares this launch may never run here: skipped, after -x, or on another
            # worker. It must not have a session in the store that it never had.
            if expectation.nodeid != self.running:
                continue
            try:
                self.memory.keep_launch(
                    block.result(workload), expectation, block.accelerator, launch_id
                )
            except StoreError as error:
                self._note(error)

    def _keep(
        self,
        measured: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        verdicts: Sequence[Verdict],
        attempts: Mapping[str, Attempt],
    ) -> None:
        if self.memory is None:
            return
        try:
            self.memory.keep(measured, expectation, accelerator, verdicts, attempts)
        except StoreError as error:
            self._note(error)

    def _note(self, error: StoreError) -> None:
        if str(error) not in self.problems:
            self.problems.append(str(error))
