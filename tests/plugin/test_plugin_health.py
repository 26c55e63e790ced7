"""Bounds of the client's health, from the ini file to the verdict; what only the server knows."""

from __future__ import annotations

import json

import pytest

pytestmark = pytest.mark.client_bounds

TEST = """
import pytest

@pytest.mark.llm_server("sim", model="m")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=8, concurrency=2)
@pytest.mark.llm_floor(output_throughput="0.01 tok/s")
def test_a(llm_perf):
    run = llm_perf.run()
    print("cold", run.cold_ttft, "hits", run.cache_hit_rate, "accepted", run.accept_length)
"""


def test_a_client_past_its_bound_is_neutral_and_told(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nllmperf_client_cpu = 0%\nllmperf_runs = 1")
    pytester.makepyfile(TEST)
    result = pytester.runpytest("--llmperf-report=r.json")
    assert result.ret == 0
    report = json.loads((pytester.path / "r.json").read_text())
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"]) == ("inconclusive", "client_bound")
    assert "of a core (bound 0%)" in gate["reason"]
    assert report["counts"]["valid_runs"] == 0


def test_a_bound_that_is_off_binds_nothing(pytester: pytest.Pytester) -> None:
    bounds = ("cpu", "lag", "send_delay", "delivered", "in_flight")
    off = "\n".join(f"llmperf_client_{name} = off" for name in bounds)
    pytester.makeini(f"[pytest]\n{off}\nllmperf_max_drift = off\nllmperf_runs = 1")
    pytester.makepyfile(TEST)
    result = pytester.runpytest("-s", "--llmperf-report=r.json")
    assert result.ret == 0
    assert json.loads((pytester.path / "r.json").read_text())["counts"]["invalid_runs"] == 0
    result.stdout.re_match_lines([r".*cold \d+\.\d+ hits 0\.0 accepted None"])


@pytest.mark.parametrize(
    ("name", "value", "example"),
    [
        ("llmperf_client_lag", "soon", "25 ms"),
        ("llmperf_client_send_delay", "5", "5 ms"),
        ("llmperf_client_cpu", "90 ms", "90%"),
        ("llmperf_max_drift", "-20%", "20%"),
    ],
)
def test_a_bound_that_cannot_be_read_names_itself(
    pytester: pytest.Pytester, name: str, value: str, example: str
) -> None:
    pytester.makeini(f"[pytest]\n{name} = {value}")
    pytester.makepyfile(TEST)
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    said = f"*ini value {name} = '{value}': expected a value such as '{example}', or 'off'.*"
    result.stderr.fnmatch_lines([said])


def test_a_gate_on_accidental_hits_is_a_usage_error(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TEST.replace('output_throughput="0.01 tok/s"', 'cache_hit_rate="1%"'))
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*cache_hit_rate: no two prompts*"])
