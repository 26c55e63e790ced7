"""A change that lowers its own bar is judged by the bar of the branch that it goes into."""

from __future__ import annotations

import json
from typing import Any

import pytest

from repositories import git

HEAD = """
import pytest
pytestmark = [
    pytest.mark.llm_server("sim", model="m"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=8, concurrency=4),
]
"""
TEST = """
@pytest.mark.llm_floor(output_throughput="{} tok/s")
def {}(llm_perf): llm_perf.run()
"""
HIGH, LOW = 100_000_000, 0.01


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    """``main`` demands what no server gives, of a test that this checkout has made modest."""
    git("init", "-q", "-b", "main", at=pytester.path)
    write(pytester, TEST.format(HIGH, "test_a"))
    commit(pytester)
    write(pytester, TEST.format(LOW, "test_a"))
    return pytester


def write(pytester: pytest.Pytester, body: str) -> None:
    pytester.mkpydir("perf").joinpath("test_it.py").write_text(HEAD + body) if not (
        pytester.path / "perf"
    ).exists() else (pytester.path / "perf" / "test_it.py").write_text(HEAD + body)


def commit(pytester: pytest.Pytester) -> None:
    git("add", ".", at=pytester.path)
    git("commit", "-qm", "one", at=pytester.path)


def judged(
    pytester: pytest.Pytester, *args: str
) -> tuple[pytest.RunResult, dict[str, dict[str, Any]]]:
    cache = f"llmperf_cache_dir={pytester.path / 'cache'}"
    result = pytester.runpytest("--llmperf-report=r.json", "--llmperf-runs=1", "-o", cache, *args)
    path = pytester.path / "r.json"
    gates = json.loads(path.read_text())["gates"] if path.exists() else []
    return result, {gate["test"]: gate for gate in gates}


def test_the_other_commits_limit_counts(suite: pytest.Pytester) -> None:
    result, _ = judged(suite)
    assert result.ret == 0
    result, gates = judged(suite, "--llmperf-limits-from=main")
    assert result.ret == 10
    gate = gates["perf/test_it.py::test_a"]
    assert gate["limit"] == HIGH
    assert "at main (" in gate["source"]
    result.stdout.fnmatch_lines(
        ["limits from main (*test_a: floor of output throughput *, here 0.01*"]
    )


def test_it_is_asked_from_a_directory_of_the_suite_too(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(suite.path / "perf")
    cache = f"llmperf_cache_dir={suite.path / 'cache'}"
    options = ("--rootdir=..", "-o", cache, "--llmperf-runs=1", "--llmperf-limits-from=main")
    assert suite.runpytest(*options, "test_it.py").ret == 10


def test_a_new_test_is_judged_by_its_own_limits(suite: pytest.Pytester) -> None:
    write(suite, TEST.format(LOW, "test_new"))
    result, gates = judged(suite, "--llmperf-limits-from=main")
    assert gates["perf/test_it.py::test_new"]["verdict"] == "pass"
    # and the one that is gone is told, and red
    assert result.ret == 11
    result.stdout.fnmatch_lines(["ERROR: perf/test_it.py::test_a has a gate at main *gone here*"])


def test_a_gate_that_was_taken_away_is_judged_all_the_same(suite: pytest.Pytester) -> None:
    write(suite, "def test_a(llm_perf): llm_perf.run()\n")
    result, gates = judged(suite, "--llmperf-limits-from=main")
    assert result.ret == 10
    assert gates["perf/test_it.py::test_a"]["verdict"] == "fail"
    result.stdout.fnmatch_lines(["limits from main (*no longer declared here*"])


def test_nothing_is_said_where_nothing_differs(suite: pytest.Pytester) -> None:
    commit(suite)
    result, _ = judged(suite, "--llmperf-limits-from=HEAD")
    assert result.ret == 0
    assert "limits from" not in result.stdout.str()


def test_levels_of_the_other_commit_count(suite: pytest.Pytester) -> None:
    body = TEST.format(LOW, "test_a").replace("llm_floor", "llm_no_regression")
    write(suite, body.replace("0.01 tok/s", "30%"))
    commit(suite)
    judged(suite, "--llmperf-store=store")
    # What this checkout remembers is not what the other commit remembers.
    result, gates = judged(suite, "--llmperf-store=store", "--llmperf-limits-from=HEAD")
    assert result.ret == 0
    assert "LEARNING 1/8" in gates["perf/test_it.py::test_a"]["reason"]
    result, gates = judged(suite, "--llmperf-store=store")
    assert "LEARNING 3/8" in gates["perf/test_it.py::test_a"]["reason"]


def test_an_unknown_ref_is_a_mistake(suite: pytest.Pytester) -> None:
    result, _ = judged(suite, "--llmperf-limits-from=nowhere")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "git knows no 'nowhere'" in result.stderr.str()


def test_tests_that_cannot_be_collected_there_are_a_mistake(suite: pytest.Pytester) -> None:
    write(suite, "import no_such_module_here\n")
    commit(suite)
    write(suite, TEST.format(LOW, "test_a"))
    result, _ = judged(suite, "--llmperf-limits-from=HEAD")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no_such_module_here" in result.stderr.str()
