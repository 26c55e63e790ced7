"""Hooks of others: heard, and no way to lose a report or a verdict."""

from __future__ import annotations

import json
from typing import Any

import pytest

TEST = """
import pytest
pytestmark = [
    pytest.mark.llm_server("sim", model="m"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=20, concurrency=4),
]

@pytest.mark.llm_floor(output_throughput="{floor}")
@pytest.mark.llm_ceiling(ttft_p50="60 s")
def test_a(llm_perf): llm_perf.run()
"""
LOW, HIGH = "1 tok/s", "100000000 tok/s"
AS_IT_WAS = "The report is written without its changes."


@pytest.fixture
def run(pytester: pytest.Pytester) -> Any:
    def go(conftest: str, *args: str, floor: str = LOW) -> tuple[pytest.RunResult, dict[str, Any]]:
        pytester.makeconftest(conftest)
        pytester.makepyfile(test_it=TEST.replace("{floor}", floor))
        quick = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
        result = pytester.runpytest(*quick, *args)
        return result, json.loads((pytester.path / "r.json").read_text())

    return go


RAISES_ON_VERDICT = """
def pytest_llmperf_verdict(item, verdict):
    raise {raised}
"""


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("ValueError('mine\\nand more')", "ValueError: mine"),
        ("KeyError", "KeyError"),
        ("SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_a_verdict_hook_that_raises_is_named_and_changes_no_verdict(
    run: Any, raised: str, said: str
) -> None:
    result, report = run(RAISES_ON_VERDICT.replace("{raised}", raised))
    sentence = (
        f"the pytest_llmperf_verdict hook of conftest.py, line 2, raised {said}. "
        "Verdicts stand as they are."
    )
    result.assert_outcomes(passed=1)
    assert result.ret == 11
    assert report["problems"] == [sentence]  # told once, of two gates
    assert report["exit_status"] == 11
    assert [gate["verdict"] for gate in report["gates"]] == ["pass", "pass"]
    result.stdout.fnmatch_lines([f"ERROR: {sentence}"])


@pytest.mark.parametrize("outcome", ["pytest.skip('x')", "pytest.fail('x')"])
def test_a_verdict_hook_cannot_skip_a_failure_away(run: Any, outcome: str) -> None:
    hook = RAISES_ON_VERDICT.replace("raise {raised}", outcome)
    result, report = run(f"import pytest{hook}", floor=HIGH)
    result.assert_outcomes(failed=1)
    assert result.ret == 10
    assert report["tests"][0]["outcome"] == "slow"
    assert "raised" in report["problems"][0]


def test_the_trouble_of_a_verdict_hook_comes_home_from_a_worker(run: Any) -> None:
    result, report = run(RAISES_ON_VERDICT.replace("{raised}", "OSError('gone')"), "-n1")
    assert result.ret == 11
    assert len(report["problems"]) == 1
    assert "OSError: gone" in report["problems"][0]


@pytest.mark.parametrize("raised", ["ValueError('mine')", "SystemExit(0)", "pytest.exit.Exception"])
def test_a_report_hook_that_raises_loses_no_report(run: Any, raised: str) -> None:
    result, report = run(
        "import pytest\n"
        "def pytest_llmperf_report(document):\n"
        "    document['gates'].clear()\n"
        f"    raise {raised}\n"
    )
    result.assert_outcomes(passed=1)
    assert result.ret == 11
    assert len(report["gates"]) == 2
    assert report["exit_status"] == 11
    (problem,) = report["problems"]
    assert problem.startswith("the pytest_llmperf_report hook of conftest.py, line 4, raised ")
    assert problem.endswith(AS_IT_WAS)
    result.stdout.fnmatch_lines(["*llmperf*", f"ERROR: {problem}"])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("document['mood'] = 'good'", "mood"),
        ("del document['measurements'][0]['workload']['asked']['rate']", "rate"),
        ("document['gates'][0]['observed'] = float('nan')", "JSON"),
        ("document['seed'] = object()", "object"),
        ("document['problems'].append(document)", "Circular"),
        ("document['measurements'][0]['server'] = 'x'", "no server 'x'"),
    ],
)
def test_a_report_made_invalid_is_written_as_it_was(run: Any, change: str, said: str) -> None:
    result, report = run(f"def pytest_llmperf_report(document): {change}\n")
    assert result.ret == 11
    (problem,) = report["problems"]
    start = "the pytest_llmperf_report hook of conftest.py left a report that is not valid ("
    assert problem.startswith(start)
    assert said in problem
    assert report["measurements"][0]["workload"]["asked"]["rate"] is None
    assert "mood" not in report


def test_a_change_that_leaves_the_report_valid_is_written(run: Any) -> None:
    result, report = run(
        "def pytest_llmperf_report(document):\n"
        "    document['environment']['host'].clear()\n"
        "    document['exit_status'] = 0\n",
        floor=HIGH,
    )
    assert report["environment"]["host"] == {}
    assert result.ret == 10  # whatever a report says


def test_a_plugin_is_named_by_its_name(run: Any, pytester: pytest.Pytester) -> None:
    pytester.makepyfile(pushy="def pytest_llmperf_report(): raise OSError('no route')\n")
    pytester.syspathinsert()
    result, report = run("", "-p", "pushy")
    assert result.ret == 11
    assert "hook of plugin 'pushy', line 1, raised OSError: no route" in report["problems"][0]


def test_secrets_in_what_was_raised_are_not_told(run: Any) -> None:
    result, report = run(
        "def pytest_llmperf_report(): raise OSError('GET https://me:sesame@host/')\n"
    )
    assert "sesame" not in result.stdout.str() + json.dumps(report)
