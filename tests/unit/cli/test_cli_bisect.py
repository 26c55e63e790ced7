"""``pytest-llmperf bisect``: real pytest processes, real git, made-up gates."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.cli.bisect import judge, report_at
from repositories import git, git_environment

Command = Callable[..., tuple[int, str, str]]

#: Lets a suite write the report that stands in ``stub.json``, in place of the plugin's own.
STUB = """
import shutil

def pytest_unconfigure(config):
    shutil.copy(config.rootpath / "stub.json", config.getoption("llmperf_report"))
"""


def report(
    *gates: tuple[str, str], outcome: str = "passed", complete: bool = True
) -> dict[str, Any]:
    """A report in which each test has a gate with a verdict."""
    words = {word for _, word in gates}
    worst = next((word for word in ("fail", "inconclusive", "pass") if word in words), "none")
    return {
        "gates": [
            {"test": test, "verdict": word, "reason": f"{word} it is", "measurement": None}
            for test, word in gates
        ],
        "measurements": [],
        "tests": [{"test": test, "outcome": outcome} for test, _ in gates],
        "verdict": worst,
        "complete": complete,
    }


PASS, FAIL, OPEN = (report(("t", word)) for word in ("pass", "fail", "inconclusive"))
MIXED = report(("t", "pass"), ("u", "inconclusive"))


@pytest.mark.parametrize(
    ("status", "found", "expected"),
    [
        (0, PASS, 0),
        (10, FAIL, 10),
        (1, FAIL, 10),  # another test failed too; the gate was decided all the same
        (11, FAIL, 10),
        (0, FAIL, 10),
        (10, report(("t", "fail"), ("u", "pass")), 10),
        (0, OPEN, 125),
        (0, MIXED, 125),
        (0, report(), 125),
        (0, None, 125),
        (0, report(("t", "pass"), complete=False), 125),
        (0, report(("t", "fail"), outcome="xfailed"), 125),
        (10, PASS, 125),
        (10, None, 125),
        (1, PASS, 125),
        (11, OPEN, 125),
        (2, FAIL, 128),
        (3, PASS, 128),
        (4, None, 125),
        (5, report(), 125),
        (-9, FAIL, 125),
        (-11, None, 125),
        (77, PASS, 125),
    ],
)
def test_status_and_report_together_judge(
    status: int, found: Mapping[str, Any] | None, expected: int
) -> None:
    judgement = judge(status, found)
    assert judgement.status == expected
    assert judgement.why


def test_the_reason_names_the_test_and_the_gate() -> None:
    two = report(("t.py::test_a", "fail"), ("t.py::test_b", "fail"))
    assert judge(10, two).why == "t.py::test_a: fail it is (+1 more)"
    assert judge(0, MIXED).why == "undecided: u: inconclusive it is"


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"gates": []}', "\xff"])
def test_half_a_report_is_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_bytes(text.encode("latin-1"))
    assert report_at(path) is None
    assert report_at(tmp_path / "none.json") is None


# --- real children ---------------------------------------------------------------------------


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ("def test_a(): pass", 125, "skip: pytest passed, but no gate did"),
        ("def test_a(): assert False", 125, "skip: pytest ended with status 1"),
        ("import nowhere", 125, "skip: pytest ended with status 1"),
        ("", 125, "skip: pytest ended with status 5"),
        ("import pytest\ndef test_a(): pytest.exit('enough')", 128, "stop: pytest ended"),
        ("import os\ndef test_a(): os._exit(9)", 125, "skip: pytest ended with status 9"),
    ],
)
def test_a_suite_that_judges_nothing(
    suite: Path, status_of: Command, body: str, status: int, said: str
) -> None:
    (suite / "test_it.py").write_text(body)
    found, _, err = status_of("bisect", "--", "-q", "-p", "no:cacheprovider", "test_it.py")
    assert found == status
    assert f"pytest-llmperf bisect: {said}" in err


@pytest.mark.parametrize(
    ("floor", "status", "said"),
    [("0.01 tok/s", 0, "good: every gate passed"), ("100000000 tok/s", 10, "bad: test_it.py::")],
)
def test_a_real_gate(suite: Path, status_of: Command, floor: str, status: int, said: str) -> None:
    (suite / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.llm_server('sim', model='m')\n"
        "@pytest.mark.llm_workload('chat', input_tokens=8, output_tokens=4, requests=8)\n"
        f"@pytest.mark.llm_floor(output_throughput='{floor}')\n"
        "def test_a(llm_perf): llm_perf.run()\n"
    )
    found, _, err = status_of("bisect", "--", "-q", "-p", "no:cacheprovider", "--llmperf-runs=1")
    assert found == status
    assert said in err


def test_the_report_that_is_named_is_there(suite: Path) -> None:
    (suite / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.llm_server('sim', model='m')\n"
        "@pytest.mark.llm_workload('chat', input_tokens=8, output_tokens=4, requests=8)\n"
        "def test_a(llm_perf): llm_perf.run()\n"
    )
    git("init", "-q", at=suite)
    git("commit", "-q", "--allow-empty", "-m", "c", at=suite)
    for _ in range(2):
        told = bisected(suite)
        (kept,) = (suite / ".git" / "llmperf-bisect").iterdir()
        assert f"report: {kept}" in told.stdout
        assert report_at(kept) is not None
    # What was left by a try before is no report of a pytest that writes none.
    kept.write_text(json.dumps(FAIL))
    (suite / "test_it.py").write_text("import os\ndef test_a(): os._exit(10)")
    assert "left no report" in bisected(suite).stderr


def bisected(suite: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest_llmperf.cli", "bisect", "--", "-q"]
    return subprocess.run(
        [*command, "-p", "no:cacheprovider", "--llmperf-runs=1"],
        cwd=suite,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_report_of_the_users_own_is_refused(suite: Path, status_of: Command) -> None:
    status, _, err = status_of("bisect", "--", "--llmperf-report=r.json")
    assert status == 1
    assert "leave yours out" in err


def test_git_bisect_finds_the_commit(suite: Path) -> None:
    (suite / "conftest.py").write_text(STUB)
    (suite / ".gitignore").write_text("__pycache__\n")
    git("init", "-q", at=suite)
    for number in range(8):
        (suite / "stub.json").write_text(json.dumps(PASS if number < 5 else FAIL))
        broken = "import nowhere" if number == 4 else "def test_a(): pass"
        (suite / "test_it.py").write_text(f"{broken}  # {number}")
        if number == 4:  # a commit that cannot be judged
            (suite / "stub.json").write_text(json.dumps(OPEN))
        git("add", "-A", at=suite)
        git("commit", "-q", "-m", f"commit {number}", at=suite)
    git("bisect", "start", "HEAD", "HEAD~7", at=suite)
    command = [sys.executable, "-m", "pytest_llmperf.cli", "bisect", "--", "-q"]
    told = subprocess.run(
        ["git", "bisect", "run", *command, "-p", "no:cacheprovider"],  # noqa: S607
        cwd=suite,
        env=git_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    said = told.stdout + told.stderr
    log = git("bisect", "log", at=suite)
    # 4 cannot be judged, so either it or 5 was the first; git says so in as many words.
    assert "There are only 'skip'ped commits left to test" in said or "first bad commit" in said
    assert "# skip: " in log
    assert "commit 4" in log
    bad = [line for line in log.splitlines() if line.startswith("# bad: ")]
    assert bad[-1].endswith("commit 5")


def test_help_documents_the_statuses(status_of: Command) -> None:
    status, out, _ = status_of("bisect", "--help")
    assert status == 0
    for said in (
        "  125  skip this commit",
        "  128  stop bisecting",
        "git bisect run pytest-llmperf",
    ):
        assert said in out
