"""Hostile names and server logs, through a whole session and what it writes."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

TEST = r"""
import pytest

BAD = "</system-out><script>alert(1)</script> \x1b[31mred\u202e\u2066 ]]>\n::error::x\n##[group]y"
LONG = "\x1b[1m<b>" * 10_000
W = pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=20, concurrency=4)

@pytest.mark.llm_server("sim", model="m" + BAD, args=["--ttft-ms", "20", "--itl-ms", "2"])
@W
@pytest.mark.llm_ceiling(ttft_p50="0.001 ms")
@pytest.mark.parametrize("name", [BAD], ids=[BAD])
def test_named(llm_perf, name): llm_perf.run()

@pytest.mark.llm_server("sim", model="m", args=["--no-such" + BAD, LONG])
@W
@pytest.mark.llm_ceiling(ttft_p50="60 s")
def test_not_started(llm_perf): llm_perf.run()
"""
TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def test_what_a_session_writes_is_inert(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = pytester.path / "summary.md"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    pytester.makepyfile(test_it=TEST)
    result = pytester.runpytest(
        *("--llmperf-runs=1", "--llmperf-no-progress", "--llmperf-github", "--color=no"),
        *("--junitxml=j.xml", "--llmperf-report=r.json", "--tb=short"),
    )
    assert result.ret == 10
    # Well-formed XML, whose texts nothing obeys.
    suites = ElementTree.parse(pytester.path / "j.xml")  # noqa: S314 - pytest's own
    assert len(list(suites.iter("testcase"))) == 2
    assert {element.tag for element in suites.iter()} <= {
        *("testsuites", "testsuite", "testcase", "properties", "property"),
        *("failure", "error", "system-out", "system-err"),
    }
    for element in suites.iter("property"):
        for text in (element.get("name", ""), element.get("value", "")):
            assert not TURNING.search(text)
            assert len(text) < 10_000
    lines = result.outlines
    ours = lines[
        lines.index(
            "=================================== llmperf ===================================="
        ) :
    ]
    assert not TURNING.search("\n".join(ours))
    assert not any("\x1b" in line for line in ours)
    # Names of tests that pytest itself shows are its own.
    assert not any("##[" in line for line in lines if "test_named[" not in line)
    for line in lines:
        if line.lstrip().startswith("::"):
            assert re.match(r"::(error|warning) file=", line)
    told = summary.read_text()
    assert "<script>" not in told
    assert "\x1b" not in told
