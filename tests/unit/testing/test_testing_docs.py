"""docs/testing.md is true: its examples run, and it leaves nothing out."""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.testing import FAULTS, Script, Truth
from pytest_llmperf.testing.__main__ import _parser

PAGE = Path(__file__).parents[3] / "docs" / "testing.md"
TEXT = PAGE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_runs(example: str) -> None:
    if "self_signed" in example and shutil.which("openssl") is None:
        pytest.skip("needs openssl")
    space: dict[str, Any] = {}
    exec(compile(example, str(PAGE), "exec"), space)  # noqa: S102 - that is the test


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 4


def test_the_command_is_one_that_it_takes() -> None:
    (command,) = re.findall(r"^```sh\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    words = shlex.split(command)
    assert words[:3] == ["python", "-m", "pytest_llmperf.testing"]
    assert _parser().parse_args(words[3:]).fault == "cut"


def rows(heading: str) -> dict[str, list[str]]:
    """Cells of the first table below a heading, by the names in its first column."""
    section = TEXT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    found = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            for name in re.findall(r"`([^`]+)`", cells[0]):
                found[name] = cells[1:]
    return found


def test_every_field_of_the_script_is_there_with_its_default() -> None:
    told = rows("The script")
    assert set(told) == {field.name for field in fields(Script)}
    for field in fields(Script):
        assert told[field.name][0] == default(field.default), field.name


def default(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return "on" if value else "off"
        case str():
            return f'`"{value}"`'
        case int():
            return f"{value:,}"
        case _:
            return str(value)


def test_every_fault_and_every_field_of_the_truth_is_there() -> None:
    assert set(rows("Faults")) == set(FAULTS)
    named = set(rows("The truth"))
    assert named == {field.name for field in fields(Truth)} | {"tokens"}
