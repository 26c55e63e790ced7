"""Odd but legal uses, each of which once went wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest

HEAD = """
import pytest
pytestmark = [
    pytest.mark.llm_server("sim", model="m"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=8, concurrency=4),
]
"""
RUN = "def test_a(llm_perf): llm_perf.run()\n"
HIGH = "@pytest.mark.llm_floor(output_throughput='100000000 tok/s')\n"
FAST = "--llmperf-runs=1"


def report_of(pytester: pytest.Pytester) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return document


def test_plain_tests_before_the_first_perf_test_are_not_missed_under_xdist(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(test_a="def test_p1(): pass\ndef test_p2(): pass\n", test_b=HEAD + RUN)
    result = pytester.runpytest("-n1", "-o", "addopts=")
    result.assert_outcomes(passed=3)
    assert result.ret == 0
    assert "never reported" not in result.stdout.str()


def test_the_only_result_lost_on_a_worker_is_red_without_any_option(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        "import pytest\n"
        "@pytest.hookimpl(wrapper=True)\n"
        "def pytest_runtest_makereport(item, call):\n"
        "    report = yield\n"
        "    if call.when == 'call': raise RuntimeError('lost')\n"
        "    return report\n"
    )
    pytester.makepyfile(test_it=HEAD + RUN)
    result = pytester.runpytest("-n1")
    assert result.ret == 11
    assert "1 collected test never reported a result" in result.stdout.str()


def test_a_server_marked_on_a_parameter_set_is_a_mistake(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + "other = pytest.mark.llm_server('sim', model='other')\n"
        + "@pytest.mark.parametrize('k', [pytest.param(1, marks=other)])\n"
        + "def test_a(llm_perf, k): pass\n"
    )
    result = pytester.runpytest()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "write one test for each server" in result.stderr.str()


def test_a_parameter_whose_name_holds_ours_is_let_be(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + "@pytest.mark.parametrize('my_llm_server_args', [1])\n"
        + "def test_a(llm_perf, my_llm_server_args): llm_perf.run()\n"
    )
    pytester.runpytest(FAST).assert_outcomes(passed=1)


def test_an_accelerator_that_is_not_here_is_told_at_once(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=HEAD + RUN)
    result = pytester.runpytest("--llmperf-accelerator=ascend", "--llmperf-report=r.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "no ascend device was found" in result.stderr.str()


def test_users_fixtures_find_the_server_in_their_teardown_after_ctrl_c(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(
        test_it=HEAD
        + "@pytest.fixture(scope='session')\n"
        + "def mine(llm_server):\n"
        + "    url = llm_server.url\n    yield\n    assert llm_server.url == url\n"
        + "def test_a(mine): raise KeyboardInterrupt\n"
    )
    result = pytester.runpytest_subprocess("--llmperf-report=r.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    assert report_of(pytester)["counts"]["launches"] == 1


def test_what_the_server_refuses_to_one_test_breaks_no_other(pytester: pytest.Pytester) -> None:
    small = "'sim', model='m', args='--max-context-tokens 100'"
    head = HEAD.replace('"sim", model="m"', small)
    pytester.makepyfile(
        test_it=head
        + RUN
        + "@pytest.mark.llm_workload('chat', input_tokens=90, output_tokens=90, requests=8)\n"
        + RUN.replace("test_a", "test_b")
    )
    result = pytester.runpytest(FAST, "--llmperf-launches=2", "--llmperf-report=r.json")
    result.assert_outcomes(passed=1, failed=1)
    assert "context is too small" in result.stdout.str()


@pytest.mark.parametrize(
    ("ending", "status", "told"),
    [
        ("pytest.fail('boom')", 1, "under floor"),
        ("pytest.skip('enough')", 10, "under floor"),
    ],
)
def test_limits_are_judged_however_the_body_ends(
    pytester: pytest.Pytester, ending: str, status: int, told: str
) -> None:
    pytester.makepyfile(
        test_it=HEAD + HIGH + f"def test_a(llm_perf):\n    llm_perf.run()\n    {ending}\n"
    )
    result = pytester.runpytest(FAST, "--llmperf-report=r.json")
    assert result.ret == status
    result.assert_outcomes(failed=1)
    assert told in result.stdout.str()
    assert report_of(pytester)["gates"][0]["verdict"] == "fail"


def test_a_fixture_of_the_users_with_our_name_is_refused_in_words(
    pytester: pytest.Pytester,
) -> None:
    pytester.makeconftest(
        "import pytest\n"
        "@pytest.fixture(scope='session')\n"
        "def llm_server(request): return 'http://elsewhere'\n"
    )
    pytester.makepyfile(test_it=HEAD + RUN)
    result = pytester.runpytest()
    result.assert_outcomes(errors=1)
    assert "must hand on the plugin's" in result.stdout.str()


@pytest.mark.parametrize(
    ("url", "told"),
    [("http://me:s3cret@host:1", "LLMPERF_API_KEY"), ("host:1", "is not the URL of an endpoint")],
)
def test_a_url_that_cannot_be_meant_is_a_mistake_and_shows_no_secret(
    pytester: pytest.Pytester, url: str, told: str
) -> None:
    pytester.makepyfile(test_it=HEAD + RUN)
    result = pytester.runpytest(f"--llmperf-url={url}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr.str()
    assert "s3cret" not in result.stderr.str()


def test_a_slash_at_the_end_of_a_url_does_no_harm(pytester: pytest.Pytester) -> None:
    from pytest_llmperf.testing import FakeServer

    pytester.makepyfile(test_it=HEAD + RUN)
    with FakeServer() as server:
        pytester.runpytest(FAST, f"--llmperf-url={server.url}/").assert_outcomes(passed=1)


def test_off_lets_plain_tests_run(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=HEAD + RUN + "def test_plain(): pass\n")
    pytester.runpytest("--llmperf=off").assert_outcomes(passed=1, skipped=1)


def test_collect_only_starts_nothing_and_writes_nothing(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=HEAD + RUN)
    result = pytester.runpytest("--collect-only", "--llmperf-report=r.json")
    assert result.ret == 0
    assert not (pytester.path / "r.json").exists()
