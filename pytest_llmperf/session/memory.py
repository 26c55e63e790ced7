"""The remembered past of a test: what it is compared with, and what this session adds to it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf import clock
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.gates.chronicle import history_of
from pytest_llmperf.gates.comparable import differences, refusal, told
from pytest_llmperf.records import (
    Accelerator,
    GateHistory,
    Judged,
    LaunchValues,
    Level,
    Observation,
    Scalar,
    Verdict,
)
from pytest_llmperf.store import (
    MOST_SESSIONS,
    Store,
    StoreError,
    near,
    new_id,
    open_store,
    part_id,
    resting_on,
    since,
)

from .anchor import attempt_after, judged_after, sequence_with
from .attempts import Attempt, attempt_at, sequence_of
from .calibrations import Calibrations
from .measurement import Measurement
from .observed import key_for, launches_of, observation_of
from .past import Past, in_words
from .required import Known, known_gates
from .rescue import StoreRescue

UPDATE_REASON = "--llmperf-update-baseline"

Facts = Mapping[str, Scalar]


@dataclass(frozen=True, slots=True, kw_only=True)
class Here:
    """What pytest's side knows of this place.

    ``directory`` is where pytest was called, ``root`` the suite's. ``facts`` are those of the
    environment that must be equal; ``git`` has ``commit`` and ``dirty``; ``comparable`` asks hooks
    whether two unlike environments may be compared. ``seed`` is what all processes of this session
    draw from, ``None`` where there is one only.
    """

    directory: Path
    root: Path
    facts: Callable[[Accelerator], Facts]
    git: Callable[[], Mapping[str, Any]]
    comparable: Callable[[Facts, Facts], bool]
    seed: int | None = None


class Memory:
    """One store, opened when it is first needed."""

    def __init__(self, where: str, here: Here, *, update: bool) -> None:
        self._where = where
        self._here = here
        self._update = update
        self._store: Store | None = None
        self._levels_at: Path | None = None
        self._accepted: Store | None = None
        #: What stores hold, by key and whether of the accepted one, until something is written.
        self._read: dict[tuple[str, bool], tuple[list[Observation], Level | None]] = {}
        self._kept: set[tuple[str, str]] = set()
        self._rescue = StoreRescue()
        self.calibrations = Calibrations(self._open, here.facts)
        #: What tests that go on will be kept as, by node id: their launches are kept already.
        self._under_way: dict[str, str] = {}

    def read_levels_at(self, root: Path) -> None:
        """Compare with the levels of another checkout of the suite, whose root is ``root``, where
        the store is a directory inside the suite."""
        if "://" in self._where:
            return
        place = (self._here.directory / self._where).resolve()
        with contextlib.suppress(ValueError):
            self._levels_at = root / place.relative_to(self._here.root.resolve())

    def recall(
        self, measurement: Measurement, expectation: Expectation, accelerator: Accelerator
    ) -> Past:
        """What ``measurement`` may be compared with. Raises
        :class:`~pytest_llmperf.store.StoreError`."""
        store, facts = self._open_accepted(), self._here.facts(accelerator)
        key = key_for(expectation, measurement, facts)
        observations, level = self._before(store, key, expectation)
        refused = None
        if level is None:
            level, others, refused = self._elsewhere(store, key, facts)
            observations = others or observations
        accepted = resting_on(level, observations)
        changed: tuple[str, ...] = ()
        if accepted:
            changed = told(differences(measurement.subject, accepted[-1].subject))
        return Past(
            key=key,
            observations=tuple(observations),
            level=level,
            accepted=accepted,
            refused=refused,
            changed=changed,
        )

    def _before(
        self, store: Store, key: str, expectation: Expectation
    ) -> tuple[list[Observation], Level | None]:
        """The sessions before this one, and the level that holds."""
        ours = self._under_way.get(expectation.nodeid)
        observations, level = self._held(store, key)
        return [each for each in observations if each.id != ours], level

    def _held(self, store: Store, key: str) -> tuple[list[Observation], Level | None]:
        """What a store holds of ``key``: one test asks for it several times."""
        at = key, store is self._accepted
        if at not in self._read:
            self._read[at] = store.observations(key), _newest(store.levels(key))
        return self._read[at]

    def _elsewhere(
        self, store: Store, key: str, facts: Facts
    ) -> tuple[Level | None, list[Observation], str | None]:
        """The level of another environment that may stand in, or why it may not."""
        refused = None
        for other in near(store, key):
            level = _newest(store.levels(other.key))
            if level is None:
                continue
            if self._here.comparable(facts, other.environment):
                return level, store.observations(other.key), None
            refused = refused or refusal(differences(facts, other.environment), other.key)
        return None, [], refused

    def histories(
        self,
        measurement: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        metrics: Iterable[str],
    ) -> dict[str, GateHistory]:
        """What sessions of this environment measured of each of ``metrics``, this one with them, by
        metric; none of one that no session before has. Raises
        :class:`~pytest_llmperf.store.StoreError`."""
        store, facts = self._open_accepted(), self._here.facts(accelerator)
        key = key_for(expectation, measurement, facts)
        observations, level = self._before(store, key, expectation)
        accepted = resting_on(level, observations)
        against = in_words(level, accepted) if level is not None else ""
        launches = launches_of(measurement)
        fresh = self._observation("", measurement, expectation, accelerator, launches)
        found = {
            metric: history_of(observations, fresh, metric, accepted, against) for metric in metrics
        }
        return {metric: each for metric, each in found.items() if each is not None}

    def attempts(
        self,
        measurement: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        against: str,
    ) -> dict[str, Attempt]:
        """Which attempt each regression gate is at, by metric; ``against`` names what it is
        compared with. Raises :class:`~pytest_llmperf.store.StoreError`."""
        observations = self._remembered(measurement, expectation, accelerator)
        git = self._here.git()
        sequences = {
            gate.metric: sequence_of(gate, git, measurement.subject, against)
            for gate in expectation.regressions
        }
        return {metric: attempt_at(each, observations) for metric, each in sequences.items()}

    def nights(
        self,
        measurement: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        release: str,
        most_pairs: int,
    ) -> dict[str, Attempt]:
        """What sessions before left of the comparison of each gate with ``release``, by metric, of
        at most ``most_pairs`` pairs. Raises :class:`~pytest_llmperf.store.StoreError`."""
        observations = self._remembered(measurement, expectation, accelerator)
        theirs = measurement.reference.subject if measurement.reference is not None else {}
        return {
            gate.metric: attempt_after(
                sequence_with(release, gate, most_pairs, theirs), observations, most_pairs
            )
            for gate in expectation.regressions
        }

    def _remembered(
        self, measurement: Measurement, expectation: Expectation, accelerator: Accelerator
    ) -> list[Observation]:
        key = key_for(expectation, measurement, self._here.facts(accelerator))
        return self._held(self._open(), key)[0]

    def known_gates(self) -> list[Known]:
        """Every gate of every test that is remembered and not retired.

        Raises :class:`~pytest_llmperf.store.StoreError`.
        """
        try:
            store = self._open()
            return known_gates(store.observations(), store.levels())
        finally:
            self.close()

    def keep_launch(
        self,
        measurement: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        launch_id: str,
    ) -> None:
        """Append one launch of a test that goes on: a part of what :meth:`keep` will append.

        Raises :class:`~pytest_llmperf.store.StoreError`.
        """
        fresh = [each for each in launches_of(measurement) if each.launch_id == launch_id]
        if not fresh or (expectation.nodeid, launch_id) in self._kept:
            return
        whole = self._under_way.setdefault(expectation.nodeid, new_id())
        part = part_id(whole, launch_id)
        self._append(
            self._observation(part, measurement, expectation, accelerator, fresh, part_of=whole)
        )

    def keep(
        self,
        measurement: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        verdicts: Sequence[Verdict],
        attempts: Mapping[str, Attempt],
    ) -> None:
        """Append what was measured, green or red, and accept it where that was asked for.

        Raises :class:`~pytest_llmperf.store.StoreError`.
        """
        launches = launches_of(measurement)
        fresh = tuple(
            each for each in launches if (expectation.nodeid, each.launch_id) not in self._kept
        )
        if not fresh:
            return  # nothing was measured, or a test was run again on what was measured before
        self._kept |= {(expectation.nodeid, each.launch_id) for each in launches}
        observation = self._observation(
            self._under_way.pop(expectation.nodeid, "") or new_id(),
            measurement,
            expectation,
            accelerator,
            fresh,
            verdicts=verdicts,
            judged=[_judged(verdict, attempts, measurement) for verdict in verdicts],
        )
        store = self._append(observation)
        if self._update and verdicts and all(_may_move_the_level(each) for each in verdicts):
            self._accept(store, observation)

    def _observation(
        self,
        id_: str,
        measurement: Measurement,
        expectation: Expectation,
        accelerator: Accelerator,
        launches: Sequence[LaunchValues],
        **more: Any,
    ) -> Observation:
        """What is kept of ``launches``, here and now; ``more`` as ``observation_of`` has it."""
        facts, git = self._here.facts(accelerator), self._here.git()
        return observation_of(
            id_, measurement, expectation, accelerator, launches, facts=facts, git=git, **more
        )

    def _append(self, observation: Observation) -> Store:
        """Append to the store, or, where that fails, to one in the temporary directory."""
        self._read.clear()
        try:
            store = self._open()
            store.append(observation)
        except StoreError as error:
            raise StoreError(f"{error} {self._rescue.keep(observation)}") from error
        return store

    def _accept(self, store: Store, newest: Observation) -> None:
        level, kept = _newest(store.levels(newest.key)), store.observations(newest.key)
        # Added to what it rests on: a level never becomes too small to be judged by.
        sessions = (*resting_on(level, kept), *since(level, kept))[-MOST_SESSIONS:]
        store.accept(
            Level(
                id=new_id(),
                key=newest.key,
                created=clock.stamp().isoformat(),
                observations=tuple(each.id for each in sessions),
                reason=UPDATE_REASON,
                author=self._here.git().get("author") or "",
                commit=newest.commit,
            )
        )

    def close(self) -> None:
        self._read.clear()
        for store in (self._store, self._accepted):
            if store is not None:
                store.close()
        self._store = self._accepted = None

    def _open_accepted(self) -> Store:
        """The store whose levels count."""
        if self._levels_at is None:
            return self._open()
        if self._accepted is None:
            self._accepted = open_store(str(self._levels_at), self._here.directory)
        return self._accepted

    def _open(self) -> Store:
        if self._store is None:
            self._store = open_store(self._where, self._here.directory)
        return self._store


def _judged(verdict: Verdict, attempts: Mapping[str, Attempt], measurement: Measurement) -> Judged:
    attempt = attempts.get(verdict.metric) if verdict.kind == "regression" else None
    if attempt is not None and attempt.nights is not None:
        return judged_after(verdict, attempt, attempt.nights, measurement.comparison)
    return Judged(
        kind=verdict.kind,
        metric=verdict.metric,
        verdict=verdict.verdict,
        sequence=attempt.sequence if attempt else "",
    )


def _may_move_the_level(verdict: Verdict) -> bool:
    """Only what passed; and what is still being learnt, which has no level to lose."""
    return verdict.verdict == "pass" or verdict.reason_code == "learning"


def _newest(levels: Sequence[Level]) -> Level | None:
    return levels[-1] if levels else None
