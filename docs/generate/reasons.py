"""Why a gate is as it is: every reason code, what it means and what to do about it.

The codes are made where gates are judged; a test finds them there and in this table alike.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .page import Page, described, sentence

_HEADINGS = {
    "pass": "Passed",
    "fail": "Failed: red, exit status 10",
    "inconclusive": "Inconclusive: neutral unless `--llmperf-strict`",
    "not covered": "Not covered: always red, exit status 11",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """``word`` is the verdict it comes with; ``remedy`` is empty where nothing is to be done."""

    code: str
    word: str
    meaning: str
    remedy: str = ""


def _of(word: str, *rows: tuple[str, str, str]) -> tuple[Reason, ...]:
    return tuple(Reason(code, word, meaning, remedy) for code, meaning, remedy in rows)


_REFERENCE = "compare with a reference (`--llmperf-reference-python` and its kind)"
_MORE_LAUNCHES = "measure more launches (`--llmperf-launches`)"

REASONS: tuple[Reason, ...] = (
    *_of(
        "pass",
        ("within", "the limit was kept", ""),
        ("loss_excluded", "a loss as large as the one to catch is excluded", ""),
    ),
    *_of(
        "fail",
        ("beyond", "the limit was missed, beyond all that noise explains", ""),
        (
            "beyond_guard",
            "the interval over launches reaches the limit, but every launch, or their mean, is "
            "beyond the guard band that one launch would be judged by",
            "",
        ),
        (
            "unbounded",
            "so many requests failed that the percentile is infinite",
            "see the causes of failed requests in the report, and the server's log",
        ),
        ("standstill", "at least one run came to nothing per second", "see the server's log"),
        (
            "requests_failed",
            "requests failed again and again, or more than on the reference, so the figures of "
            "those that succeeded tell nothing",
            "see the causes of failed requests in the report, and the server's log",
        ),
        ("loss_shown", "a loss beyond what is allowed is shown", "see what differs"),
        (
            "failed_before",
            "the same commit failed before, and this session does not clear it",
            "mend the loss, or run until a session passes",
        ),
        (
            "outputs_changed",
            "the server says something else than its reference (`--llmperf-quality=fail`)",
            "find out why the outputs changed, or accept a level where the change is meant",
        ),
    ),
    *_of(
        "inconclusive",
        (
            "guard_band",
            "beyond the limit, by less than launches differ; one or two launches cannot tell",
            _MORE_LAUNCHES,
        ),
        ("noise", "the data could be of either kind", f"{_MORE_LAUNCHES}, or find what is noisy"),
        ("loss_suspected", "a loss is likely but not shown against a history", _REFERENCE),
        (
            "client_bound",
            "the load client or the machine was too busy to measure on",
            "give the client more cores, or the machine less to do",
        ),
        (
            "learning",
            "too few sessions are remembered to judge by",
            "go on, then accept a level with `pytest-llmperf baseline accept`",
        ),
        (
            "bimodal_history",
            "the remembered sessions are of two kinds, so none is judged by their mean",
            f"find what makes the difference and accept a level of one kind, or {_REFERENCE}",
        ),
        (
            "budget",
            "time or pairs ended before it was decided",
            "allow more (`--llmperf-budget`, `--llmperf-pairs`), or look for a larger loss",
        ),
        (
            "accumulating",
            "pairs with the named release are collected over sessions and do not tell yet",
            "go on; every session adds two pairs",
        ),
    ),
    *_of(
        "not covered",
        (
            "no_limit",
            "no declared limit is for the accelerator that was found",
            "declare one with `on=` for it, or one without `on=`",
        ),
        (
            "clock_error",
            "the clocks of workers on several machines are not known well enough for so short a "
            "run",
            "measure for longer, or over a network with shorter round trips",
        ),
        ("no_valid_runs", "not one run was valid", "see why in the runs of the report"),
        (
            "candidate_invalid",
            "so many launches of the candidate gave no valid run that chance hardly explains it",
            "see why in the runs of the report; the candidate itself may be the cause",
        ),
        (
            "invalid_pairs",
            "pairs ended before it was decided, for launches without a valid run were left out",
            "see why in the runs of the report, or allow more pairs (`--llmperf-pairs`)",
        ),
        ("not_measured", "the metric has no value", "the reason says what it would take"),
        (
            "never_measured",
            "the test ended before it measured",
            "call `llm_perf.run()` in it, or mend what came first",
        ),
        ("impossible", "a value is negative or not finite", "report it with the JSON report"),
        (
            "impossible_level",
            "the accepted level holds a value that is no positive number",
            "accept another level",
        ),
        (
            "zero",
            "a value is zero, of which no loss in percent can be told",
            "gate it by a floor or a ceiling",
        ),
        (
            "reference_unbounded",
            "requests of the reference failed, so nothing can be compared with it",
            "mend the reference, or name another one",
        ),
        (
            "both_unbounded",
            "requests failed on both sides",
            "lower the load, or find out why in the servers' logs",
        ),
        (
            "no_reference",
            "there is nothing to compare with",
            "name a reference, or a store (`--llmperf-store`)",
        ),
        (
            "no_level",
            "sessions are remembered, but no level is accepted",
            "`pytest-llmperf baseline accept`, or `--llmperf-update-baseline`",
        ),
        (
            "identical",
            "both sides run the same code, libraries and arguments",
            "name another reference; `--llmperf-aa` where the noise is what you want to see",
        ),
        (
            "unlike",
            "the two sides ran in places that do not compare",
            "launch both, or attach to both; let both choose the same devices",
        ),
        (
            "subject",
            "a fact differs that the test holds fixed (`subject=`)",
            "make it equal, or leave it out of `subject=`",
        ),
        (
            "environment",
            "the level was accepted in another environment",
            "accept a level in this one; the hook `pytest_llmperf_comparable` may allow it",
        ),
        (
            "too_few_pairs",
            "no loss of any size could be shown with so few pairs",
            "allow more (`--llmperf-pairs`, `--llmperf-budget`), or declare fewer gates",
        ),
        (
            "reference_failed",
            "requests of the reference failed again and again",
            "mend the reference, or name another one",
        ),
        (
            "sequence_lost",
            "pairs that were counted before are gone from the store",
            "find out who removed them; a new sequence begins",
        ),
        ("store_broken", "the store cannot be read", "mend or restore the file that is named"),
        (
            "outputs_unknown",
            "it is not slower, but whether it says the same could not be told "
            "(`--llmperf-quality=fail`)",
            "the reason says what is missing",
        ),
    ),
)


def page() -> Page:
    return Page(
        name="reference/reasons",
        title="Reason codes of verdicts",
        about="what `reason_code` in the report means, and what to do",
        body="\n".join(_parts()),
    )


def _parts() -> Iterator[str]:
    yield (
        "Every verdict carries a reason in a sentence and, for programs, as one word: "
        "`gates[].reason_code` in the report.\n"
    )
    for word, heading in _HEADINGS.items():
        yield f"## {heading}\n"
        for reason in REASONS:
            if reason.word == word:
                remedy = f"*What to do:* {reason.remedy}." if reason.remedy else ""
                yield described("reason", reason.code, sentence(reason.meaning), remedy)
