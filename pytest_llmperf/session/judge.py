"""Asking the gates: a test's declarations and what was measured, turned into verdicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from pytest_llmperf.accelerators.names import match_rank
from pytest_llmperf.errors import GateError, Inconclusive, LimitMissed, Regressed
from pytest_llmperf.expectations import Expectation
from pytest_llmperf.gates.failures import fail_for_requests, failures_exceed, failures_recur
from pytest_llmperf.gates.history import LEARNING, judge_history
from pytest_llmperf.gates.left_out import beside_invalid, with_left_out
from pytest_llmperf.gates.limits import judge_limit
from pytest_llmperf.gates.regression import Pair, judge_ab, loss_of
from pytest_llmperf.gates.select import Selection, select_limits
from pytest_llmperf.gates.verdict import is_red, message, no_comparison, verdict_for, worst_first
from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.cost import METRIC as COST
from pytest_llmperf.records import Accelerator, Limit, MetricValue, RegressionGate, Verdict
from pytest_llmperf.store import StoreError

from .attempts import Attempt, Nights
from .comparison import SHARE_OF_LOOKS, Comparison, Refusal
from .measurement import Measurement, by_launch
from .past import Past

_NO_REFERENCE = (
    "nothing to compare with: name a reference with --llmperf-reference-python, "
    "--llmperf-reference-args, --llmperf-reference-url or llm_server(reference={...}), or remember "
    "levels with --llmperf-store"
)
_NO_RELEASE = (
    "nothing to compare with: --llmperf-anchor names {}, and no reference says how to start it; "
    "add --llmperf-reference-python, --llmperf-reference-args or --llmperf-reference-url"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What a judge knows beside the numbers: the family of gates and the assumed noise."""

    family: int
    family_alpha: float
    launch_cv: float
    strict: bool
    #: The named release that comparisons go on with night by night; "" where none.
    release: str = ""


def judge(
    expectation: Expectation,
    measurement: Measurement,
    accelerator: Accelerator,
    bench: Bench,
    past: Past | StoreError | None = None,
    attempts: Mapping[str, Attempt] | None = None,
) -> list[Verdict]:
    """Every gate of a test, decided; the worst first. ``past`` is what is remembered of it, or why
    the memory cannot be read; ``attempts`` are those of regression gates, by metric."""
    selection = select_here(expectation, accelerator)
    verdicts = [*selection.missing]
    verdicts += [_judge_one(limit, measurement, accelerator, bench) for limit in selection.limits]
    verdicts += [
        _attempted(gate, measurement, accelerator, bench, past, (attempts or {}).get(gate.metric))
        for gate in expectation.regressions
    ]
    return worst_first([_with_price(verdict, measurement) for verdict in verdicts])


def _with_price(verdict: Verdict, measurement: Measurement) -> Verdict:
    """What there is to know about the price, such as its age, with the cost."""
    if verdict.metric != COST or verdict.observed is None:
        return verdict
    prices = (run.telemetry.price for run in measurement.runs if run.telemetry)
    note = next((price.note for price in prices if price is not None), "")
    return replace(verdict, reason=f"{verdict.reason}; {note}") if note else verdict


def _attempted(
    gate: RegressionGate,
    measurement: Measurement,
    accelerator: Accelerator,
    bench: Bench,
    past: Past | StoreError | None,
    attempt: Attempt | None,
) -> Verdict:
    """Judged with what is left of the false-alarm rate after earlier sessions' decisions."""
    if attempt is None:
        return _judge_regression(gate, measurement, accelerator, bench, past, None)
    left = replace(bench, family_alpha=attempt.share(bench.family_alpha))
    verdict = _judge_regression(gate, measurement, accelerator, left, past, attempt.nights)
    return attempt.told(verdict)


def _judge_regression(
    gate: RegressionGate,
    measurement: Measurement,
    accelerator: Accelerator,
    bench: Bench,
    past: Past | StoreError | None,
    nights: Nights | None,
) -> Verdict:
    if measurement.comparison is not None:
        compared = measurement.comparison
        return _judge_duel(gate, measurement, compared, accelerator, bench, nights)
    if bench.release:
        return no_comparison(gate, "no_reference", _NO_RELEASE.format(bench.release), covered=False)
    if past is None:
        return no_comparison(gate, "no_reference", _NO_REFERENCE, covered=False, mode="history")
    if isinstance(past, StoreError):
        return no_comparison(gate, "store_broken", str(past), covered=False, mode="history")
    return _judge_history(gate, measurement, past, accelerator, bench)


def _judge_history(
    gate: RegressionGate,
    measurement: Measurement,
    past: Past,
    accelerator: Accelerator,
    bench: Bench,
) -> Verdict:
    if past.refused is not None:
        return no_comparison(gate, "environment", past.refused, covered=False, mode="history")
    if past.level is None and past.sessions < LEARNING:
        told = f"LEARNING {past.sessions + 1}/{LEARNING}: this session is remembered and judges "
        told += f"nothing; accept a level of {LEARNING} sessions (pytest-llmperf baseline accept)"
        return no_comparison(gate, "learning", told, covered=True, mode="history")
    if past.level is None:
        told = f"no accepted level, though {past.sessions} sessions are remembered: move it with "
        told += f"pytest-llmperf baseline accept {past.key} --reason TEXT"
        return no_comparison(gate, "no_level", told, covered=False, mode="history")
    if (refused := past.held(gate, measurement.subject)) is not None:
        return no_comparison(gate, refused.code, refused.reason, covered=False, mode="history")
    if why := failures_recur(measurement.runs):
        return fail_for_requests(gate, why, accelerator.product, mode="history")
    judged = partial(
        judge_history,
        gate,
        accepted=past.launches(gate.metric),
        alpha=bench.family_alpha,
        family=bench.family,
        device=accelerator.product,
        against=past.against,
        changed=past.changed,
        invalid_reasons=measurement.invalid_reasons,
    )
    verdict = judged(measurement.by_launch(gate.metric))
    if measurement.valid_runs == measurement.runs:
        return verdict
    return beside_invalid(verdict, judged(by_launch(measurement.runs, gate.metric)).loss)


def _judge_duel(
    gate: RegressionGate,
    measurement: Measurement,
    compared: Comparison,
    accelerator: Accelerator,
    bench: Bench,
    nights: Nights | None,
) -> Verdict:
    if nights is not None and nights.missing:
        return no_comparison(gate, "sequence_lost", _lost(nights, bench), covered=False)
    if (refused := compared.refused(gate)) is not None:
        return no_comparison(gate, refused.code, refused.reason, covered=refused.covered)
    theirs = measurement.reference.runs if measurement.reference is not None else ()
    if why := failures_recur(theirs):
        reason = f"the reference failed, so there is nothing to compare with: {why}"
        return no_comparison(gate, "reference_failed", reason, covered=False)
    share = bench.family_alpha / bench.family
    design = replace(compared.design(gate), alpha=SHARE_OF_LOOKS * share)
    if why := failures_recur(measurement.runs) or failures_exceed(
        measurement.runs, theirs, (1 - SHARE_OF_LOOKS) * share
    ):
        return fail_for_requests(gate, why, accelerator.product)
    if design.fewest_to_fail is None:
        blind = Refusal.blind(design.most_pairs, share, compared.of)
        return no_comparison(gate, blind.code, blind.reason, covered=blind.covered)
    verdict = judge_ab(
        gate,
        _with_earlier(nights, compared.pairs(gate.metric)),
        design,
        device=accelerator.product,
        against=compared.against,
        alpha=bench.family_alpha,
        family=bench.family,
        prior=compared.priors.get(gate.metric),
        changed=compared.changed,
        invalid_reasons=measurement.invalid_reasons,
        since="" if nights is None else nights.since or "today",
        of=compared.of,
    )
    if (prior := compared.priors.get(gate.metric)) is not None:
        verdict = replace(verdict, prior_sigma=prior.sigma, prior_df=prior.df)
    verdict = beside_invalid(verdict, _loss_with_invalid(gate, verdict, compared, nights))
    left_out, reasons = compared.left_out, measurement.invalid_reasons
    return with_left_out(
        verdict, left_out["candidate"], left_out["reference"], reasons, compared.of
    )


def _loss_with_invalid(
    gate: RegressionGate, verdict: Verdict, compared: Comparison, nights: Nights | None
) -> float | None:
    """What the pairs that decided would show with the runs that did not count, if there are any."""
    earlier = 0 if nights is None else len(nights.pairs)
    every = compared.with_invalid(gate.metric, max(0, verdict.n_pairs - earlier))
    pairs = _with_earlier(nights, every) if every else []
    return loss_of(pairs, units.row_of(gate.metric).direction)


def _with_earlier(nights: Nights | None, fresh: list[Pair]) -> list[Pair]:
    """This session's pairs after those that sessions before left; none where it has none itself,
    for a night on which nothing was measured is no quiet night."""
    if nights is None or not any(ours and theirs for ours, theirs in fresh):
        return fresh
    earlier = [
        ([MetricValue(value=ours)], [MetricValue(value=theirs)]) for ours, theirs in nights.pairs
    ]
    return [*earlier, *fresh]


def _lost(nights: Nights, bench: Bench) -> str:
    return (
        f"{nights.missing} of the earlier pairs with {bench.release} are gone from the store, so "
        "this sequence cannot be judged: restore them (from git, or the database's backup), or "
        "go on: this session's pairs begin a new one"
    )


def select_here(expectation: Expectation, accelerator: Accelerator) -> Selection:
    """The limits that hold on ``accelerator``; UsageMistake when two contradict each other."""
    return select_limits(
        expectation.limits,
        partial(match_rank, accelerator=accelerator),
        accelerator.product,
        remote=accelerator.vendor == "remote",
    )


def _judge_one(
    limit: Limit, measurement: Measurement, accelerator: Accelerator, bench: Bench
) -> Verdict:
    if why := failures_recur(measurement.runs):
        return fail_for_requests(limit, why, accelerator.product)
    return judge_limit(
        limit,
        measurement.by_launch(limit.metric),
        alpha=bench.family_alpha,
        family=bench.family,
        launch_cv=bench.launch_cv,
        device=accelerator.product,
        requests=measurement.workload.requests,
        invalid_reasons=measurement.invalid_reasons,
    )


def unmeasured(expectation: Expectation, error: BaseException | None) -> list[Verdict]:
    """The gates of a test that ended, in ``error`` or without one, before it was measured."""
    why = "the test ended without calling llm_perf.run()"
    if error is not None:
        why = f"{type(error).__name__} came first"
    gates: list[Limit | RegressionGate] = [*expectation.limits, *expectation.regressions]
    return [
        verdict_for(
            gate,
            "inconclusive",
            "never_measured",
            f"declared but never measured: {why} ({gate.source})",
            mode="history",
            covered=False,
        )
        for gate in gates
    ]


def error_for(verdicts: Sequence[Verdict], bench: Bench) -> GateError | None:
    """The exception that a test must end with, or ``None`` when no gate is red."""
    red = [verdict for verdict in verdicts if is_red(verdict, strict=bench.strict)]
    if not red:
        return None
    worst = worst_first(red)[0]
    kind: type[GateError] = Inconclusive
    if worst.verdict == "fail":
        kind = Regressed if worst.kind == "regression" else LimitMissed
    return kind(message(red), verdicts=worst_first(red))
