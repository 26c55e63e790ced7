"""What responses were like, and how answers are marked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.quality import output_quality
from pytest_llmperf.metrics.questions import asked, final_number, is_right, read_questions
from pytest_llmperf.records import Chunk, Chunks, Question, RequestRecord


def record(
    characters: int = 5,
    *,
    failure: str | None = None,
    repetition: float | None = None,
    digest: str | None = None,
) -> RequestRecord:
    chunk = Chunk(at_ns=1, kind="answer", characters=characters, cumulative_tokens=1)
    return RequestRecord(
        index=0,
        written_ns=0,
        ended_ns=2,
        status=200,
        failure=failure,
        finish_reason="length",
        prompt_tokens=1,
        cached_tokens=None,
        output_tokens=1,
        reasoning_tokens=None,
        token_source="usage",
        chunks=Chunks.of([chunk]),
        repetition=repetition,
        text_digest=digest,
    )


def test_only_successes_count() -> None:
    found = output_quality([record(), record(0), record(0, failure="cut")])
    assert (found.answered, found.without_text) == (2, 1)
    assert found.finish_reasons == {"length": 2}
    assert (found.sampled, found.distinct, found.repetition) == (0, 0, None)


def test_sampled_texts_are_counted_and_averaged() -> None:
    found = output_quality(
        [record(repetition=0.2, digest="a"), record(repetition=0.4, digest="a"), record(digest="b")]
    )
    assert (found.sampled, found.distinct) == (3, 2)
    assert found.repetition == pytest.approx(0.3)


def test_a_run_without_responses() -> None:
    assert output_quality([]).answered == 0


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("He has 3 and 4.\n#### 7", "7"),
        ("#### 1,234.50 dollars", "1234.5"),
        ("first #### 1 then #### -2", "-2"),
        ("The answer is 18.", "18"),
        ("in 2 days, 300", "300"),
        ("1200", "1200"),
        ("-0.0", "0"),
        ("#### none", None),
        ("no number", None),
        ("", None),
    ],
)
def test_final_numbers(text: str, number: str | None) -> None:
    assert final_number(text) == number


@given(st.integers(-(10**12), 10**12))
def test_any_number_is_found_however_it_is_written(number: int) -> None:
    question = Question(text="?", answer=str(number))
    for text in (f"#### {number}", f"so {number:,}", f"{number}.0", f"it is {number}."):
        assert is_right(question, text)
    assert not is_right(question, f"#### {number + 1}")


def written(folder: Path, *lines: object) -> Path:
    path = folder / "q.jsonl"
    path.write_text(
        "".join(f"{each if isinstance(each, str) else json.dumps(each)}\n" for each in lines)
    )
    return path


def test_questions_are_read_from_the_first_on(tmp_path: Path) -> None:
    entries = [{"question": f" {n}? ", "answer": f"#### {n}"} for n in range(3)]
    path = written(tmp_path, entries[0], "", *entries[1:])
    assert read_questions(path, 2) == (
        Question(text="0?", answer="0"),
        Question(text="1?", answer="1"),
    )
    assert asked(read_questions(path, 1)[0]).startswith("0?\n\nSolve")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "q.jsonl:1 is not JSON"),
        ("[]", "needs a text 'question'"),
        ({"question": "1?"}, "needs a text 'question'"),
        ({"question": "1?", "answer": "one"}, "ends with a number"),
        ({"question": 1, "answer": "#### 1"}, "needs a text 'question'"),
    ],
)
def test_mistakes_name_the_line(tmp_path: Path, line: object, said: str) -> None:
    with pytest.raises(UsageMistake, match=said):
        read_questions(written(tmp_path, line), 1)
