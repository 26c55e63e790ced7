"""What an interrupted session has left is read whole or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.session.journal import Left, journal_path, read_journal

FACTS: dict[str, Any] = {
    "journal": 1,
    "versions": {"pytest": "9.2.0"},
    "git": {"commit": "abc", "dirty_digest": None},
    "settings": {"launches": "1234", "reference": "5678"},
}


def line(test: str = "a.py::test_a", outcome: str = "passed") -> dict[str, Any]:
    fragment = {
        "identity": "i",
        "seed": 7,
        "tests": [{"test": test, "outcome": outcome}],
        "measurements": [{"id": "m"}],
    }
    reports = [{"when": "setup"}, {"when": "call", "llmperf": fragment}, {"when": "teardown"}]
    return {"test": test, "reports": reports}


def written(path: Path, *lines: object, end: str = "\n") -> Path:
    journal = path / "r.json.unfinished"
    journal.write_text("\n".join(json.dumps(each) for each in lines) + end)
    return journal


def told(journal: Path, facts: dict[str, Any] = FACTS) -> str:
    with pytest.raises(UsageMistake) as raised:
        read_journal(journal, facts)
    return str(raised.value)


def test_its_place() -> None:
    assert journal_path(Path("out/report.json")) == Path("out/report.json.unfinished")


def test_finished_tests(tmp_path: Path) -> None:
    found = read_journal(written(tmp_path, FACTS, line(), line("b")), FACTS).ended
    assert list(found) == ["a.py::test_a", "b"]
    assert found["b"].identity == "i"
    assert found["b"].fragment["seed"] == 7


def test_the_last_word_of_a_test_that_was_run_again_counts(tmp_path: Path) -> None:
    found = read_journal(written(tmp_path, FACTS, line(outcome="slow"), line()), FACTS).ended
    assert found["a.py::test_a"].fragment["tests"][0]["outcome"] == "passed"


@pytest.mark.parametrize("end", ["", '\n{"test": "b", "repo'])
def test_what_a_kill_cut_short_is_not_there(tmp_path: Path, end: str) -> None:
    found = read_journal(written(tmp_path, FACTS, line(), line("b"), end=end), FACTS).ended
    assert list(found) == ["a.py::test_a", *(["b"] if end else [])]


def test_nothing_was_left(tmp_path: Path) -> None:
    assert read_journal(tmp_path / "none", FACTS) == Left(ended={}, beside=())
    assert read_journal(written(tmp_path, end=""), FACTS) == Left(ended={}, beside=())


def test_what_belongs_to_all_tests(tmp_path: Path) -> None:
    said = {"environment": {"python": "3"}, "launches": [{"id": "l"}]}
    journal = written(tmp_path, FACTS, {"beside": said, "test": "a"}, line())
    assert read_journal(journal, FACTS).beside == (("a", said),)
    wrongs: tuple[dict[str, Any], ...] = ({"beside": []}, {"beside": {"gates": []}})
    for wrong in wrongs:
        assert "line 2 is not what a session writes" in told(written(tmp_path, FACTS, wrong))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"settings": {"launches": "9", "reference": "5678"}}, "differ: --llmperf-launches."),
        ({"settings": {"launches": "1234"}}, "differ: --llmperf-reference."),
        ({"git": {"commit": "d", "dirty_digest": None}}, "commit (abc -> d)"),
        ({"versions": {"pytest": "9.2.0", "torch": "2"}}, "torch (None -> 2)"),
    ],
)
def test_another_session_is_refused(tmp_path: Path, changed: dict[str, Any], said: str) -> None:
    told_so = told(written(tmp_path, FACTS, line()), {**FACTS, **changed})
    assert said in told_so
    assert "leave --llmperf-resume out to begin anew" in told_so


@pytest.mark.parametrize(
    ("then", "now"), [("git is slow", None), (None, "git is slow"), ("git is slow", "git is slow")]
)
def test_a_checkout_that_is_not_known_is_refused(
    tmp_path: Path, then: str | None, now: str | None
) -> None:
    first = {**FACTS, "git": {**FACTS["git"], "unknown": then}}
    told_so = told(
        written(tmp_path, first, line()), {**FACTS, "git": {**FACTS["git"], "unknown": now}}
    )
    assert "whether this is the checkout of the interrupted session is not known" in told_so
    assert "(git is slow); leave --llmperf-resume out to begin anew." in told_so


@pytest.mark.parametrize(
    ("first", "said"),
    [
        ([], "line 1 is no JSON object"),
        ({}, "another version of pytest-llmperf wrote it"),
        ({**FACTS, "journal": 2}, "another version of pytest-llmperf wrote it"),
        ({**FACTS, "settings": []}, "another version of pytest-llmperf wrote it"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path: Path, first: object, said: str) -> None:
    assert said in told(written(tmp_path, first, line()))


@pytest.mark.parametrize("text", [b"\xff\n", b"[" * 100_000 + b"\n", b"\n", b'"\n'])
def test_what_is_no_json_is_refused(tmp_path: Path, text: bytes) -> None:
    journal = tmp_path / "r.json.unfinished"
    journal.write_bytes(text)
    assert f"{journal} cannot be used (" in told(journal)


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "cannot be used (" in told(tmp_path)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.sampled_from(["test", "reports"]), JSON)
def test_lines_that_no_session_writes(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: object
) -> None:
    odd = {**line(), name: value}
    journal = written(tmp_path_factory.mktemp("j"), FACTS, odd)
    if name == "test":
        assert list(read_journal(journal, FACTS).ended) == [str(value)]
    else:
        assert "line 2 is not what a session writes" in told(journal)


@pytest.mark.parametrize("outcome", ["broken", "could_not_measure", "skipped"])
def test_a_test_that_has_not_finished_is_not_taken_for_one(tmp_path: Path, outcome: str) -> None:
    assert "line 2 is not what" in told(written(tmp_path, FACTS, line(outcome=outcome)))
