"""Mistakes in declarations are usage errors that name the place and the remedy."""

from __future__ import annotations

import pytest

HEAD = """
import pytest
pytestmark = [pytest.mark.llm_server("sim", model="m"),
              pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=40)]
"""


def usage_error(pytester: pytest.Pytester, body: str, *args: str) -> str:
    pytester.makepyfile(test_it=HEAD + body)
    result = pytester.runpytest("--collect-only", *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR, result.stdout.str()
    return result.stderr.str()


@pytest.mark.parametrize(
    ("marker", "told"),
    [
        ("llm_floor(output_thruput='1 tok/s')", "Did you mean 'output_throughput'?"),
        ("llm_floor(output_throughput='5 ms')", "measures something else"),
        ("llm_floor(output_throughput=5)", "a unit is missing"),
        ("llm_floor(ttft_p50='5 ms')", "use llm_ceiling"),
        ("llm_ceiling(output_throughput='5 tok/s')", "use llm_floor"),
        ("llm_ceiling(ttft='5 ms')", "ttft_p95"),
        ("llm_ceiling(ttft_p95='5 ms')", "need 200 requests"),
        ("llm_floor('1800 tok/s')", "keywords only"),
        ("llm_floor()", "name at least one metric"),
        ("llm_no_regression(output_throughput='3')", "expected a loss"),
        ("llm_no_regression(output_throughput='3%', allow='5%')", "smaller than the loss"),
        ("llm_server('sim', modle='x')", "Did you mean 'model'?"),
        ("llm_server('sglang')", "needs model="),
        ("llm_workload('chatt')", "Did you mean 'chat'?"),
        ("llm_workload('chat', concurency=3)", "Did you mean 'concurrency'?"),
        ("llm_workload('chat', rate='10 tok/s')", "a number with one of the units req/s"),
        ("llm_workload('chat', arrivals='gamma')", "needs a rate"),
        ("llm_workload('chat', requests=40, duration='60 s')", "give one of them"),
        ("llm_workload('chat', slo='mlperf-r1')", "Did you mean 'mlperf-r1-server'?"),
        ("llm_workload('chat', slo={'tfft': '1 s'})", "Did you mean 'ttft'?"),
        ("llm_workload('prompts.jsonl')", "no file 'prompts.jsonl' in"),
        ("llm_workload('bad.jsonl')", "bad.jsonl, line 2:"),
        ("llm_floor(goodput='1 req/s')", 'add slo={"ttft": "2 s", "tpot": "80 ms"}'),
        ("llm_ceiling(ttft_from_schedule_p50='1 s')", "add rate= to llm_workload"),
    ],
)
def test_a_wrong_marker_names_place_and_remedy(
    pytester: pytest.Pytester, marker: str, told: str
) -> None:
    pytester.path.joinpath("bad.jsonl").write_text('{"prompt": "a"}\n{"prompt": 1}\n')
    said = usage_error(pytester, f"@pytest.mark.{marker}\ndef test_a(llm_perf): llm_perf.run()\n")
    assert told in said
    assert "test_it.py:4" in said
    assert "Traceback" not in said


SHOW = """
import pytest
from pytest_llmperf.expectations import read_expectation
from pytest_llmperf.settings import Settings

def pytest_collection_finish(session):
    settings = Settings.from_config(session.config)
    for item in session.items:
        print("WORKLOAD", item.name, read_expectation(item, settings).workload)
"""


def declared(pytester: pytest.Pytester, body: str, *args: str) -> str:
    """What each test declares, as printed."""
    pytester.makeconftest(SHOW)
    pytester.makepyfile(
        test_it="import pytest\npytestmark = pytest.mark.llm_server('sim', model='m')\n" + body
    )
    result = pytester.runpytest("--collect-only", "-q", *args)
    assert result.ret == pytest.ExitCode.OK, result.stderr.str()
    return result.stdout.str()


def test_a_parameter_named_like_a_field_sets_it(pytester: pytest.Pytester) -> None:
    said = declared(
        pytester,
        "@pytest.mark.llm_workload('chat')\n"
        "@pytest.mark.parametrize(('rate', 'duration'), [('10 req/s', '90 s'), (None, None)])\n"
        "def test_a(llm_perf, rate, duration): llm_perf.run()\n",
    )
    opened, closed = [line for line in said.splitlines() if line.startswith("WORKLOAD")]
    assert "arrivals='poisson', rate=10.0" in opened
    assert "duration_s=90.0" in opened
    assert "requests=None" in opened
    assert "arrivals='closed', rate=None" in closed
    assert "requests=80" in closed


def test_files_are_found_beside_the_test_and_in_the_root(pytester: pytest.Pytester) -> None:
    beside = pytester.mkdir("perf")
    pytester.makeini("[pytest]")
    for directory, text in ((pytester.path, "root"), (beside, "beside")):
        directory.joinpath("both.jsonl").write_text(
            f'{{"prompt": "{text}", "max_tokens": 2}}\n' * 8
        )
    pytester.path.joinpath("root.jsonl").write_text('{"prompt": "x", "max_tokens": 2}\n' * 8)
    pytester.makeconftest(SHOW)
    beside.joinpath("test_perf.py").write_text(
        "import pytest\npytestmark = pytest.mark.llm_server('sim', model='m')\n"
        "@pytest.mark.llm_workload('both.jsonl')\ndef test_a(llm_perf): pass\n"
        "@pytest.mark.llm_workload('root.jsonl')\ndef test_b(llm_perf): pass\n"
    )
    said = pytester.runpytest("--collect-only", "-q").stdout.str()
    assert f"path='{beside / 'both.jsonl'}'" in said
    assert f"path='{pytester.path / 'root.jsonl'}'" in said


def test_objectives_come_from_the_preset_unless_given(pytester: pytest.Pytester) -> None:
    said = declared(
        pytester,
        "@pytest.mark.llm_workload('mlperf-r1')\n"
        "@pytest.mark.llm_floor(goodput='1 req/s')\n"
        "def test_a(llm_perf): llm_perf.run()\n"
        "@pytest.mark.llm_workload('mlperf-r1', slo={'e2e': '9 s'})\n"
        "def test_b(llm_perf): llm_perf.run()\n",
    )
    assert "slo=(Slo(metric='ttft', limit_ms=2000.0), Slo(metric='tpot', limit_ms=80.0))" in said
    assert "slo=(Slo(metric='e2e', limit_ms=9000.0),)" in said


def test_without_a_stream_nothing_of_it_can_be_gated(pytester: pytest.Pytester) -> None:
    said = usage_error(
        pytester,
        "@pytest.mark.llm_workload('chat', stream=False, requests=40)\n"
        "@pytest.mark.llm_ceiling(ttft_p50='1 s')\n"
        "def test_a(llm_perf): llm_perf.run()\n",
    )
    assert "ttft_p50 is measured on a stream" in said


@pytest.mark.parametrize(
    "given", ["rate=50", "duration='9 s'", "rate=5, duration='9 s', ramp_up=0", "concurrency=4"]
)
def test_a_smoke_run_is_short_whatever_the_pace(pytester: pytest.Pytester, given: str) -> None:
    said = declared(
        pytester,
        f"@pytest.mark.llm_workload('sessions', {given})\ndef test_a(llm_perf): llm_perf.run()\n",
        "--llmperf=smoke",
    )
    assert f"requests={16 if 'concurrency' in given else 32}, warmup_requests=1, runs=1" in said
    assert "duration_s=None" in said


def test_all_mistakes_are_told_at_once(pytester: pytest.Pytester) -> None:
    said = usage_error(
        pytester,
        "@pytest.mark.llm_floor(a='1')\ndef test_a(llm_perf): pass\n"
        "@pytest.mark.llm_floor(b='1')\ndef test_b(llm_perf): pass\n",
    )
    assert "(test_a)" in said
    assert "(test_b)" in said


def test_a_gate_without_the_fixture_is_a_mistake(pytester: pytest.Pytester) -> None:
    said = usage_error(
        pytester,
        "@pytest.mark.llm_floor(output_throughput='1 tok/s')\ndef test_a(llm_server): pass\n",
    )
    assert "does not use llm_perf" in said


def test_a_testcase_method_cannot_be_gated(pytester: pytest.Pytester) -> None:
    said = usage_error(
        pytester,
        "import unittest\nclass TestA(unittest.TestCase):\n"
        "    @pytest.mark.llm_floor(output_throughput='1 tok/s')\n    def test_a(self): pass\n",
    )
    assert "unittest.TestCase" in said


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--llmperf-launches=0"], "--llmperf-launches=0: expected a whole number"),
        (["--llmperf-model=x"], "expected MODEL=OTHER"),
        (["-o", "llmperf=maybe"], "expected one of off, smoke, on"),
        (["-o", "llmperf_family=x"], "expected a number of gates"),
    ],
)
def test_a_wrong_option_is_named(pytester: pytest.Pytester, args: list[str], told: str) -> None:
    assert told in usage_error(pytester, "def test_a(llm_perf): pass\n", *args)


def test_under_xdist_the_mistake_is_told_by_its_test(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + "@pytest.mark.llm_floor(a='1')\ndef test_a(llm_perf): pass\ndef test_b(): pass\n"
    )
    result = pytester.runpytest("-n2")
    result.assert_outcomes(errors=1, passed=1)
    result.stdout.fnmatch_lines(["*unknown metric 'a'*"])


def test_markers_and_fixtures_and_help_are_documented(pytester: pytest.Pytester) -> None:
    markers = pytester.runpytest("--markers").stdout.str()
    for name in ("llm_server", "llm_workload", "llm_floor", "llm_ceiling", "llm_no_regression"):
        assert f"@pytest.mark.{name}(" in markers
    fixtures = pytester.runpytest("--fixtures").stdout.str()
    for name in ("llm_server", "llm_endpoint", "llm_perf", "llm_accelerator"):
        assert name in fixtures
    assert "no docstring available" not in fixtures.partition("llm_")[2][:3000]
    assert "--llmperf-report=PATH" in pytester.runpytest("--help").stdout.str()
