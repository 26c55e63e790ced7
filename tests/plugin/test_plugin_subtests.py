"""A test that only a subtest makes red is red in the report, too."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    not hasattr(pytest, "Subtests"), reason="pytest has subtests since 9.0"
)
TEST = """
import pytest
from pytest_llmperf import ServerError
@pytest.mark.llm_server("sim", model="m", args="--ttft-ms 2 --itl-ms 1")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=4, requests=8, concurrency=2)
@pytest.mark.llm_floor(output_throughput="{floor} tok/s")
def test_a(llm_perf, subtests):
    {body}
"""
LOOP = """llm_perf.run()
    for number in range(3):
        with subtests.test(number=number):
            assert number < {limit}, "too many"
"""
FAST = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
GATE, UNMEASURED = 10, 11


def session(
    pytester: pytest.Pytester, body: str, *args: str, floor: str = "1"
) -> tuple[int, dict[str, Any]]:
    """The exit status, and what the report says."""
    pytester.makepyfile(test_it=TEST.format(body=body, floor=floor))
    result = pytester.runpytest(*FAST, *args)
    report: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return int(result.ret), report


def ended(report: dict[str, Any]) -> tuple[str, str]:
    assert len(report["tests"]) == 1
    return report["tests"][0]["outcome"], report["tests"][0]["message"]


@pytest.mark.parametrize("workers", [(), ("-n1",)])
def test_the_first_of_failed_subtests_is_told(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    status, report = session(pytester, LOOP.format(limit=1), *workers)
    assert status == report["exit_status"] == 1
    outcome, message = ended(report)
    assert outcome == "failed"
    assert message.startswith("2 subtests failed, the first by too many")
    # What was measured is reported once, though three more reports were made of it.
    assert [gate["verdict"] for gate in report["gates"]] == ["pass"]
    assert len(report["measurements"]) == 1


def test_subtests_that_pass_change_nothing(pytester: pytest.Pytester) -> None:
    status, report = session(pytester, LOOP.format(limit=3))
    assert (status, ended(report)) == (0, ("passed", ""))


def test_a_slow_server_is_slow_whatever_subtests_say(pytester: pytest.Pytester) -> None:
    """The verdict is the test's own."""
    status, report = session(pytester, LOOP.format(limit=3), floor="100000000")
    assert status == GATE
    assert ended(report)[0] == "slow"


@pytest.mark.parametrize(
    ("limit", "status", "outcome"), [(3, UNMEASURED, "broken"), (1, 1, "failed")]
)
def test_a_server_that_breaks_in_a_subtest_is_broken(
    pytester: pytest.Pytester, limit: int, status: int, outcome: str
) -> None:
    """Unless the test asserts something that does not hold as well."""
    breaks = '    with subtests.test():\n        raise ServerError("it went away")\n'
    found, report = session(pytester, LOOP.format(limit=limit) + breaks)
    assert found == report["exit_status"] == status
    assert ended(report)[0] == outcome


def test_a_run_within_a_subtest_counts(pytester: pytest.Pytester) -> None:
    body = "with subtests.test():\n        llm_perf.run()\n"
    status, report = session(pytester, body)
    assert (status, ended(report)) == (0, ("passed", ""))
    assert len(report["measurements"]) == 1


def test_a_body_that_fails_speaks_for_itself(pytester: pytest.Pytester) -> None:
    status, report = session(
        pytester, LOOP.format(limit=1) + "    raise RuntimeError('after it')\n"
    )
    assert status == 1
    assert ended(report) == ("failed", "after it")
