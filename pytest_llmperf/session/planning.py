"""What a session would launch and which losses its gates could see, told before anything starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.gates.design import FEWEST_PAIRS, design_for
from pytest_llmperf.gates.power import MOST_PAIRS, detectable_loss, pairs_needed
from pytest_llmperf.metrics.units import format_number, spoken
from pytest_llmperf.records import (
    MERGE_BASE,
    NoiseProfile,
    RegressionGate,
    ServerRequest,
    Workload,
)
from pytest_llmperf.redact import redact_text

from .comparison import described
from .duration import Pace, no_time, pace_of

#: Metrics whose noise is told of beside those that gates name.
USUAL = ("output_throughput", "ttft_p50", "tpot_mean", "e2e_mean")
#: The least loss to catch, so that nothing but the noise bounds what is in reach.
_ANY_LOSS = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What the collected tests ask of one server; ``gates`` are its regression gates."""

    request: ServerRequest
    workloads: Sequence[Workload]
    gates: Mapping[Workload, Sequence[RegressionGate]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Premises:
    """What a plan rests on: ``noise`` is what a calibration found of a server and a workload, else
    ``assumed_sigma`` is taken for the spread of a pair's log ratio."""

    launches: int
    most_pairs: int
    family: int
    family_alpha: float
    assumed_sigma: float
    noise: Callable[[ServerRequest, Workload], NoiseProfile | None]
    #: Whether there is a store to find accepted levels in.
    remembers: bool = True
    #: The release that a sequence of nights goes on with.
    release: str = ""
    #: Whether both launches of a pair are up at once.
    side_by_side: bool = False
    budget_s: float | None = None
    #: How many devices a request runs on.
    devices: Callable[[ServerRequest], int] = lambda _: 1
    #: Raises UsageMistake for a server that cannot be launched here.
    check: Callable[[ServerRequest], None] = lambda _: None
    #: The same for one that cannot be up at once with what it is compared with.
    check_beside: Callable[[ServerRequest], None] = lambda _: None

    def pace(self, request: ServerRequest, workloads: Sequence[Workload]) -> Pace | None:
        """How long a launch takes, where calibrations of all its workloads know."""
        profiles = [self.noise(request, workload) for workload in workloads]
        return pace_of(profiles, self.devices(request))

    def sigma(self, request: ServerRequest, workload: Workload, metric: str) -> tuple[float, str]:
        """The spread of a pair's log ratio, and where it is from."""
        profile = self.noise(request, workload)
        if profile is None or metric not in profile.pair_sigma:
            return self.assumed_sigma, "assumed; --llmperf-calibrate finds out"
        return profile.pair_sigma[metric], f"calibrated on {profile.created[:10]}"


def plan_lines(asked: Sequence[Asked], premises: Premises) -> Iterator[str]:
    """The plan, for people. Raises UsageMistake after the last line where it has servers that
    cannot be launched here: the run would end in the same way."""
    servers = _count(len(asked), "server")
    gates = _count(premises.family, "gate")
    alarms = _percent(premises.family_alpha)
    yield f"plan: {servers}, {gates}; all gates together raise a false alarm in {alarms} of runs"
    mistaken = 0
    for one in asked:
        try:
            premises.check(one.request)
            lines = list(_server(one, premises))
        except UsageMistake as mistake:
            lines = [f"  {_name(one.request)}: CANNOT BE LAUNCHED: {mistake}"]
            mistaken += 1
        yield from lines
    if mistaken:
        unfit = _count(mistaken, "server")
        raise UsageMistake(f"--llmperf-plan: {unfit} cannot be launched here, as the plan says.")


def _name(request: ServerRequest) -> str:
    where = request.model or redact_text(request.url or "")
    return " | ".join(part for part in (request.engine, where) if part)


def _server(one: Asked, premises: Premises) -> Iterator[str]:
    request = one.request
    duel = request.reference is not None and bool(one.gates)
    if duel and premises.side_by_side:
        premises.check_beside(request)
    name = _name(request)
    pace, budget_s = premises.pace(request, one.workloads), premises.budget_s
    if duel and pace is not None and budget_s is not None and not premises.release:
        most = min(premises.most_pairs, pace.affordable(budget_s))
        if most < FEWEST_PAIRS:
            yield f"  {name}: {no_time(pace, budget_s)}"
            return
        premises = replace(premises, most_pairs=most)
    yield f"  {name}: {_launches(premises, request, pace, duel=duel)}"
    if duel and request.reference is not None:
        yield f"    compared with {_reference(request.reference, request)}"
    for workload in one.workloads:
        load = (
            f"{workload.requests} requests" if workload.requests else f"{workload.duration_s:g} s"
        )
        shape = f"{workload.input_tokens}/{workload.output_tokens}"
        at = f"x{workload.concurrency}" if workload.concurrency else "open loop"
        runs = _count(workload.runs, "run")
        yield f"    {workload.name} {shape} {at}: {runs} of {load} on each launch"
        for gate in one.gates.get(workload, ()):
            sigma = premises.sigma(request, workload, gate.metric)
            yield f"      {_gate(gate, premises, *sigma, duel=duel)}"


def _launches(premises: Premises, request: ServerRequest, pace: Pace | None, *, duel: bool) -> str:
    attached, most = request.url is not None, premises.most_pairs

    def time_of(fewest: int, most: int) -> str:
        return "" if pace is None else f", {pace.told(fewest, most)}"

    if not duel:
        launches = premises.launches
        return (
            "attached, no launch"
            if attached
            else f"{_count(launches, 'launch', 'launches')}{time_of(launches, launches)}"
        )
    if premises.release:
        return (
            f"2 launches to warm up, then 4 launches{time_of(6, 6)}: two more of at most {most} "
            f"pairs with {premises.release}, kept from session to session"
        )
    if attached and request.reference is not None and request.reference.url is not None:
        pairs = f"{FEWEST_PAIRS} to {most} pairs of measurements in turns"
        return f"attached like its reference, no launch; {pairs}"
    fewest, most_launches = 2 * FEWEST_PAIRS + 2, 2 * most + 2
    return (
        f"2 launches to warm up, then {FEWEST_PAIRS} to {most} pairs of launches"
        f"{', two at a time' if premises.side_by_side else ''} "
        f"({fewest} to {most_launches} launches in all{time_of(fewest, most_launches)})"
    )


def _reference(reference: ServerRequest, request: ServerRequest) -> str:
    name = "the merge base" if reference.python == MERGE_BASE else ""
    return described(reference, request, None, name=name)


def reach(metric: str, sigma: float, premises: Premises) -> float | None:
    """The loss of a metric that a comparison would fail 9 times in 10; ``None`` where none."""
    gate = RegressionGate(metric=metric, loss_to_catch=_ANY_LOSS, allow=0.0, source="")
    alpha = premises.family_alpha / premises.family
    found = detectable_loss(design_for(gate, alpha=alpha, max_pairs=premises.most_pairs), sigma)
    return found if math.isfinite(found) else None


def _gate(
    gate: RegressionGate, premises: Premises, sigma: float, from_where: str, *, duel: bool
) -> str:
    wished = f"{spoken(gate.metric)}: catch a loss of {_percent(gate.loss_to_catch)}"
    if not duel and not premises.remembers:
        return f"{wished}: NOTHING TO COMPARE WITH, neither a reference nor a store"
    if not duel:
        return f"{wished}, against the accepted level"
    alpha = premises.family_alpha / premises.family
    design = design_for(gate, alpha=alpha, max_pairs=premises.most_pairs)
    least = detectable_loss(design, sigma)
    told = f"{_percent(least)} is in reach" if math.isfinite(least) else "nothing is in reach"
    noise = f"if pairs differ by {_percent(sigma)} ({from_where})"
    if least <= gate.loss_to_catch:
        return f"{wished}; {told} {noise}"
    needed = pairs_needed(design, sigma)
    more = f"it would take {needed} pairs" if needed else f"{MOST_PAIRS} pairs would not do"
    return f"{wished}: OUT OF REACH, {told} {noise}; {more}"


def _percent(fraction: float) -> str:
    return f"{format_number(fraction * 100, digits=2)} %"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
