"""What launches without a valid run do to a comparison that went on without them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import comb

from pytest_llmperf.records import Verdict

from .sentences import changed_by

#: So rarely would chance put so many more of them on the candidate's side.
_CHANCE = 0.05


def with_left_out(
    verdict: Verdict,
    candidate: int,
    reference: int,
    reasons: Sequence[str],
    of: str = "launches",
) -> Verdict:
    """``verdict`` where so many launches of each side gave no valid run, for ``reasons``.

    A pass, or noise, stands on what was left: where chance alone hardly puts so many of them on
    the candidate's side it is not covered, for the candidate itself may be why. A comparison that
    ran out of pairs because of them is not covered either, unless only the load client was too
    slow. ``of`` is what launches are called.
    """
    if not candidate + reference:
        return verdict
    told = (
        f"{candidate + reference} {of} without a valid run were left out, {candidate} of the "
        f"candidate ({'; '.join(reasons) or 'see the report'})"
    )
    code = verdict.reason_code
    if verdict.verdict != "fail" and _at_least(candidate, candidate + reference) <= _CHANCE:
        return _not_covered(verdict, "candidate_invalid", told)
    client_bound = bool(reasons) and all(why.startswith("client-bound") for why in reasons)
    if code == "budget" and not client_bound:
        return _not_covered(verdict, "invalid_pairs", told)
    return replace(verdict, reason=f"{verdict.reason}; {told}")


def beside_invalid(verdict: Verdict, loss: float | None) -> Verdict:
    """``verdict`` with the ``loss`` that all runs together would show, those that did not count
    included; as it is where that is not known. It decides nothing."""
    if loss is None or verdict.loss is None:
        return verdict
    told = f"with the runs that did not count: {changed_by(verdict.metric, loss)}"
    return replace(verdict, loss_with_invalid=loss, reason=f"{verdict.reason}; {told}")


def _not_covered(verdict: Verdict, code: str, told: str) -> Verdict:
    return replace(
        verdict,
        verdict="inconclusive",
        reason_code=code,
        covered=False,
        reason=f"not judged: {told}; {verdict.reason}",
    )


def _at_least(count: int, of: int) -> float:
    """The chance of so many heads or more."""
    return float(sum(comb(of, k) for k in range(count, of + 1)) / 2**of)
