"""Two servers that take turns on one device until every gate between them is decided.

Launches go in blocks of four, candidate, reference, reference, candidate or the other way round,
drawn for each block, so that what drifts on the machine falls on both sides alike. Neighbours of
different sides make a pair. Every workload that still has an undecided gate is measured on each
launch. The first launch of each side is warm-up: it fills caches on disk and is not compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from pytest_llmperf import clock
from pytest_llmperf.errors import ClientError, ServerError
from pytest_llmperf.gates.comparable import differences, told
from pytest_llmperf.gates.design import FEWEST_PAIRS, Design, Prior, design_for
from pytest_llmperf.gates.regression import Pair, state_of
from pytest_llmperf.launch.subject import same_subject
from pytest_llmperf.records import MetricValue, RegressionGate, Run, Side, Workload

from .block import Block
from .comparison import SHARE_OF_LOOKS, Comparison, Refusal, described
from .device import check_as_many, on_others
from .measurement import Measurement

#: Pairs beyond the last look that may stand in for invalid ones.
_SPARE_PAIRS = 4
#: Of one side, by the number of the pair.
_Values = dict[int, list[MetricValue]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What is fixed before the first launch.

    ``alpha`` is the share of one gate. ``most_pairs`` is even; ``budget_s`` bounds the time of all
    launches of a duel. ``seed`` decides the order of launches. With ``one_block`` there is one
    block of launches and no more: earlier sessions had theirs, and later ones will. With
    ``side_by_side`` both launches of a pair are up at once, and take turns run by run.
    """

    alpha: float
    most_pairs: int
    budget_s: float | None
    compare_with_itself: bool
    seed: int
    one_block: bool = False
    side_by_side: bool = False


@dataclass(slots=True, kw_only=True)
class Duel:
    """The candidate and the reference of one request, and the gates between them."""

    candidate: Block
    reference: Block
    gates: Mapping[Workload, Sequence[RegressionGate]]
    rules: Rules
    #: The spread of pairs that a calibration found, by metric.
    priors: Callable[[Workload], Mapping[str, Prior]]
    #: What the reference is known by, where its command line does not say it.
    name: str = ""
    #: What it is released as, where it stays the same from session to session.
    release: str = ""
    _against: str = ""
    _changed: tuple[str, ...] = ()
    _refusal: Refusal | None = None
    _held: dict[RegressionGate, Refusal] = field(default_factory=dict)
    _begun: bool = False
    _failure: ServerError | None = None
    _troubles: dict[Workload, ServerError | ClientError] = field(default_factory=dict)
    _known: dict[Workload, Mapping[str, Prior]] = field(default_factory=dict)
    _most_pairs: int = 0
    _launched_pairs: int = 0
    _since: clock.Stopwatch | None = None

    def __post_init__(self) -> None:
        if self.rules.side_by_side:
            check_as_many(self.candidate.device.allotment, self.reference.device.allotment)

    def concerns(self, workload: Workload) -> bool:
        """Whether a gate of ``workload`` asks for the reference."""
        return bool(self.gates.get(workload))

    def measure(self, workload: Workload) -> Measurement:
        """Launch both in turn until the gates of ``workload`` are decided.

        Raises :class:`~pytest_llmperf.errors.ServerError` when either server breaks.
        """
        if (known := self._failure or self._troubles.get(workload)) is not None:
            raise known
        try:
            self._begin()
            while self._goes_on(workload):
                self._two_pairs(workload)
        finally:
            self.close()
        return self._result(workload)

    @property
    def _of(self) -> Literal["launches", "visits"]:
        """What a pair is made of."""
        both = self.candidate.attached and self.reference.attached
        return "visits" if both else "launches"

    def close(self) -> None:
        """End the reference, and with it a candidate that shares the device with it."""
        if self.rules.side_by_side:
            self._close_both()
        else:
            self.reference.close()

    def _close_both(self) -> None:
        # The lock of the device goes last.
        for block in sorted(
            (self.candidate, self.reference), key=lambda each: each.device.has_lock
        ):
            block.close()

    # --- the course of it -------------------------------------------------------------------

    def _begin(self) -> None:
        if self._begun:
            return
        self.reference.device.like = self.candidate.device
        if self.rules.side_by_side:
            self.candidate.device.beside = self.reference.device
            self.reference.device.beside = self.candidate.device
        try:
            self._warm_up()
        except ServerError as error:
            # It would fail every test of the block, after as long a wait each time.
            self._failure = error
            raise
        self._begun = True
        self._since = clock.Stopwatch()

    def _warm_up(self) -> None:
        """The first launch of each side, by which everything else is planned."""
        seconds = 0.0
        subjects = []
        for block in (self.candidate, self.reference):
            if block is self.reference:
                self.candidate.close()
            block.stage = f"warm-up {'visit' if block.attached else 'launch'} of the {block.side}"
            seconds += self._warmed(block)
            subjects.append(block.subject)
        self._against = described(
            self.reference.request,
            self.candidate.request,
            self.reference.open().identity.version,
            name=self.name,
        )
        if self.release:
            self._against = f"{self.release} ({self._against})"
        one, other = subjects
        self._refuse(same=same_subject(one, other))
        self._changed = told(differences(one, other))
        for gate in (gate for gates in self.gates.values() for gate in gates):
            if (why := Refusal.held(gate, one, other, self._against, "ab")) is not None:
                self._held[gate] = why
        if self._of == "visits":
            self._against += " (both run already: the luck of their one launch is in the result)"
        self._plan(seconds)
        self.reference.close()
        self.candidate.stage = ""

    def _refuse(self, *, same: bool) -> None:
        """What is not comparable whatever a gate asks; ``same`` is whether both run the same."""
        if self.candidate.attached != self.reference.attached:
            self._refusal = Refusal.unlike(self._against)
        elif (apart := on_others(self.candidate.device, self.reference.device)) is not None:
            self._refusal = Refusal.elsewhere(self._against, *apart)
        elif same:
            self._against += ", which runs the same"
            if not self.rules.compare_with_itself:
                self._refusal = Refusal.identical(self._against)

    def _warmed(self, block: Block) -> float:
        """Seconds that a launch will take; what ails one workload is for its own test to tell."""
        seconds = block.open().record.startup_time_s or 0.0
        for workload in self.gates:
            try:
                seconds += block.warm_up(workload)
            except (ServerError, ClientError) as error:
                self._troubles.setdefault(workload, error)
                block.open().check()
        return seconds

    def _plan(self, seconds_per_pair: float) -> None:
        """How many pairs there may be: declared now, before any figure was seen."""
        self._most_pairs = self.rules.most_pairs
        self._known = {workload: self.priors(workload) for workload in self.gates}
        if self._refusal is not None:
            return
        if self.rules.budget_s is not None:
            self._refusal = self._fitted(self.rules.budget_s, seconds_per_pair)
        gates = [gate for each in self.gates for gate in self._open_gates(each)]
        if self._refusal is None and any(self._design(g).fewest_to_fail is None for g in gates):
            self._refusal = Refusal.blind(self._most_pairs, self.rules.alpha, self._of)

    def _fitted(self, budget_s: float, seconds_per_pair: float) -> Refusal | None:
        """As many pairs as there is time for, or why there is too little."""
        affordable = int(budget_s / seconds_per_pair) // 2 * 2
        fewest = 2 if self.rules.one_block else FEWEST_PAIRS
        if affordable < fewest:
            return Refusal.too_expensive(budget_s, seconds_per_pair, fewest, self._of)
        if not self.rules.one_block:
            self._most_pairs = min(self._most_pairs, affordable)
        return None

    def _goes_on(self, workload: Workload) -> bool:
        if self._refusal is not None or self._launched_pairs >= self._most_pairs + _SPARE_PAIRS:
            return False
        if self._out_of_time():
            return False
        if not self._open_gates(workload):
            return False
        if self.rules.one_block and self._launched_pairs:
            return self._launched_pairs <= _SPARE_PAIRS and not self._has_a_pair(workload)
        return self._undecided(workload)

    def _out_of_time(self) -> bool:
        """Whether the launches took longer than those to warm up let expect, and the budget is
        gone; what is undecided then stays so."""
        budget_s = self.rules.budget_s
        return budget_s is not None and self._since is not None and self._since.elapsed > budget_s

    def _has_a_pair(self, workload: Workload) -> bool:
        return all(self.pairs(workload, gate.metric) for gate in self._open_gates(workload))

    def _open_gates(self, workload: Workload) -> list[RegressionGate]:
        """Those that are not refused for what their tests hold fixed."""
        return [gate for gate in self.gates.get(workload, ()) if gate not in self._held]

    def _undecided(self, workload: Workload) -> bool:
        states = (
            state_of(
                gate,
                self.pairs(workload, gate.metric),
                self._design(gate),
                self._known.get(workload, {}).get(gate.metric),
            )
            for gate in self._open_gates(workload)
        )
        return any(state.word is None for state in states)

    def _two_pairs(self, mine: Workload) -> None:
        """Four launches: two pairs, for every workload that needs them."""
        wanted = [each for each in self.gates if each == mine or self._undecided(each)]
        order = list(self._order())
        self._launched_pairs += 2  # also where a launch fails: a pair is never begun twice
        if self.rules.side_by_side:
            for at in (0, 2):
                (one, pair), (other, _) = order[at : at + 2]
                self._beside_each_other((one, other), pair, wanted, mine)
        else:
            for side, pair in order:
                self._alone(side, pair, wanted, mine)
        self.candidate.stage = ""

    def _alone(self, side: Side, pair: int, wanted: Sequence[Workload], mine: Workload) -> None:
        """One launch, with the device to itself until it ends."""
        block = self._side(side)
        self._only(block)
        block.stage = self._stage(side, pair)
        for workload in wanted:
            self._measure(block, workload, pair, is_mine=workload == mine)

    def _beside_each_other(
        self, sides: tuple[Side, Side], pair: int, wanted: Sequence[Workload], mine: Workload
    ) -> None:
        """Both launches of a pair, of which one is held still while the other is measured: what
        changes on the machine from run to run falls on both alike."""
        self._close_both()
        for side in sides:
            block = self._side(side)
            block.stage = self._stage(side, pair)
            block.open()
            block.freeze()
        for workload in wanted:
            for turn in range(workload.runs):
                for side in sides if turn % 2 == 0 else sides[::-1]:
                    block = self._side(side)
                    block.thaw()
                    self._measure(block, workload, pair, is_mine=workload == mine, turn=turn)
                    block.freeze()

    def _stage(self, side: Side, pair: int) -> str:
        most = self._most_pairs + (_SPARE_PAIRS if pair >= self._most_pairs else 0)
        return f"pair {pair + 1}/≤{most}, {side}"

    def _order(self) -> Iterator[tuple[Side, int]]:
        first = self._launched_pairs
        draw = random.Random(f"{self.rules.seed} {first}")
        sides: list[Side] = ["candidate", "reference"]
        one, other = draw.sample(sides, 2)
        yield from ((one, first), (other, first), (other, first + 1), (one, first + 1))

    def _measure(
        self,
        block: Block,
        workload: Workload,
        pair: int,
        *,
        is_mine: bool,
        turn: int | None = None,
    ) -> None:
        try:
            block.measure_pair(workload, pair, turn)
        except (ServerError, ClientError) as error:
            if is_mine:
                raise
            # A dead server is everyone's; other trouble with this workload its own test tells.
            self._troubles.setdefault(workload, error)
            block.open().check()

    def _only(self, block: Block) -> None:
        """End whatever runs: each measured launch is a fresh one."""
        self.candidate.close()
        self.reference.close()
        block.open()

    def _side(self, side: Side) -> Block:
        return self.candidate if side == "candidate" else self.reference

    # --- what came of it --------------------------------------------------------------------

    def pairs(self, workload: Workload, metric: str) -> list[Pair]:
        """Values of the valid runs of both launches of a pair, for the pairs that have both."""
        ours, theirs = self._sides_of(workload, metric)
        return [(ours[pair], theirs[pair]) for pair in sorted(ours.keys() & theirs.keys())]

    def _design(self, gate: RegressionGate) -> Design:
        alpha = SHARE_OF_LOOKS * self.rules.alpha
        return design_for(gate, alpha=alpha, max_pairs=self._most_pairs)

    def _with_invalid(self, workload: Workload, metric: str, count: int) -> list[Pair]:
        """The first ``count`` pairs with the runs that did not count, and those in between that
        only such runs make whole; none where every run of them counted."""
        counted = set.intersection(*map(set, self._sides_of(workload, metric)))
        last = max(sorted(counted)[:count], default=-1)
        ours, theirs = self._sides_of(workload, metric, valid=False)
        within = [pair for pair in sorted(ours.keys() & theirs.keys()) if pair <= last]
        every: list[Pair] = [(ours[pair], theirs[pair]) for pair in within]
        return every if every != self.pairs(workload, metric)[:count] else []

    def _sides_of(self, workload: Workload, metric: str, *, valid: bool = True) -> list[_Values]:
        sides = (self.candidate, self.reference)
        return [_by_pair(block.runs(workload), metric, valid=valid) for block in sides]

    def _left_out(self, workload: Workload) -> dict[Side, int]:
        """Launches of each side that were measured and gave no valid run."""
        return {
            "candidate": _without_valid(self.candidate.runs(workload)),
            "reference": _without_valid(self.reference.runs(workload)),
        }

    def _result(self, workload: Workload) -> Measurement:
        if not self.candidate.runs(workload):
            self.candidate.measure(workload)  # refused: limits are judged all the same
        mine = self.candidate.result(workload)
        return mine.beside(
            self.reference.result(workload) if self.reference.runs(workload) else None,
            Comparison(
                against=self._against,
                changed=self._changed,
                refusal=self._refusal,
                pairs=partial(self.pairs, workload),
                design=self._design,
                priors=self._known.get(workload, {}),
                left_out=self._left_out(workload),
                held=self._held,
                of=self._of,
                with_invalid=partial(self._with_invalid, workload),
            ),
        )


def _without_valid(runs: Sequence[Run]) -> int:
    paired = [run for run in runs if run.pair is not None]
    return len({run.launch_id for run in paired} - {run.launch_id for run in paired if run.valid})


def _by_pair(runs: Sequence[Run], metric: str, *, valid: bool) -> _Values:
    """The values of ``valid`` runs, or of all of them."""
    found: _Values = {}
    for run in runs:
        if (run.valid or not valid) and run.pair is not None:
            value = run.metrics.get(metric, MetricValue(value=None))
            found.setdefault(run.pair, []).append(value)
    return found
