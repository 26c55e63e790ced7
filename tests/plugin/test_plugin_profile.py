"""Profiles of what failed: made, kept, told, and never any part of the verdict."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.session import profiling

CONFTEST = """
from pytest_llmperf.engines.base import Extras
from pytest_llmperf.engines.profiler import SGLANG, Profiler
from pytest_llmperf.engines.sim import Sim

class Profiled(Sim):
    extras = Extras(profiler=SGLANG)

class AtLaunch(Sim):
    extras = Extras(profiler=Profiler(body=SGLANG.body, at_launch=True, stops_itself=True))

    def plan(self, request, placement):
        from dataclasses import replace
        told = ("--profiler", "works") if placement.profiles else ()
        return super().plan(replace(request, args=(*request.args, *told)), placement)

def pytest_llmperf_engines():
    return {"profiled": Profiled(), "at-launch": AtLaunch()}
"""
WORKS = "--ttft-ms 5 --itl-ms 2 --profiler works"
SLOWER = "--ttft-ms 5 --itl-ms 3 --profiler works"
HEAD = """
import pytest
from pytest_llmperf import LimitMissed
pytestmark = [
    pytest.mark.llm_server("{engine}", model="m", args="{args}"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=16, concurrency=4),
]
LOW = pytest.mark.llm_floor(output_throughput="0.01 tok/s")
HIGH = pytest.mark.llm_floor(output_throughput="100000000 tok/s")
"""
MISSED = "@HIGH\ndef test_a(llm_perf): llm_perf.run()\n"
HELD = "@LOW\ndef test_a(llm_perf): llm_perf.run()\n"
OPTIONS = ("--llmperf-report=out/r.json", "--llmperf-runs=1", "--llmperf-no-progress")
ON = "--llmperf-profile-on-fail"


def run(
    pytester: pytest.Pytester, body: str, *args: str, engine: str = "profiled", server: str = WORKS
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD.format(engine=engine, args=server) + body)
    result = pytester.runpytest(*OPTIONS, *args)
    report = pytester.path / "out" / "r.json"
    return result, json.loads(report.read_text()) if report.exists() else {}


def trace(path: Path) -> dict[str, Any]:
    with gzip.open(path, "rt") as file:
        found: dict[str, Any] = json.load(file)
    return found


def test_a_missed_floor_is_profiled_once_more_beside_the_report(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, MISSED, ON, "--llmperf-html=out/page.html")
    assert result.ret == 10
    result.assert_outcomes(failed=1)
    (found,) = report["profiles"]
    assert (found["test"], found["side"]) == ("test_it.py::test_a", "candidate")
    assert (found["workload"], found["reason"]) == ("chat", "")
    assert found["server"] == report["servers"][0]["id"]
    assert not found["own_launch"]
    (path,) = found["traces"]
    assert path.startswith("r-profiles/test_a-")
    kept = trace(pytester.path / "out" / path)
    assert kept["activities"] == ["CPU"]
    assert len(kept["traceEvents"]) == 32
    result.stdout.fnmatch_lines(["  test_a, candidate:", f"    {path}"])
    page = (pytester.path / "out" / "page.html").read_text()
    assert f'href="{path}"' in page
    assert '<a href="#profiles">' in page


def test_nothing_of_the_pass_is_measured(pytester: pytest.Pytester) -> None:
    _, plain = run(pytester, MISSED)
    assert plain["profiles"] == []
    _, report = run(pytester, MISSED, ON)
    (one,) = report["measurements"]
    assert [run["requests"]["sent"] for run in one["runs"]] == [16]
    assert report["counts"] == plain["counts"]
    assert report["servers"][0]["launches"][0]["argv"][1:3] == ["-m", "pytest_llmperf.testing"]


def test_the_page_may_lie_elsewhere(pytester: pytest.Pytester) -> None:
    _, report = run(pytester, MISSED, ON, "--llmperf-html=page.html")
    (path,) = report["profiles"][0]["traces"]
    assert f'href="out/{path}"' in (pytester.path / "page.html").read_text()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (HELD, 0),
        ("@pytest.mark.xfail(strict=True, raises=LimitMissed)\n" + MISSED, 0),
        ("@LOW\ndef test_a(llm_perf): llm_perf.run(); assert 0\n", 1),
        ("@LOW\ndef test_a(llm_perf): pass\n", 11),
    ],
    ids=["held", "expected", "another-failure", "not-measured"],
)
def test_what_did_not_fail_by_its_gate_is_not_profiled(
    pytester: pytest.Pytester, body: str, status: int
) -> None:
    result, report = run(pytester, body, ON)
    assert result.ret == status
    assert report["profiles"] == []
    assert not list(pytester.path.glob("out/*profiles*"))


def test_it_waits_for_the_last_test_of_the_server(pytester: pytest.Pytester) -> None:
    """What is measured after a failure is measured on a server that was never profiled."""
    body = MISSED + (
        "@LOW\n@pytest.mark.llm_workload('chat', input_tokens=8, output_tokens=4, requests=8,"
        " concurrency=2)\ndef test_b(llm_perf): llm_perf.run()\n"
        "def test_plain(request):\n"
        "    from pathlib import Path\n"
        "    assert not Path(request.config.rootpath, 'out').joinpath('r-profiles').exists()\n"
    )
    result, report = run(pytester, body, ON)
    result.assert_outcomes(passed=2, failed=1)
    assert [each["test"] for each in report["profiles"]] == ["test_it.py::test_a"]
    assert report["profiles"][0]["traces"]
    assert report["counts"]["launches"] == 1


def test_tests_of_one_workload_share_a_pass(pytester: pytest.Pytester) -> None:
    body = MISSED + MISSED.replace("test_a", "test_b")
    _, report = run(pytester, body, ON)
    one, other = report["profiles"]
    assert (one["test"], other["test"]) == ("test_it.py::test_a", "test_it.py::test_b")
    assert one["traces"] == other["traces"] != []


@pytest.mark.parametrize("stop", ["-x", "--maxfail=1"])
def test_the_first_failure_may_be_the_last(pytester: pytest.Pytester, stop: str) -> None:
    result, report = run(pytester, MISSED + HELD.replace("test_a", "test_b"), ON, stop)
    result.assert_outcomes(failed=1)
    assert report["profiles"][0]["traces"]


@pytest.mark.parametrize("more", [(), ("--llmperf-side-by-side",)], ids=["in-turn", "side-by-side"])
def test_both_sides_of_a_comparison_are_profiled(
    pytester: pytest.Pytester, more: tuple[str, ...]
) -> None:
    body = (
        "@pytest.mark.llm_workload('chat', input_tokens=8, output_tokens=32, requests=16, "
        "concurrency=4)\n"
        "@pytest.mark.llm_no_regression(tpot_mean='20%')\n"
        "def test_a(llm_perf): llm_perf.run()\n"
    )
    options = (ON, *more, "--llmperf-quality=off", "--llmperf-reference-args", WORKS)
    result, report = run(pytester, body, *options, server=SLOWER)
    assert result.ret == 10
    assert report["gates"][0]["mode"] == "ab"
    found = {each["side"]: each for each in report["profiles"]}
    assert set(found) == {"candidate", "reference"}
    places = [pytester.path / "out" / each["traces"][0] for each in found.values()]
    assert all(trace(place)["traceEvents"] for place in places)
    pairs = max(run["pair"] for each in report["measurements"] for run in each["runs"]) + 1
    assert report["counts"]["launches"] == 2 * pairs + 2  # with those to warm up, and no other
    assert found["reference"]["own_launch"]


def test_a_profiler_that_is_told_at_launch_has_a_launch_of_its_own(
    pytester: pytest.Pytester,
) -> None:
    result, report = run(pytester, MISSED, ON, engine="at-launch", server="--ttft-ms 5 --itl-ms 2")
    assert result.ret == 10
    (found,) = report["profiles"]
    assert found["own_launch"]
    assert found["traces"], found
    (launch,) = report["servers"][0]["launches"]
    assert "--profiler" not in launch["argv"]


@pytest.mark.parametrize(
    ("engine", "server", "told"),
    [
        ("profiled", "--profiler refuses", "POST /start_profile answered 500 Internal Server Err"),
        ("profiled", "--ttft-ms 5", "POST /start_profile answered 404"),
        ("sim", WORKS, "the engine 'sim' has no profiler that can be asked"),
    ],
)
def test_a_profiler_that_is_not_there_is_told_in_a_line(
    pytester: pytest.Pytester, engine: str, server: str, told: str
) -> None:
    result, report = run(pytester, MISSED, ON, engine=engine, server=server)
    assert result.ret == 10
    result.assert_outcomes(failed=1)
    (found,) = report["profiles"]
    assert (found["traces"], found["seconds"]) == ([], None)
    assert told in found["reason"]
    result.stdout.fnmatch_lines(["  test_a, candidate: none, for *"])
    assert report["problems"] == []


def test_a_profiler_that_hangs_is_left_behind(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "STOP_TIMEOUT_S", 0.5)
    result, report = run(pytester, MISSED, ON, server="--profiler hangs")
    assert result.ret == 10
    result.assert_outcomes(failed=1)
    (found,) = report["profiles"]
    assert "/stop_profile got no answer: timed out" in found["reason"]


def test_a_server_that_dies_of_it_is_told_in_a_line(pytester: pytest.Pytester) -> None:
    log = pytester.path / "truth.jsonl"
    run(pytester, MISSED, ON, server=f"{WORKS} --truth-log {log}")
    asked = len(log.read_text().splitlines())  # the last of them in the pass
    result, report = run(pytester, MISSED, ON, server=f"{WORKS} --die-after {asked - 2}")
    assert result.ret == 10
    result.assert_outcomes(failed=1)
    (found,) = report["profiles"]
    assert found["traces"] == []
    assert "ended with exit status 1" in found["reason"]


def test_a_mistake_of_ours_is_told_in_a_line(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(profiling, "shortened", lambda _: 1 / 0)
    result, report = run(pytester, MISSED, ON)
    assert result.ret == 10
    assert report["profiles"][0]["reason"] == "ZeroDivisionError: division by zero"


def test_an_endpoint_of_others_is_never_profiled(pytester: pytest.Pytester) -> None:
    from pytest_llmperf.testing import FakeServer, Script

    with FakeServer(Script(profiler="works")) as server:
        result, report = run(pytester, MISSED, ON, "--llmperf-url", server.url)
        sent = len(server.truth)
    assert result.ret in (10, 11)
    for found in report["profiles"]:
        assert "it was running already" in found["reason"]
    assert sent < 40


@pytest.mark.parametrize("workers", ["1", "2"])
def test_it_works_under_xdist(pytester: pytest.Pytester, workers: str) -> None:
    body = MISSED + HELD.replace("test_a", "test_b")
    result, report = run(pytester, body, ON, "-n", workers)
    assert result.ret == 10
    (found,) = report["profiles"]
    assert (pytester.path / "out" / found["traces"][0]).exists()


def test_smoke_mode_profiles_nothing(pytester: pytest.Pytester) -> None:
    result, report = run(pytester, MISSED, ON, "--llmperf=smoke")
    assert result.ret == 0
    assert report["profiles"] == []


def test_without_a_report_traces_lie_with_the_logs(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=HEAD.format(engine="profiled", args=WORKS) + MISSED)
    result = pytester.runpytest("--llmperf-runs=1", "--llmperf-log-dir=logs", ON)
    assert result.ret == 10
    (kept,) = pytester.path.glob("logs/profiles/test_a-*/*.trace.json.gz")
    result.stdout.fnmatch_lines(["  test_a, candidate:", f"    {kept}"])
    assert not list(pytester.path.glob("logs/profile-*"))  # what lay there on the way
