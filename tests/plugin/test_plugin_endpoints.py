"""Two endpoints that run already: their keys, and what is said of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_llmperf.testing import FakeServer, Script

TEST = """
import pytest
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=16, requests=8, concurrency=4)
@pytest.mark.llm_no_regression(tpot_mean="20%")
def test_a(llm_perf): llm_perf.run()
"""


def session(
    pytester: pytest.Pytester, mine: FakeServer, theirs: FakeServer, *args: str
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=TEST)
    result = pytester.runpytest(
        "--llmperf-runs=1",
        "--llmperf-no-progress",
        "--llmperf-quality=off",
        "--llmperf-report=r.json",
        f"--llmperf-url={mine.url}",
        f"--llmperf-reference-url={theirs.url}",
        *args,
    )
    return result, json.loads((pytester.path / "r.json").read_text())


def script(itl_ms: float, key: str | None = None) -> Script:
    return Script(model="m", ttft_ms=2, itl_ms=itl_ms, api_key=key)


def test_each_host_gets_its_own_key(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPERF_API_KEY", "sk-candidate")
    monkeypatch.setenv("LLMPERF_REFERENCE_API_KEY", "sk-reference")
    with (
        FakeServer(script(2, "sk-candidate")) as mine,
        FakeServer(script(4, "sk-reference")) as theirs,
    ):
        result, report = session(pytester, mine, theirs)
    assert result.ret == 0
    assert report["gates"][0]["verdict"] == "pass"
    assert "sk-" not in json.dumps(report) + result.stdout.str()


def test_the_key_of_one_host_does_not_open_another(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMPERF_API_KEY", "sk-candidate")
    with (
        FakeServer(script(2, "sk-candidate")) as mine,
        FakeServer(script(4, "sk-candidate")) as theirs,
    ):
        result, report = session(pytester, mine, theirs)
    assert result.ret == 11
    assert "401" in report["tests"][0]["message"]


def test_visits_are_called_what_they_are(pytester: pytest.Pytester) -> None:
    with FakeServer(script(2)) as mine, FakeServer(script(4)) as theirs:
        result, report = session(pytester, mine, theirs)
    (gate,) = report["gates"]
    assert "interleaved pairs of visits on" in gate["reason"]
    assert "the luck of their one launch is in the result" in gate["against"]
    result.stdout.fnmatch_lines(["2 servers", "*attached at*", "*the reference*attached at*"])
    shown = result.stdout.str().partition("= llmperf =")[2].replace(gate["against"], "")
    assert "launches" not in shown


@pytest.mark.parametrize("option", ["--llmperf-url", "--llmperf-reference-url"])
def test_a_url_with_a_query_is_refused_and_not_shown(
    pytester: pytest.Pytester, option: str
) -> None:
    pytester.makepyfile(test_it=TEST)
    result = pytester.runpytest(f"{option}=http://host:1/v1?api_key=sk-1")
    assert result.ret == 4
    said = result.stdout.str() + result.stderr.str()
    variable = "LLMPERF_REFERENCE_API_KEY" if "reference" in option else "LLMPERF_API_KEY"
    assert f"the environment variable {variable}." in said
    assert "sk-1" not in said
