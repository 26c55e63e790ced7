"""Questions with a number for an answer, in the form of GSM8K: read, asked, and marked."""

from __future__ import annotations

import re
from decimal import Decimal
from pathlib import Path

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.reading import Unreadable, parse_json, read_text
from pytest_llmperf.records import Question

#: What stands before the final answer in GSM8K's own solutions.
_MARK = "####"
_INSTRUCTION = f"Solve the problem step by step. End with a line '{_MARK} ' and the number alone."
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")
_SHOWN = 80


def read_questions(path: Path, count: int) -> tuple[Question, ...]:
    """The first ``count`` questions of a file with a JSON object in each line, of which the fields
    ``question`` and ``answer`` are read. Raises :class:`~pytest_llmperf.errors.UsageMistake`."""
    try:
        lines = read_text(path).split("\n")
    except Unreadable as why:
        raise UsageMistake(
            f"--llmperf-gsm8k={path}: it {why}. Name a file with a JSON object in each line."
        ) from None
    filled = [(number, line) for number, line in enumerate(lines, 1) if line.strip()]
    if len(filled) < count:
        raise UsageMistake(
            f"--llmperf-gsm8k={path}: it has {len(filled)} questions where {count} were asked for; "
            f"ask for fewer with --llmperf-gsm8k-questions={len(filled) or 1}, or name another "
            "file."
        )
    return tuple(_question(line, f"{path}:{number}") for number, line in filled[:count])


def _question(line: str, where: str) -> Question:
    try:
        entry = parse_json(line)
    except Unreadable as why:
        raise UsageMistake(
            f"--llmperf-gsm8k: {where} {why}; expected an object with 'question' and 'answer'."
        ) from None
    fields = entry if isinstance(entry, dict) else {}
    text, solution = fields.get("question"), fields.get("answer")
    answer = final_number(solution) if isinstance(solution, str) else None
    if not isinstance(text, str) or not text.strip() or answer is None:
        raise UsageMistake(
            f"--llmperf-gsm8k: {where} needs a text 'question' and an 'answer' that ends with a "
            f"number; it has {line[:_SHOWN]!r}."
        )
    return Question(text=text.strip(), answer=answer)


def asked(question: Question) -> str:
    """The prompt of a question."""
    return f"{question.text}\n\n{_INSTRUCTION}"


def is_right(question: Question, said: str) -> bool:
    """Whether the final number of an answer is the right one."""
    found = final_number(said)
    return found is not None and found == question.answer


def final_number(text: str) -> str | None:
    """The number after the last mark of a final answer, else the last number of all, in a form in
    which equal numbers are equal texts; ``None`` without any."""
    _, mark, tail = text.rpartition(_MARK)
    numbers = _NUMBER.findall(tail)
    if not numbers:
        return None
    try:
        value = Decimal((numbers[0] if mark else numbers[-1]).replace(",", "")).normalize()
    except ArithmeticError:  # more digits than a Decimal has
        return None
    return format(value + 0, "f")
