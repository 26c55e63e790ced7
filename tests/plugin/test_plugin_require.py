"""--llmperf-require: within its scope every gate runs and one is decided, or the session is red."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_llmperf.cli import main

HEAD = """
import pytest
from pytest_llmperf import LimitMissed
pytestmark = [
    pytest.mark.llm_server("sim", model="m"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=8, concurrency=4),
]
LOW = pytest.mark.llm_floor(output_throughput="0.01 tok/s")
SKIPPED = pytest.mark.skip(reason="not today")
"""
A = "@LOW\ndef test_a(llm_perf): llm_perf.run()\n"
B = A.replace("test_a", "test_b")
PLAIN = "def test_plain(): pass\n"


def run(
    pytester: pytest.Pytester, body: str, *args: str, require: str | None = "."
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=HEAD + body)
    required = [f"--llmperf-require={require}"] if require else []
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
    (pytester.path / "r.json").unlink(missing_ok=True)
    result = pytester.runpytest(*options, *required, *args)
    report = pytester.path / "r.json"
    return result, json.loads(report.read_text()) if report.exists() else {}


def test_a_whole_suite_is_green(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, A + PLAIN, require="test_it.py")
    assert result.ret == 0
    assert (report["verdict"], report["problems"]) == ("pass", [])


@pytest.mark.parametrize("workers", [(), ("-n2",), ("-n2", "--dist=loadgroup")])
def test_a_gate_that_was_deselected_is_red_under_require_only(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    options = ("-k", "test_a or plain", *workers)
    result, _ = run(pytester, A + B + PLAIN, *options, require=None)
    assert result.ret == 0
    result, report = run(pytester, A + B + PLAIN, *options)
    assert result.ret == 11
    assert report["exit_status"] == 11
    assert report["verdict"] == "inconclusive"
    (said,) = report["problems"]
    assert said == (
        "test_it.py::test_b: its gate on output throughput did not run, the test was deselected; "
        "run it, or name less in --llmperf-require ."
    )
    result.stdout.fnmatch_lines([f"ERROR: {said}"])


def test_a_skipped_gate_is_red_within_the_scope_and_not_beside_it(
    pytester: pytest.Pytester,
) -> None:
    body = A + "@SKIPPED\n" + B
    result, report = run(pytester, body, require="test_it.py::test_b")
    assert result.ret == 11
    assert "the test was skipped" in report["problems"][0]
    assert run(pytester, body, require="test_it.py::test_a")[0].ret == 0


def test_an_expected_failure_that_measured_nothing_is_red(pytester: pytest.Pytester) -> None:
    body = "@pytest.mark.xfail\n@LOW\ndef test_a(llm_perf): raise ValueError\n" + B
    assert run(pytester, body, require=None)[0].ret == 0
    result, report = run(pytester, body)
    assert result.ret == 11
    assert "the test was expected to fail" in report["problems"][0]


@pytest.mark.parametrize("args", [(), ("-k", "nothing"), ("-n2",)])
def test_zero_gates_are_red(pytester: pytest.Pytester, args: tuple[str, ...]) -> None:
    result, report = run(pytester, PLAIN, *args)
    assert result.ret == 11
    assert report["problems"][0].startswith("--llmperf-require .: no gate was collected there")


def test_not_one_decided_gate_is_red(pytester: pytest.Pytester) -> None:
    body = A.replace("@LOW", '@pytest.mark.llm_no_regression(tpot_mean="30%")')
    store = "--llmperf-store=perf"
    assert run(pytester, body, store, require=None)[0].ret == 0
    result, report = run(pytester, body, store)
    assert result.ret == 11
    assert "not one gate was decided (1 learning)" in report["problems"][0]
    # another gate that is decided is enough
    assert run(pytester, body + B, store)[0].ret == 0


def test_failures_keep_their_own_exit_status(pytester: pytest.Pytester) -> None:
    missed = A.replace("@LOW", "@pytest.mark.llm_floor(output_throughput='100000000 tok/s')")
    result, report = run(pytester, missed + B, "-k", "test_a")
    assert result.ret == 10
    assert "test_b" in report["problems"][0]
    assert report["verdict"] == "fail"
    failing = PLAIN.replace("pass", "assert False")
    assert run(pytester, A + failing, "-k", "plain")[0].ret == 1


def test_nothing_is_asked_of_a_collection_or_a_plan(pytester: pytest.Pytester) -> None:
    assert run(pytester, PLAIN, "--collect-only")[0].ret == 0
    assert run(pytester, A, "--llmperf-plan", "-k", "test_a")[0].ret == 0


# --- what the store knows --------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_a_renamed_gate_is_red_until_it_is_retired(
    pytester: pytest.Pytester,
    workers: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    store = ("--llmperf-store=perf", *workers)
    assert run(pytester, A + B, *store)[0].ret == 0
    renamed = A + B.replace("test_b", "test_c")
    assert run(pytester, renamed, *store, require=None)[0].ret == 0
    for _ in range(2):
        # and a second run does not make it known as gone
        result, report = run(pytester, renamed, *store)
        assert result.ret == 11
        (said,) = report["problems"]
        assert said.startswith("test_it.py::test_b: its gate on output throughput, judged on ")
        assert "was not collected" in said
    command = said.partition("taken away on purpose: pytest-llmperf ")[2].split()
    assert command[:3] == ["baseline", "retire", "test_it.py::test_b"]
    assert main([*command[:-1], "renamed", "--author", "me"]) == 0
    assert "test_it.py::test_b: 1 gate retired" in capsys.readouterr().out
    assert run(pytester, renamed, *store)[0].ret == 0
    # back again, it is known again
    assert run(pytester, A + B, *store, require="test_it.py::test_b")[0].ret == 0
    assert run(pytester, A, *store, require="test_it.py::test_b")[0].ret == 11


def test_a_gate_that_was_taken_off_its_test_is_red(pytester: pytest.Pytester) -> None:
    store = "--llmperf-store=perf"
    two = "@pytest.mark.llm_ceiling(e2e_mean='1000 s')\n" + A
    assert run(pytester, two, store)[0].ret == 0
    result, report = run(pytester, A, store)
    assert result.ret == 11
    assert "its gate on mean E2E" in report["problems"][0]
    assert "is not declared any more" in report["problems"][0]


def test_a_store_that_cannot_be_read_is_red(pytester: pytest.Pytester) -> None:
    store = "--llmperf-store=perf"
    run(pytester, A, store)
    (document,) = (pytester.path / "perf").rglob("*.json")
    document.write_text(document.read_text()[:50])
    without, _ = run(pytester, A, store, require=None)
    assert without.ret == 0
    without.stdout.fnmatch_lines([f"*test_a: no history in the report. *{document.name} is cut*"])
    result, report = run(pytester, A, store)
    assert result.ret == 11
    assert document.name in report["problems"][0]


# --- under xdist -----------------------------------------------------------------------------


def test_a_worker_that_dies_leaves_the_session_red(pytester: pytest.Pytester) -> None:
    body = A + B.replace("llm_perf.run()", "__import__('os')._exit(3)")
    result, report = run(pytester, body, "-n2", "--max-worker-restart=0")
    assert result.ret not in (0, 5)
    assert "test_b" in result.stdout.str()
    assert report["exit_status"] == result.ret
    assert run(pytester, body, "-n2", "--max-worker-restart=0", require=None)[0].ret == result.ret


# --- mistakes --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "require", "said"),
    [
        ([], "nowhere.py", "--llmperf-require nowhere.py: there is no "),
        (["--llmperf=smoke"], ".", "--llmperf=smoke judges nothing"),
        (["--llmperf=off"], ".", "--llmperf=off judges nothing"),
        (["--llmperf-calibrate=6", "--llmperf-store=p"], ".", "--llmperf-calibrate judges nothing"),
    ],
)
def test_mistakes(pytester: pytest.Pytester, args: list[str], require: str, said: str) -> None:
    result, _ = run(pytester, A, *args, require=require)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()
