"""What servers said, as the summary tells it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pytest_llmperf.gates.quality import compare_answers, compare_outputs
from pytest_llmperf.records import Reply
from pytest_llmperf.report.document import quality_entry
from pytest_llmperf.report.schema import schema_errors
from pytest_llmperf.report.terminal import quality_lines
from pytest_llmperf.session.quality import Quality

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

SAYS, SAYS_ELSE = ((Reply(text=text, tokens=(text,), logprobs=(-0.5,)),) for text in ("yes", "no"))


def found(*lines: str, right: int = 3) -> Quality:
    return Quality(
        against="sglang 0.5.22",
        outputs=compare_outputs([SAYS] * 4, [SAYS_ELSE] * 4),
        missing="",
        answers=compare_answers([True] * right + [False] * (4 - right), [True] * 4),
        texts=(),
        lines=lines,
        serious=(),
    )


def document(samples: Samples, quality: Quality | None = None, **run: Any) -> dict[str, Any]:
    changed = replace(samples.run, quality=replace(samples.quality, **run))
    fragment = samples.fragment(run=changed)
    fragment["quality"] = [quality_entry(samples.node, quality)] if quality else []
    return samples.assemble(fragment)


def test_nothing_to_tell(samples: Samples) -> None:
    assert quality_lines(document(samples)) == []


def test_a_finding_is_valid_and_told_with_the_score(samples: Samples) -> None:
    told = document(samples, found("outputs differ from token 1 of prompt 1 on"))
    assert schema_errors(told) == []
    assert quality_lines(told) == [
        "outputs:",
        "  test_chat: gsm8k: 3 of 4 questions answered rightly, by the reference 4",
        "  test_chat: outputs differ from token 1 of prompt 1 on",
    ]


def test_a_score_is_told_once(samples: Samples) -> None:
    lines = quality_lines(document(samples, found("gsm8k: 3 of 4 and so on")))
    assert lines == ["outputs:", "  test_chat: gsm8k: 3 of 4 and so on"]


def test_responses_without_text_are_always_told(samples: Samples) -> None:
    lines = quality_lines(document(samples, without_text=12))
    assert lines == ["outputs:", "  test_chat: 12 of 152 responses came without any text"]


def test_runs_without_a_look_are_valid(samples: Samples) -> None:
    fragment = samples.fragment(run=replace(samples.run, quality=None))
    assert schema_errors(samples.assemble(fragment)) == []
