"""Whether what was compared also says the same: what was found, and what it does to gates."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_llmperf.gates.quality import (
    Answers,
    Outputs,
    answers_line,
    compare_answers,
    compare_outputs,
    outputs_line,
    text_lines,
)
from pytest_llmperf.gates.verdict import worst_first
from pytest_llmperf.metrics.units import spoken
from pytest_llmperf.records import Fingerprint, Reply, Verdict
from pytest_llmperf.settings import QualityMode
from pytest_llmperf.store import StoreError

from .measurement import Measurement

if TYPE_CHECKING:
    from .past import Past

_REFUSED = (
    "its outputs could not be compared: {who} refuses the fixed prompts (by /v1/chat/completions "
    "and /v1/completions); drop --llmperf-quality=fail to compare speed alone"
)
_FORGOTTEN = (
    "its outputs could not be compared: the accepted level remembers none; accept one of newer "
    "sessions (pytest-llmperf baseline accept), or drop --llmperf-quality=fail"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What is known of one test's outputs.

    ``outputs`` is ``None`` where nothing could be compared, and ``missing`` says why; ``answers``
    is ``None`` where no questions were asked. ``texts`` says what sets the load's own responses
    apart, in words. ``lines`` is all that people should hear of; ``serious`` the part of it that
    may fail a test.
    """

    against: str
    outputs: Outputs | None
    missing: str
    answers: Answers | None
    texts: tuple[str, ...]
    lines: tuple[str, ...]
    serious: tuple[str, ...]


def assess(measured: Measurement, past: Past | None, *, alpha: float) -> Quality:
    """``measured`` beside the reference that it was compared with, else beside the accepted
    launches of ``past``. Raises :class:`~pytest_llmperf.store.StoreError` for those that cannot be
    read."""
    reference = measured.reference
    ours = list(measured.fingerprints.values())
    theirs = list(reference.fingerprints.values()) if reference else remembered(past)
    outputs = compare_outputs(ours, theirs)
    answers = None
    if measured.solved is not None:
        answers = compare_answers(measured.solved, reference.solved if reference else None)
    said = outputs_line(outputs) if outputs else None
    solved = answers_line(answers, alpha) if answers else None
    texts = _texts(measured, reference) if reference else ()
    sure = said if outputs and outputs.sure else None
    return Quality(
        against=_against(measured, past),
        outputs=outputs,
        missing="" if outputs else _missing(ours, reference),
        answers=answers,
        texts=texts,
        lines=tuple(line for line in (said, solved, *texts) if line),
        serious=tuple(line for line in (sure, solved) if line),
    )


def _against(measured: Measurement, past: Past | None) -> str:
    if measured.comparison is not None:
        return measured.comparison.against
    return past.against if past else ""


def _missing(ours: Sequence[Fingerprint], reference: Measurement | None) -> str:
    if not ours:
        return _REFUSED.format(who="the server")
    return _REFUSED.format(who="the reference") if reference else _FORGOTTEN


# --- remembered ------------------------------------------------------------------------------


def kept_outputs(fingerprint: Fingerprint | None) -> tuple[str, ...]:
    """The replies as texts to be remembered, one each; none of a launch that was not asked."""
    return tuple(
        json.dumps([reply.text, reply.tokens, reply.logprobs], ensure_ascii=False)
        for reply in fingerprint or ()
    )


def remembered(past: Past | None) -> list[Fingerprint]:
    """What the accepted launches of earlier sessions said, those that were asked.

    Raises :class:`~pytest_llmperf.store.StoreError` for what cannot be read.
    """
    launches = [launch for each in (past.accepted if past else ()) for launch in each.launches]
    return [tuple(map(_reply, launch.outputs)) for launch in launches if launch.outputs]


def _reply(text: str) -> Reply:
    try:
        said, tokens, logprobs = json.loads(text)
        return Reply(text=said, tokens=tuple(tokens), logprobs=tuple(logprobs))
    except (ValueError, TypeError) as error:
        raise StoreError(f"What a launch said cannot be read, {text[:80]!r}: {error}.") from error


# --- judged ----------------------------------------------------------------------------------


def _texts(measured: Measurement, reference: Measurement) -> tuple[str, ...]:
    ours, theirs = (
        [run.quality for run in side.valid_runs if run.quality is not None]
        for side in (measured, reference)
    )
    return text_lines(ours, theirs)


def told_by(verdicts: Sequence[Verdict], quality: Quality, mode: QualityMode) -> list[Verdict]:
    """The verdicts of a test with what is known of its outputs: regression gates tell of
    differences, and with ``mode`` "fail" they fail for them; the worst first."""
    return worst_first(
        _told(verdict, quality, mode) if verdict.kind == "regression" else verdict
        for verdict in verdicts
    )


def _told(verdict: Verdict, quality: Quality, mode: QualityMode) -> Verdict:
    told = replace(verdict, changed=(*verdict.changed, *quality.lines))
    if mode != "fail" or verdict.verdict == "fail":
        return told
    if quality.serious:
        reason = (
            f"not comparable with {quality.against}, whatever the speed: "
            f"{'; '.join(quality.serious)} ({verdict.source})"
        )
        return replace(told, verdict="fail", reason_code="outputs_changed", reason=reason)
    if quality.outputs is None and verdict.verdict == "pass":
        reason = f"{spoken(verdict.metric)} is not worse, but {quality.missing} ({verdict.source})"
        return replace(
            told,
            verdict="inconclusive",
            reason_code="outputs_unknown",
            reason=reason,
            covered=False,
        )
    return told
