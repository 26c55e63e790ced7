"""Servers that listen on another address than 127.0.0.1."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.launch.addresses import own_addresses

SUITE = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sim", args="--ttft-ms 10 --itl-ms 1"),
    pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=8),
]

def test_it(llm_perf, llm_server):
    assert llm_perf.run().success_rate == 1.0
    print("asked at", llm_server.url)
"""
NOTE = "without a key"


def launched(pytester: pytest.Pytester, *args: str) -> dict[str, Any]:
    """The launch of a suite that passes."""
    pytester.makepyfile(SUITE)
    args = ("-rP", "--llmperf-runs=1", "--llmperf-report=report.json", *args)
    result = pytester.runpytest(*args)
    result.assert_outcomes(passed=1)
    report = json.loads(Path(pytester.path, "report.json").read_text())
    launch: dict[str, Any] = report["servers"][0]["launches"][0]
    result.stdout.fnmatch_lines([f"asked at {launch['url']}"])
    return launch


def listens(launch: dict[str, Any]) -> str:
    argv: list[str] = launch["argv"]
    return argv[argv.index("--host") + 1]


def test_no_other_machine_reaches_a_server_unless_that_is_asked_for(
    pytester: pytest.Pytester,
) -> None:
    launch = launched(pytester)
    assert listens(launch) == "127.0.0.1"
    assert not any(NOTE in note for note in launch["notes"])


def test_an_address_of_this_machine_is_listened_on_and_asked_at(pytester: pytest.Pytester) -> None:
    launch = launched(pytester, "--llmperf-bind=127.0.0.2")
    assert listens(launch) == "127.0.0.2"
    assert launch["url"].startswith("http://127.0.0.2:")
    assert not any(NOTE in note for note in launch["notes"])


def test_that_others_reach_a_server_is_in_the_report_and_no_proxy_is_asked(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own_addresses():
        pytest.skip("this machine has no address but its loopback's")
    address = own_addresses()[0]
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    pytester.makeini(f"[pytest]\nllmperf_bind = {address}\n")
    launch = launched(pytester)
    assert listens(launch) == address
    assert [note for note in launch["notes"] if NOTE in note and address in note]


def test_what_is_compared_does_not_depend_on_it(pytester: pytest.Pytester) -> None:
    subjects = []
    for host in ("127.0.0.1", "127.0.0.2"):
        launch = launched(pytester, f"--llmperf-bind={host}", f"--llmperf-store={os.curdir}/perf")
        subjects.append(launch["subject"])
    assert subjects[0]["args"]
    assert subjects[0] == subjects[1]


def test_a_wildcard_is_refused_with_what_can_be_meant(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(SUITE)
    result = pytester.runpytest("--llmperf-bind=0.0.0.0")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(
        ["*--llmperf-bind=0.0.0.0: that stands for every address*127.0.0.1*"]
    )
