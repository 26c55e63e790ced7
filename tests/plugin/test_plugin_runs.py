"""Whole sessions on the simulator: what is started, shared, judged, reported and returned."""

from __future__ import annotations

import json
from typing import Any

import pytest

HEAD = """
import pytest
from pytest_llmperf import LimitMissed
pytestmark = [
    pytest.mark.llm_server("sim", model="m"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=24, concurrency=4),
]
"""
FLOOR = "@pytest.mark.llm_floor(output_throughput='{}')\n"
LOW, HIGH = FLOOR.format("0.01 tok/s"), FLOOR.format("100000000 tok/s")
RUN = "def test_a(llm_perf): llm_perf.run()\n"


def run(
    pytester: pytest.Pytester, body: str, *args: str
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=HEAD + body)
    result = pytester.runpytest("--llmperf-report=out/r.json", "--llmperf-runs=1", *args)
    report = pytester.path / "out" / "r.json"
    return result, json.loads(report.read_text()) if report.exists() else {}


def test_a_floor_that_holds_passes(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester,
        LOW
        + "def test_a(llm_perf):\n"
        + (
            "    run = llm_perf.run()\n"
            "    assert run.success_rate == 1.0\n"
            "    assert run.output_throughput > 0\n"
            "    assert run.ttft_p50 > 0\n"
            "    assert run.workload.concurrency == 4\n"
        ),
    )
    assert result.ret == 0
    assert report["verdict"] == "pass"
    assert report["simulated"] is True
    assert report["gates"][0]["verdict"] == "pass"
    result.stdout.fnmatch_lines(["*SIMULATED*", "report: *r.json"])


def test_a_missed_floor_fails_in_the_call_with_one_sentence(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, HIGH + RUN)
    assert result.ret == 10
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_a - −*% under floor: *"])
    assert report["tests"][0]["outcome"] == "slow"
    assert report["exit_status"] == 10
    assert "Traceback" not in result.stdout.str()


def test_xfail_for_a_missed_limit_is_honoured(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester, "@pytest.mark.xfail(strict=True, raises=LimitMissed)\n" + HIGH + RUN
    )
    assert result.ret == 0
    result.assert_outcomes(xfailed=1)
    assert report["gates"][0]["verdict"] == "fail"


def test_xfail_does_not_excuse_a_server_that_never_started(pytester: pytest.Pytester) -> None:
    body = "@pytest.mark.xfail(strict=True, raises=LimitMissed)\n" + HIGH + RUN
    body = body.replace(
        "def test_a",
        "@pytest.mark.llm_server('sim', model='m', args='--fail-start boom')\ndef test_a",
    )
    result, report = run(pytester, body)
    result.assert_outcomes(errors=1)
    assert result.ret == 11
    assert report["tests"][0]["outcome"] == "broken"
    assert "boom" in result.stdout.str()


def test_xfail_without_raises_on_a_broken_server_is_not_green(pytester: pytest.Pytester) -> None:
    body = (
        "@pytest.mark.llm_server('sim', model='m', args='--fail-start boom')\n"
        "@pytest.mark.xfail(strict=True)\n" + RUN
    )
    result, _ = run(pytester, body)
    assert result.ret == 11


def test_a_failing_body_wins_and_the_verdict_is_a_note(pytester: pytest.Pytester) -> None:
    result, _ = run(
        pytester, HIGH + "def test_a(llm_perf):\n    llm_perf.run()\n    assert 1 == 2\n"
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*assert 1 == 2*", "*under floor*"])


def test_a_gate_that_was_never_measured_is_red(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, LOW + "def test_a(llm_perf): pass\n")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["FAILED *declared but never measured*"])
    assert report["gates"][0]["reason_code"] == "never_measured"


def test_no_limit_for_this_accelerator_is_not_a_pass(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester, "@pytest.mark.llm_floor(output_throughput='1 tok/s', on='RTX 4090')\n" + RUN
    )
    assert result.ret == 11
    assert report["gates"][0]["reason_code"] == "no_limit"
    assert "no limit for" in result.stdout.str()


def test_no_regression_without_a_reference_is_red(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, "@pytest.mark.llm_no_regression(output_throughput='3%')\n" + RUN)
    assert result.ret == 11
    assert report["gates"][0]["reason_code"] == "no_reference"
    assert "name a reference" in result.stdout.str()


def test_tests_that_ask_for_the_same_server_share_one_launch(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester,
        "@pytest.mark.parametrize('concurrency', [1, 2, 3])\n"
        "def test_a(llm_perf, concurrency):\n"
        "    assert llm_perf.run().workload.concurrency == concurrency\n"
        "def test_b(llm_server): assert llm_server.url.startswith('http://127.0.0.1')\n",
    )
    assert result.ret == 0
    assert report["counts"]["launches"] == 1
    result.assert_outcomes(passed=4)


def test_different_servers_get_launches_of_their_own(pytester: pytest.Pytester) -> None:
    _, report = run(
        pytester,
        RUN
        + "@pytest.mark.llm_server('sim', model='other')\ndef test_b(llm_perf): llm_perf.run()\n",
    )
    assert report["counts"]["launches"] == 2
    assert len(report["servers"]) == 2


def test_three_launches_are_shared_by_the_tests_of_a_block(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester,
        LOW
        + RUN
        + "@pytest.mark.llm_workload('chat', input_tokens=8, output_tokens=4, requests=8)\n"
        "def test_b(llm_perf): llm_perf.run()\n",
        "--llmperf-launches=3",
    )
    assert result.ret == 0
    assert report["counts"]["launches"] == 3
    assert report["gates"][0]["n_launches"] == 3
    assert report["gates"][0]["ci_low"] is not None
    for measurement in report["measurements"]:
        assert len({run["launch_id"] for run in measurement["runs"]}) == 3


def test_results_of_xdist_workers_reach_the_controller(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester, LOW + RUN + HIGH + RUN.replace("test_a", "test_b") + "def test_c(): pass\n", "-n2"
    )
    result.assert_outcomes(passed=2, failed=1)
    assert result.ret == 10
    assert {test["test"]: test["outcome"] for test in report["tests"]} == {
        "test_it.py::test_a": "passed",
        "test_it.py::test_b": "slow",
    }
    result.stdout.fnmatch_lines(["*under floor*"])


def test_a_report_is_written_when_the_run_is_interrupted(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    # In a process of its own: an interrupt would reach the session that runs this test.
    monkeypatch.setattr(pytester, "runpytest", pytester.runpytest_subprocess)
    result, report = run(pytester, LOW + RUN + "def test_b(): raise KeyboardInterrupt\n")
    assert result.ret == 2
    assert report["complete"] is False
    assert report["gates"][0]["verdict"] == "pass"


def test_junit_carries_verdict_and_metrics(pytester: pytest.Pytester) -> None:
    run(pytester, LOW + RUN, "--junitxml=j.xml")
    xml = (pytester.path / "j.xml").read_text()
    assert 'name="llmperf.verdict" value="pass"' in xml
    assert 'name="llmperf.output_throughput"' in xml


def test_off_skips_and_smoke_measures_without_gates(pytester: pytest.Pytester) -> None:
    result, _ = run(pytester, HIGH + RUN, "--llmperf=off")
    result.assert_outcomes(skipped=1)
    result, report = run(pytester, HIGH + RUN, "--llmperf=smoke")
    result.assert_outcomes(passed=1)
    assert report["gates"] == []
    assert report["measurements"][0]["runs"][0]["requests"]["sent"] == 4


def test_attaching_to_an_endpoint_launches_nothing(pytester: pytest.Pytester) -> None:
    from pytest_llmperf.testing import FakeServer, Script

    with FakeServer(Script()) as server:
        result, report = run(pytester, LOW + RUN, f"--llmperf-url={server.url}")
        assert result.ret == 11
        assert report["gates"][0]["reason_code"] == "no_limit"
        assert [launch["launched"] for launch in report["servers"][0]["launches"]] == [False]
        remote = LOW.replace("s')", "s', remote=True)")
        result, _ = run(pytester, remote + RUN, f"--llmperf-url={server.url}")
        assert result.ret == 0


def test_a_dead_server_is_broken_not_slow(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester,
        "@pytest.mark.llm_server('sim', model='m', args='--die-after 10')\n" + LOW + RUN,
    )
    assert result.ret == 11
    result.assert_outcomes(failed=1)
    assert report["tests"][0]["outcome"] == "broken"


def test_async_tests_measure_with_arun(pytester: pytest.Pytester) -> None:
    result, _ = run(
        pytester,
        LOW + "def test_a(llm_perf):\n"
        "    import asyncio\n"
        "    assert asyncio.run(llm_perf.arun()).success_rate == 1.0\n",
    )
    assert result.ret == 0


def test_a_context_too_small_is_told_before_anything_is_sent(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester,
        "@pytest.mark.llm_server('sim', model='m', args='--max-context-tokens 12')\n" + RUN,
    )
    assert result.ret == 11
    assert "context is too small" in result.stdout.str()
    assert report["tests"][0]["outcome"] == "broken"


def test_hooks_offer_engines_and_hear_verdicts_and_the_report(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        "from pytest_llmperf.engines.sim import Sim\n"
        "def pytest_llmperf_engines(config): return {'mine': Sim()}\n"
        "def pytest_llmperf_fingerprint(config, accelerator, facts): facts['rack'] = 'a7'\n"
        "def pytest_llmperf_verdict(item, verdict): print('HEARD', item.name, verdict.verdict)\n"
        "def pytest_llmperf_report(config, document): print('REPORT', document['verdict'])\n"
    )
    result, report = run(
        pytester,
        "@pytest.mark.llm_server('mine', model='m')\n" + LOW + RUN,
        "-s",
    )
    assert result.ret == 0
    assert report["environment"]["fingerprint"]["match"]["rack"] == "a7"
    result.stdout.fnmatch_lines(["*HEARD test_a pass*", "*REPORT pass*"])


def test_the_server_survives_between_modules_and_user_fixtures(pytester: pytest.Pytester) -> None:
    body = (
        "@pytest.fixture(scope='module')\n"
        "def warm(llm_server): return llm_server.url\n"
        "def test_a(warm, llm_perf): assert llm_perf.server.url == warm\n"
    )
    pytester.makepyfile(test_other=HEAD + body)
    result, report = run(pytester, body)
    assert result.ret == 0
    assert report["counts"]["launches"] == 1


def test_the_closest_marker_wins_for_each_metric_and_accelerator(
    pytester: pytest.Pytester,
) -> None:
    _, report = run(
        pytester,
        "@pytest.mark.llm_floor(output_throughput='3 tok/s', on='no such card')\n"
        "@pytest.mark.llm_floor(output_throughput='1 tok/s', on='cpu')\n"
        "class TestIt:\n"
        "    @pytest.mark.llm_floor(output_throughput='2 tok/s', on='cpu')\n"
        "    def test_a(self, llm_perf): llm_perf.run()\n",
    )
    assert [gate["limit"] for gate in report["gates"]] == [2.0]


def test_limits_that_contradict_each_other_are_a_mistake_before_the_launch(
    pytester: pytest.Pytester,
) -> None:
    result, report = run(
        pytester,
        "@pytest.mark.llm_floor(output_throughput='1 tok/s', on='.+')\n"
        "@pytest.mark.llm_floor(output_throughput='2 tok/s', on='.*')\n" + RUN,
    )
    result.assert_outcomes(errors=1)
    assert "declared twice" in result.stdout.str()
    assert report["counts"]["launches"] == 0


def test_a_result_that_a_worker_lost_is_red(pytester: pytest.Pytester) -> None:
    # xdist alone ends green here: the worker dies of its internal error, and its tests with it.
    pytester.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True)\n"
        "def pytest_runtest_makereport(item, call):\n"
        "    report = yield\n"
        "    if item.name == 'test_b' and call.when == 'call': raise RuntimeError('lost')\n"
        "    return report\n"
    )
    result, report = run(
        pytester, LOW + RUN + RUN.replace("test_a", "test_b"), "-n1", "--dist=loadgroup"
    )
    assert result.ret == 11
    assert report["complete"] is False
    result.stdout.fnmatch_lines(["ERROR: 1 collected test* never reported a result: *test_b*"])


def test_a_gate_deselected_by_k_still_counts_in_the_family(pytester: pytest.Pytester) -> None:
    _, report = run(pytester, LOW + RUN + LOW + RUN.replace("test_a", "test_b"), "-k", "test_a")
    assert [gate["family"] for gate in report["gates"]] == [2]


def test_a_report_that_cannot_be_written_is_told_and_red(pytester: pytest.Pytester) -> None:
    # What is in the way from the start is refused then; this comes later.
    pytester.makeconftest(
        """
        import shutil
        from pathlib import Path
        def pytest_runtest_logfinish():
            shutil.rmtree("out")
            Path("out").write_text("")
        """
    )
    result, report = run(pytester, LOW + RUN)
    assert report == {}
    assert result.ret == 11
    result.stdout.fnmatch_lines(["ERROR: *out*"])


@pytest.mark.client_bounds  # nothing of ours may be set
def test_without_perf_tests_nothing_is_said_and_nothing_loaded(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=WHAT_IS_LOADED)
    result = pytester.runpytest_subprocess("-v")
    result.assert_outcomes(passed=1)
    assert "llmperf" not in result.stdout.str().partition("collected")[2]


#: Nothing of ours but what declares, and none of what the rest of us is built on: all of that
#: costs every pytest run of the environment. (dataclasses is pytest's own.)
WHAT_IS_LOADED = """
import sys

def test_a():
    ours = {name for name in sys.modules if name.split(".")[0] == "pytest_llmperf"}
    declaring = {"fixtures", "hookspecs", "markers", "options", "plugin", "terminal_fd"}
    assert ours == {"pytest_llmperf", *(f"pytest_llmperf.{name}" for name in declaring)}
    heavy = {"numpy", "scipy", "msgspec", "psutil", "jsonschema", "tabulate", "uvloop", "httptools"}
    assert not heavy & set(sys.modules)
"""


def test_options_are_named_as_pytest_would_name_them(pytester: pytest.Pytester) -> None:
    """Each option says where its value goes, as pytest would have named it itself."""
    parser = pytester.parseconfig()._parser  # what --help is made of
    group = next(group for group in parser._groups if group.name == "llmperf")
    named = {option.names()[0]: option.dest for option in group.options}
    assert len(named) > 40
    assert named == {name: name[2:].replace("-", "_") for name in named}


def test_a_fixture_without_a_marker_says_what_to_add(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it="def test_a(llm_server): pass\n")
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    assert "llm_server does not know what to start" in result.stdout.str()


def test_one_bare_url_cannot_stand_for_two_servers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + RUN
        + "@pytest.mark.llm_server('sim', model='other')\ndef test_b(llm_perf): llm_perf.run()\n"
    )
    result = pytester.runpytest("--llmperf-url=http://127.0.0.1:9")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "would stand for 2 servers (sim with m, sim with other)" in result.stderr.str()


def test_the_endpoint_fixture_attaches_to_the_url(pytester: pytest.Pytester) -> None:
    from pytest_llmperf.testing import FakeServer

    pytester.makepyfile(
        test_it="def test_a(llm_endpoint):\n"
        "    assert llm_endpoint.engine == 'endpoint'\n"
        "    assert llm_endpoint.model == 'sim'\n"
        "    assert llm_endpoint.log_path is None\n"
        "def test_b(llm_accelerator): assert llm_accelerator.count >= 1\n"
    )
    with FakeServer() as server:
        result = pytester.runpytest(f"--llmperf-url={server.url}")
    result.assert_outcomes(passed=2)
    result = pytester.runpytest()
    result.assert_outcomes(errors=1, passed=1)
    assert "--llmperf-url" in result.stdout.str()


def test_another_model_can_be_put_in_a_models_place(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, LOW + RUN, "--llmperf-model=m=n")
    assert result.ret == 0
    assert report["servers"][0]["model"] == "n"


def test_an_endpoint_that_is_down_is_broken_and_named(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, LOW + RUN, "--llmperf-url=http://127.0.0.1:9")
    assert result.ret == 11
    assert "http://127.0.0.1:9" in result.stdout.str()
    assert report["tests"][0]["outcome"] == "broken"
