"""What a verdict means: which are red, which is worst, and the lines people read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pytest_llmperf.metrics import units
from pytest_llmperf.records import Limit, RegressionGate, Verdict, VerdictWord


def is_red(verdict: Verdict, strict: bool) -> bool:
    """Whether a verdict fails its test: a failure, a hole in coverage, noise under ``strict``."""
    if verdict.verdict == "inconclusive":
        return strict or not verdict.covered
    return verdict.verdict == "fail"


def worst_first(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Failures by size, then gates that were not covered, then noise, then passes."""
    return sorted(verdicts, key=_badness)


def _badness(verdict: Verdict) -> tuple[int, float]:
    if verdict.verdict == "fail":
        return 0, -abs(math.inf if verdict.difference is None else verdict.difference)
    if verdict.verdict == "pass":
        return 3, 0.0
    return (2, 0.0) if verdict.covered else (1, 0.0)


def headline(verdict: Verdict) -> str:
    """One line that begins with the verdict: a failure's reason, else the word and the reason."""
    if verdict.verdict == "fail":
        return verdict.reason
    word = verdict.verdict if verdict.covered else "not covered"
    return f"{word}: {verdict.reason}"


def message(verdicts: Sequence[Verdict]) -> str:
    """The worst gate's headline, how many others did not pass, then a line for each other gate.

    Raises :class:`ValueError` when there is no verdict to tell of.
    """
    if not verdicts:
        raise ValueError("no verdicts")
    worst, *others = worst_first(verdicts)
    more = sum(other.verdict != "pass" for other in others)
    first = headline(worst) + (f" (+{more} more)" if more else "")
    return "\n".join([first, *(headline(other) for other in others)])


def verdict_for(
    gate: Limit | RegressionGate,
    word: VerdictWord,
    code: str,
    reason: str,
    *,
    mode: Literal["ab", "history"] = "ab",
    **more: Any,
) -> Verdict:
    """A verdict with all that the declaration itself says; ``mode`` is that of a regression gate,
    ``more`` are further fields of :class:`~pytest_llmperf.records.Verdict`."""
    declared: dict[str, Any]
    if isinstance(gate, Limit):
        declared = {"kind": gate.kind, "mode": "limits", "limit": gate.limit}
    else:
        declared = {"kind": "regression", "mode": mode, "allow": gate.allow}
        declared["loss_to_catch"] = gate.loss_to_catch
    return Verdict(
        metric=gate.metric,
        unit=units.resolve(gate.metric).unit,
        verdict=word,
        reason_code=code,
        reason=reason,
        source=gate.source,
        **{**declared, **more},
    )


def no_comparison(
    gate: RegressionGate,
    code: str,
    why: str,
    *,
    covered: bool,
    mode: Literal["ab", "history"] = "ab",
) -> Verdict:
    """The verdict of an ``llm_no_regression`` that had nothing to compare with: never a silent
    pass."""
    reason = f"{why} ({gate.source})"
    return verdict_for(gate, "inconclusive", code, reason, mode=mode, covered=covered)
