"""Notes at the lines of markers."""

from __future__ import annotations

import re
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.report.annotations import commands

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples


@pytest.fixture
def document(samples: Samples) -> dict[str, Any]:
    return deepcopy(samples.assemble(samples.fragment()))


def read(command: str) -> tuple[str, dict[str, str], str]:
    """A command as GitHub's runner reads it: kind, properties, message."""
    match = re.fullmatch(r"::(\w+) (.*?)::(.*)", command)
    assert match is not None, command
    properties = dict(part.split("=", 1) for part in match[2].split(","))
    return (
        match[1],
        {name: unescaped(value) for name, value in properties.items()},
        unescaped(match[3]),
    )


def unescaped(text: str) -> str:
    for code, sign in (("%3A", ":"), ("%2C", ","), ("%0A", "\n"), ("%0D", "\r"), ("%25", "%")):
        text = text.replace(code, sign)
    return text


def test_a_failed_gate_is_an_error_at_its_marker(document: dict[str, Any]) -> None:
    kind, properties, message = read(commands(document)[0])
    assert kind == "error"
    assert properties["file"] == "tests/perf/test_r1.py"
    assert properties["line"] == "7"
    assert properties["title"] == "output throughput fails: test_chat"
    assert message == document["gates"][0]["reason"]
    assert "%" in message


def test_a_hole_is_an_error_and_noise_a_warning(document: dict[str, Any]) -> None:
    kinds = [read(command)[0] for command in commands(document)]
    assert kinds == ["error", "error"]
    document["gates"][1]["covered"] = True
    assert [read(command)[0] for command in commands(document)] == ["error", "warning"]


@pytest.mark.parametrize(
    ("source", "file", "line"),
    [
        ("tests/x.py:7", "tests/x.py", "7"),
        ("floor set in a b/x.py:12", "a b/x.py", "12"),
        ("floor set in x.py:12 at origin/a b:3 (1a2b3c4d)", "x.py", "12"),
        ("nowhere", None, None),
        ("", None, None),
    ],
)
def test_the_place_is_read_from_the_source(
    document: dict[str, Any], source: str, file: str | None, line: str | None
) -> None:
    document["gates"] = [{**document["gates"][0], "source": source}]
    _, properties, _ = read(commands(document)[0])
    assert properties.get("line") == line
    assert properties.get("file") == file


def test_paths_begin_at_the_top_of_the_repository(document: dict[str, Any]) -> None:
    _, properties, _ = read(commands(document, below="serving")[0])
    assert properties["file"] == "serving/tests/perf/test_r1.py"
    document["gates"][0]["source"] = "floor set in ../x.py:7"
    _, properties, _ = read(commands(document, below="serving")[0])
    assert properties["file"] == "x.py"


def test_what_looks_escaped_arrives_as_it_was_said(document: dict[str, Any]) -> None:
    said = "100%0A::error::x, 5 % of %25: a%2Cb"
    document["gates"][0] |= {"reason": said, "test": f"t.py::test_x[{said}]"}
    _, properties, message = read(commands(document)[0])
    assert message == said
    assert properties["title"].endswith(f"test_x[{said}]")


def test_an_expected_failure_is_no_news(document: dict[str, Any]) -> None:
    document["tests"][0]["outcome"] = "xfailed"
    (hole,) = commands(document)
    assert read(hole)[0] == "warning"
    document["gates"][1] |= {"verdict": "fail", "covered": True}
    assert commands(document) == []


def test_at_most_ten_of_a_kind_and_the_tenth_counts_the_rest(document: dict[str, Any]) -> None:
    bad, noisy = document["gates"]
    document["gates"] = [bad] * 2000 + [{**noisy, "covered": True}] * 11
    made = [read(command) for command in commands(document)]
    errors = [each for each in made if each[0] == "error"]
    warnings = [each for each in made if each[0] == "warning"]
    assert (len(errors), len(warnings)) == (10, 10)
    assert errors[-1][2].startswith("1991 more")
    assert warnings[-1][2].startswith("2 more")
    document["gates"] = [bad] * 10
    assert "more" not in read(commands(document)[-1])[2]


def test_a_broken_test_and_a_problem_are_told_once(document: dict[str, Any]) -> None:
    document["gates"] = []
    document["tests"][0] |= {"outcome": "broken", "message": "out of memory\ncause: weights"}
    document["problems"] = ["no report, 100 % sure"]
    (_, properties, message), (_, _, problem) = (read(each) for each in commands(document))
    assert properties["file"] == "tests/perf/test_r1.py"
    assert message == "out of memory\ncause: weights"
    assert problem == "no report, 100 % sure"


@given(st.text(), st.text())
def test_nothing_that_is_said_makes_a_command_of_its_own(
    samples: Samples, name: str, reason: str
) -> None:
    document = deepcopy(samples.assemble(samples.fragment()))
    document["gates"] = [
        {**document["gates"][0], "test": f"t.py::test_x[{name}]", "reason": reason}
    ]
    (command,) = commands(document)
    assert command.splitlines() == [command]
    assert command.isprintable() or not re.search(r"[\x00-\x1f\x7f-\x9f]", command)
    kind, properties, _ = read(command)
    assert kind == "error"
    assert set(properties) == {"file", "line", "title"}
    assert len(command) < 10_000
