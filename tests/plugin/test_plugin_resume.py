"""A session that is cut off loses no finished test: --llmperf-resume goes on behind it."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from repositories import git

SUITE = """
import os
from pathlib import Path

import pytest

pytestmark = pytest.mark.llm_server("sim", model="m", args="--ttft-ms 5 --itl-ms 1")
LOAD = {"input_tokens": 8, "output_tokens": 4, "requests": 8, "concurrency": 2}


def note(name):
    with Path("ran").open("a") as file:
        file.write(name + "\\n")


@pytest.mark.llm_workload("chat", **LOAD)
@pytest.mark.llm_floor(output_throughput="1 tok/s")
def test_passes(llm_perf):
    note("passes")
    assert llm_perf.run().success_rate == 1.0


@pytest.mark.llm_workload("chat", **LOAD)
@pytest.mark.llm_floor(output_throughput="10000000 tok/s")
def test_slow(llm_perf):
    note("slow")
    print("said by the test")
    llm_perf.run()


@pytest.mark.llm_workload("chat", **{**LOAD, "output_tokens": 5})
@pytest.mark.llm_floor(output_throughput="1 tok/s")
def test_cut_off(llm_perf):
    note("cut off")
    if os.environ.get("CUT"):
        os.kill(os.getpid(), int(os.environ["CUT"]))
    llm_perf.run()


@pytest.mark.llm_workload("chat", **{**LOAD, "output_tokens": 6})
@pytest.mark.llm_floor(output_throughput="1 tok/s")
def test_last(llm_perf):
    note("last")
    llm_perf.run()


def test_plain():
    note("plain")
"""
OPTIONS = ("-p", "no:randomly", "--llmperf-runs=2", "--llmperf-report=out/r.json")
LONG_S = 120.0


@pytest.fixture
def suite(pytester: pytest.Pytester) -> Path:
    (pytester.path / "test_cut.py").write_text(SUITE)
    return pytester.path


def session(
    where: Path, *more: str, cut: signal.Signals | None = None
) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if name != "CUT"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *OPTIONS, *more],
        cwd=where,
        env=env | ({"CUT": str(int(cut))} if cut else {}),
        capture_output=True,
        text=True,
        timeout=LONG_S,
        check=False,
    )


def ran(where: Path) -> list[str]:
    """What has run since the last call."""
    file = where / "ran"
    names = file.read_text().split("\n")[:-1] if file.exists() else []
    file.unlink(missing_ok=True)
    return names


def report(where: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((where / "out" / "r.json").read_text())
    return document


def outcomes(document: dict[str, Any]) -> dict[str, str]:
    return {each["test"].partition("::")[2]: each["outcome"] for each in document["tests"]}


ALL = {
    "test_passes": "passed",
    "test_slow": "slow",
    "test_cut_off": "passed",
    "test_last": "passed",
}


@pytest.mark.parametrize("cut", [signal.SIGKILL, signal.SIGINT])
def test_finished_tests_are_not_run_again(suite: Path, cut: signal.Signals) -> None:
    first = session(suite, cut=cut)
    assert first.returncode == (-signal.SIGKILL if cut == signal.SIGKILL else 2)
    assert ran(suite) == ["passes", "slow", "cut off"]
    before = (suite / "out" / "r.json.unfinished").read_text()

    second = session(suite, "--llmperf-resume", "--junitxml=j.xml")

    assert ran(suite) == ["cut off", "last", "plain"]
    assert second.returncode == 10
    document = report(suite)
    assert outcomes(document) == ALL
    assert document["complete"]
    assert document["counts"]["launches"] == 2
    lines = [json.loads(line) for line in before.split("\n")[1:-1]]
    kept = [line["reports"] for line in lines if "reports" in line]
    measured = {
        entry["id"]: entry
        for reports in kept
        for each in reports
        for entry in (each.get("llmperf") or {}).get("measurements", ())
    }
    assert len(measured) == 2
    assert [each["runs"] for each in document["measurements"] if each["id"] in measured] == [
        each["runs"] for each in measured.values()
    ]
    assert "2 finished tests of the interrupted session taken over, not run again" in second.stdout
    assert "under floor" in second.stdout
    assert "said by the test" in second.stdout
    assert 'tests="5"' in (suite / "j.xml").read_text()
    assert not (suite / "out" / "r.json.unfinished").exists()


def test_an_interruption_says_how_to_go_on(suite: Path) -> None:
    done = session(suite, cut=signal.SIGINT)
    assert "2 finished tests kept in" in done.stdout
    assert "the same command and --llmperf-resume goes on there" in done.stdout
    assert not report(suite)["complete"]
    assert (suite / "out" / "r.json.unfinished").stat().st_mode & 0o077 == 0


def test_across_workers(suite: Path) -> None:
    pytest.importorskip("xdist")
    first = session(suite, "-n1", "--max-worker-restart=0", cut=signal.SIGKILL)
    assert first.returncode != 0
    assert ran(suite) == ["passes", "slow", "cut off"]

    second = session(suite, "-n2", "--llmperf-resume")

    assert sorted(ran(suite)) == ["cut off", "last", "plain"]
    assert outcomes(report(suite)) == ALL
    assert second.returncode == 10
    assert "2 finished tests of the interrupted session taken over" in second.stdout


def test_cut_off_twice(suite: Path) -> None:
    session(suite, "--deselect=test_cut.py::test_slow", cut=signal.SIGKILL)
    assert ran(suite) == ["passes", "cut off"]
    session(suite, "--llmperf-resume", cut=signal.SIGKILL)
    assert ran(suite) == ["slow", "cut off"]
    session(suite, "--llmperf-resume")
    assert ran(suite) == ["cut off", "last", "plain"]
    assert outcomes(report(suite)) == ALL


def test_other_ways_of_spreading_tests(suite: Path) -> None:
    session(suite, cut=signal.SIGKILL)
    ran(suite)
    done = session(suite, "-n1", "--dist=loadgroup", "--llmperf-resume")
    assert ran(suite) == ["cut off", "last", "plain"]
    assert done.returncode == 10, done.stdout


def test_a_line_that_was_cut_short_does_not_spoil_the_next(suite: Path) -> None:
    session(suite, cut=signal.SIGKILL)
    journal = suite / "out" / "r.json.unfinished"
    journal.write_text(journal.read_text()[:-20])
    session(suite, "--llmperf-resume", cut=signal.SIGKILL)
    ran(suite)
    session(suite, "--llmperf-resume")
    assert ran(suite) == ["cut off", "last", "plain"]
    assert outcomes(report(suite)) == ALL


def test_the_first_test_of_the_next_module_finds_its_place(suite: Path) -> None:
    (suite / "a").mkdir()
    (suite / "test_cut.py").rename(suite / "a" / "test_cut.py")
    (suite / "a" / "test_before.py").write_text("def test_plain(): pass")
    (suite / "b").mkdir()
    (suite / "b" / "test_after.py").write_text("def test_plain(): pass")
    session(suite, cut=signal.SIGKILL)
    done = session(suite, "--llmperf-resume")
    assert done.returncode == 10, done.stdout
    assert "previous item was not torn down" not in done.stdout


def test_two_sessions_do_not_write_one_report(suite: Path) -> None:
    (suite / "out").mkdir()
    with (suite / "out" / "r.json.unfinished").open("w") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        done = session(suite)
    assert done.returncode == 4
    assert "another session is writing" in done.stderr
    assert ran(suite) == []


def test_at_the_first_failure_it_says_how_to_get_further(suite: Path) -> None:
    done = session(suite, "-x")
    assert "the same command, without -x or --maxfail, and --llmperf-resume" in done.stdout
    assert ran(suite) == ["passes", "slow"]
    session(suite, "--llmperf-resume")
    assert ran(suite) == ["cut off", "last", "plain"]


def test_without_the_option_everything_runs_again(suite: Path) -> None:
    session(suite, cut=signal.SIGKILL)
    ran(suite)
    done = session(suite)
    assert ran(suite) == ["passes", "slow", "cut off", "last", "plain"]
    assert "an interrupted session had left 2 finished tests in" in done.stdout
    assert "this session began anew, for --llmperf-resume was not given" in done.stdout
    assert not (suite / "out" / "r.json.unfinished").exists()


@pytest.mark.parametrize("more", [(), ("--llmperf-resume",)])
def test_a_mistake_at_collection_costs_nothing_of_what_was_left(
    suite: Path, more: tuple[str, ...]
) -> None:
    session(suite, cut=signal.SIGKILL)
    ran(suite)
    journal = suite / "out" / "r.json.unfinished"
    left = journal.read_text()
    wrong = suite / "test_wrong.py"
    wrong.write_text("import nothing_of_that_name")

    done = session(suite, *more)

    assert done.returncode == 2
    assert journal.read_text() == left
    assert "2 finished tests" in done.stdout
    assert "run again" not in done.stdout
    assert "began anew" not in done.stdout
    wrong.unlink()
    session(suite, "--llmperf-resume")
    assert ran(suite) == ["cut off", "last", "plain"]


def test_what_was_left_stays_until_a_test_has_finished(suite: Path) -> None:
    session(suite, cut=signal.SIGKILL)
    ran(suite)
    journal = suite / "out" / "r.json.unfinished"
    left = journal.read_text()
    done = session(suite, "-k", "test_cut_off or test_plain", cut=signal.SIGINT)
    assert ran(suite) == ["cut off"]
    assert journal.read_text() == left
    assert "they are still there, and --llmperf-resume goes on behind them" in done.stdout


def test_a_session_that_finishes_nothing_leaves_nothing(suite: Path) -> None:
    done = session(suite, "-k", "test_cut_off", cut=signal.SIGINT)
    assert "kept in" not in done.stdout
    assert not (suite / "out" / "r.json.unfinished").exists()


def test_only_what_is_kept_is_serialised(suite: Path) -> None:
    (suite / "conftest.py").write_text(
        """
from pathlib import Path

def pytest_report_to_serializable(report):
    with Path("serialised").open("a") as file:
        file.write(f"{report.nodeid.partition('::')[2]} {report.when}\\n")
"""
    )
    session(suite)
    lines = (suite / "serialised").read_text().split("\n")[:-1]
    assert lines == [f"{test} {when}" for test in ALL for when in ("setup", "call", "teardown")]


def test_nothing_to_go_on_with(suite: Path) -> None:
    done = session(suite, "--llmperf-resume")
    assert ran(suite) == ["passes", "slow", "cut off", "last", "plain"]
    assert "--llmperf-resume: nothing to go on with in" in done.stdout


def test_a_last_line_that_was_cut_short_is_run_again(suite: Path) -> None:
    session(suite, cut=signal.SIGKILL)
    ran(suite)
    journal = suite / "out" / "r.json.unfinished"
    journal.write_text(journal.read_text()[:-20])
    done = session(suite, "--llmperf-resume")
    assert ran(suite) == ["slow", "cut off", "last", "plain"]
    assert outcomes(report(suite)) == ALL
    assert done.returncode == 10


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--llmperf-launches=2",), "--llmperf-launches"),
        (("--llmperf-strict",), "--llmperf-strict"),
    ],
)
def test_other_options_are_another_session(suite: Path, more: tuple[str, ...], told: str) -> None:
    session(suite, cut=signal.SIGKILL)
    ran(suite)
    done = session(suite, "--llmperf-resume", *more)
    assert done.returncode == 4
    assert f"for these differ: {told}. Make them alike" in done.stderr
    assert ran(suite) == []
    assert (suite / "out" / "r.json.unfinished").exists()


def test_a_changed_test_runs_again(suite: Path) -> None:
    session(suite, cut=signal.SIGKILL)
    ran(suite)
    changed = SUITE.replace('"10000000 tok/s"', '"20000000 tok/s"')
    (suite / "test_cut.py").write_text(changed)
    session(suite, "--llmperf-resume")
    assert ran(suite) == ["slow", "cut off", "last", "plain"]


def test_a_changed_checkout_is_another_session(suite: Path) -> None:
    git("init", at=suite)
    git("add", "test_cut.py", at=suite)
    git("commit", "-m", "a suite", at=suite)
    session(suite, cut=signal.SIGKILL)
    ran(suite)
    (suite / "test_cut.py").write_text(SUITE + "\n# changed\n")
    done = session(suite, "--llmperf-resume")
    assert done.returncode == 4
    assert "dirty_digest (None ->" in done.stderr


def test_a_broken_journal_is_a_usage_error(suite: Path) -> None:
    (suite / "out").mkdir()
    (suite / "out" / "r.json.unfinished").write_text("[]\n")
    done = session(suite, "--llmperf-resume")
    assert done.returncode == 4
    assert "line 1 is no JSON object" in done.stderr


def test_it_needs_the_report(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(): pass")
    done = pytester.runpytest("--llmperf-resume")
    assert done.ret == 4
    done.stderr.fnmatch_lines(["*name that report with --llmperf-report.*"])


def test_a_journal_that_cannot_be_written_costs_nothing_else(suite: Path) -> None:
    (suite / "out" / "r.json.unfinished").mkdir(parents=True)
    done = session(suite, cut=signal.SIGINT)
    assert done.stdout.count("--llmperf-resume could not go on with it") == 1
    assert set(outcomes(report(suite))) >= {"test_passes", "test_slow"}
