"""What a session writes beside its report, and what it tells GitHub."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TEST = """
import pytest

@pytest.mark.llm_server("sim", model="m", args="--ttft-ms 20 --itl-ms 2")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=20, concurrency=4)
@pytest.mark.llm_ceiling(ttft_p50="0.001 ms", e2e_p50="60 s")
def test_a(llm_perf): llm_perf.run()
"""
PLAIN = ("--llmperf-runs=1", "--llmperf-no-progress")
NOTE = "::error file=test_it.py,line=3,title=p50 TTFT fails%3A test_a::*"


@pytest.fixture(autouse=True)
def no_workflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Our own tests run in workflows too."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makepyfile(test_it=TEST)
    return pytester


def in_a_workflow(monkeypatch: pytest.MonkeyPatch, suite: pytest.Pytester) -> Path:
    summary = suite.path / "summary.md"
    summary.write_text("earlier\n")
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    return summary


def test_everything_asked_for_is_written(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = in_a_workflow(monkeypatch, suite)
    result = suite.runpytest(
        *PLAIN,
        "--llmperf-github",
        "--llmperf-export=bencher:out/bmf.json",
        "--llmperf-export=openmetrics:out/metrics.txt",
        "--llmperf-markdown=out/comment.md",
    )
    assert result.ret == 10
    result.stdout.fnmatch_lines(["written: *comment.md", "written: *bmf.json", NOTE])
    out = suite.path / "out"
    assert sorted(path.name for path in out.iterdir()) == ["bmf.json", "comment.md", "metrics.txt"]
    (measures,) = json.loads((out / "bmf.json").read_text()).values()
    assert measures["ttft_p50"]["value"] > 0.001
    assert "FAIL" in (out / "comment.md").read_text()
    told = summary.read_text()
    assert told.startswith("earlier\n")
    assert told.count("pytest-llmperf: FAIL") == 1


def test_a_workflow_is_told_nothing_that_nobody_asked_for(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = in_a_workflow(monkeypatch, suite)
    result = suite.runpytest(*PLAIN, "-n0")
    result.stdout.no_fnmatch_line("::error*")
    assert summary.read_text() == "earlier\n"


def test_a_workflow_is_told_nothing_where_no_perf_test_ran(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = in_a_workflow(monkeypatch, suite)
    suite.makepyfile(test_it="def test_plain(): pass")
    suite.runpytest("--llmperf-github", "--llmperf-markdown=c.md")
    assert summary.read_text() == "earlier\n"
    assert "nothing to judge" in (suite.path / "c.md").read_text()


def test_elsewhere_the_option_changes_nothing(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", "true")
    result = suite.runpytest(*PLAIN, "--llmperf-github")
    assert result.ret == 10
    result.stdout.no_fnmatch_line("::error*")


def test_paths_of_notes_begin_at_the_workspace(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_a_workflow(monkeypatch, suite)
    monkeypatch.setenv("GITHUB_WORKSPACE", str(suite.path.parent))
    result = suite.runpytest(*PLAIN, "--llmperf-github")
    result.stdout.fnmatch_lines([f"::error file={suite.path.name}/test_it.py,line=3,*"])


def test_workers_leave_it_to_the_controller(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = in_a_workflow(monkeypatch, suite)
    result = suite.runpytest(*PLAIN, "-n1", "--llmperf-github", "--llmperf-markdown=c.md")
    assert result.ret == 10
    assert summary.read_text().count("## ") == 1
    assert str(result.stdout).count("::error ") == 1
    assert (suite.path / "c.md").exists()


def test_what_cannot_be_written_is_a_problem_and_loses_nothing_else(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    suite.makepyfile(test_it=TEST.replace("0.001 ms", "60 s"))
    # What is in the way from the start is refused then; this comes later.
    suite.makeconftest(
        """
        from pathlib import Path
        def pytest_runtest_logfinish():
            Path("late").write_text("")
        """
    )
    result = suite.runpytest(
        *PLAIN,
        "--llmperf-report=r.json",
        "--llmperf-export=bencher:late/bmf.json",
        "--llmperf-export=openmetrics:metrics.txt",
    )
    assert result.ret == 11
    problem = "the export bencher could not be written"
    assert str(result.stdout).count(problem) == 1
    result.stdout.fnmatch_lines([f"ERROR: {problem}*--llmperf-export*"])
    assert json.loads((suite.path / "r.json").read_text())["verdict"] == "pass"
    assert (suite.path / "metrics.txt").exists()


def test_what_a_hook_has_broken_does_not_reach_what_is_written_beside(
    suite: pytest.Pytester,
) -> None:
    suite.makeconftest(
        """
        def pytest_llmperf_report(document):
            del document["measurements"][0]["workload"]["asked"]["rate"]
        """
    )
    result = suite.runpytest(*PLAIN, "--llmperf-export=openmetrics:x", "--llmperf-markdown=c.md")
    result.stdout.fnmatch_lines(["ERROR: the pytest_llmperf_report hook of conftest.py left*rate*"])
    assert (suite.path / "c.md").exists()
    assert (suite.path / "x").exists()


def test_a_summary_without_room_is_a_problem(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = in_a_workflow(monkeypatch, suite)
    summary.write_text("x" * (2**20 - 100))
    result = suite.runpytest(*PLAIN, "--llmperf-github")
    result.stdout.fnmatch_lines(["ERROR: *has no room for a summary any more*"])
    assert summary.stat().st_size == 2**20 - 100


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--llmperf-export=benchr:x"], "*Did you mean 'bencher'*"),
        (["--llmperf-export=bencher:x", "--llmperf-export=gitlab:x"], "*two things*to x*"),
        (["--llmperf-export=bencher:x", "--llmperf-report=x"], "*two things*to x*"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    suite: pytest.Pytester, arguments: list[str], said: str
) -> None:
    result = suite.runpytest(*arguments)
    assert result.ret == 4
    result.stderr.fnmatch_lines([said])
