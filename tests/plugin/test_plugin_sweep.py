"""Sweeps over loads, on a simulated server that turns requests away when many ask at once."""

from __future__ import annotations

import json
from typing import Any

import numpy  # noqa: F401  # pytester forgets modules between sessions; numpy loads only once
import pytest

pytestmark = pytest.mark.client_bounds
HEAD = """
import pytest
from pytest_llmperf import UsageMistake
pytestmark = [
    pytest.mark.llm_server("busy", model="m"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=8, concurrency=2),
]
"""
#: Serves four requests at a time, and refuses the others; how fast, no test needs to know.
BUSY_SERVER = """
import sys
from dataclasses import replace
from pytest_llmperf.testing import __main__
from pytest_llmperf.testing.state import State

class Busy(State):
    def admit(self, asked):
        self.script = replace(self.script, fault="http_503" if self.running >= 4 else None)
        return super().admit(asked)

__main__.State = Busy
sys.exit(__main__.main())
"""
CONFTEST = """
from dataclasses import replace
from pathlib import Path
from pytest_llmperf.engines.sim import Sim

class BusySim(Sim):
    def plan(self, request, placement):
        plan = super().plan(request, placement)
        program = str(Path(__file__).with_name("busy_server.py"))
        return replace(plan, argv=(plan.argv[0], program, *plan.argv[3:]))

def pytest_llmperf_engines(config): return {"busy": BusySim()}
"""
#: The machine that runs these tests may be as busy as it likes.
LENIENT = """
[pytest]
llmperf_client_cpu = off
llmperf_client_lag = off
llmperf_client_send_delay = off
llmperf_client_delivered = off
llmperf_client_in_flight = off
llmperf_max_drift = off
"""
#: From two upwards: of two doublings the second is refused, whatever throughput does.
SWEEP = """
def test_a(llm_perf):
    sweep = llm_perf.sweep(slo={'tpot': '1 min'}, low=2, high=64, requests=16)
"""


@pytest.fixture(autouse=True)
def _busy_engine(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(busy_server=BUSY_SERVER)
    pytester.makeini(LENIENT)


def run(
    pytester: pytest.Pytester, body: str, *args: str
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=HEAD + body)
    result = pytester.runpytest("--llmperf-report=out/r.json", "--llmperf-runs=1", *args)
    report = pytester.path / "out" / "r.json"
    return result, json.loads(report.read_text()) if report.exists() else {}


def test_the_highest_load_within_is_found_reported_and_shown(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester,
        SWEEP + "    assert sweep.highest == 4\n"
        "    assert sweep.best in sweep.measurements.values()\n"
        "    assert [point.load for point in sweep.points] == [2, 4, 5, 6, 8]\n"
        "    assert len({m.workload.seed for m in sweep.measurements.values()}) == 5\n"
        "    assert '<- highest' in str(sweep)\n",
    )
    result.assert_outcomes(passed=1)
    (sweep,) = report["sweeps"]
    assert sweep["highest"] == 4
    assert [point["within"] for point in sweep["points"]] == [True] * 2 + [False] * 3
    assert all("p99 TPOT is unbounded" in point["reason"] for point in sweep["points"][2:])
    assert all(point["attainment"] < 1 for point in sweep["points"][2:])
    assert sweep["objectives"] == [{"metric": "tpot", "limit_ms": 60000.0}]
    assert report["gates"] == []
    asked = {entry["id"]: entry["workload"]["asked"] for entry in report["measurements"]}
    for point in sweep["points"]:
        assert asked[point["measurement"]]["concurrency"] == point["load"]
        assert asked[point["measurement"]]["slo"] == sweep["objectives"]
    result.stdout.fnmatch_lines(
        [
            "test_a: sweep over concurrency*",
            "within: p99 TPOT <= 60,000 ms",
            "4 *yes <- highest*",
            "8 *unbounded*no",
            "*SIMULATED*",
        ]
    )
    result.stdout.no_fnmatch_line("measured *TTFT p50*")


def test_without_objectives_there_is_no_highest(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester,
        "def test_a(llm_perf):\n"
        "    sweep = llm_perf.sweep(values=[1, 2, 3, 4], requests=8)\n"
        "    assert sweep.knee in (None, 2, 3)\n"
        "    assert sweep.highest is None\n"
        "    assert sweep.best.output_throughput > 0\n",
    )
    result.assert_outcomes(passed=1)
    (sweep,) = report["sweeps"]
    assert [point["within"] for point in sweep["points"]] == [None] * 4
    assert "No objectives were named" in sweep["reason"]


def test_a_rate_is_an_open_loop(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester,
        "def test_a(llm_perf):\n"
        "    sweep = llm_perf.sweep(over='rate', values=[10, 5], slo={'e2e': '60 s'}, requests=8)\n"
        "    assert sweep.highest == 10\n",
    )
    result.assert_outcomes(passed=1)
    asked = [entry["workload"]["asked"] for entry in report["measurements"]]
    assert [(one["arrivals"], one["rate"], one["concurrency"]) for one in asked] == [
        ("poisson", 5.0, None),
        ("poisson", 10.0, None),
    ]


def test_a_failed_assertion_is_an_ordinary_failure_that_names_the_sweep(
    pytester: pytest.Pytester,
) -> None:
    result, report = run(
        pytester,
        "def test_a(llm_perf):\n"
        "    sweep = llm_perf.sweep(slo={'tpot': '1 min'}, high=2, requests=4)\n"
        "    assert sweep.highest >= 64\n",
    )
    assert result.ret == 1
    result.stdout.fnmatch_lines(["*where 2 = <Sweep over concurrency 1, 2: highest 2*"])
    assert report["tests"][0]["outcome"] == "failed"
    assert report["sweeps"][0]["highest"] == 2


def test_loads_without_a_valid_run_are_undecided(pytester: pytest.Pytester) -> None:
    pytester.makeini(LENIENT.replace("llmperf_client_cpu = off", "llmperf_client_cpu = 0%"))
    result, report = run(pytester, SWEEP + "    assert sweep.highest is None\n")
    result.assert_outcomes(passed=1)
    (sweep,) = report["sweeps"]
    assert [point["load"] for point in sweep["points"]] == [2, 4]
    assert "No load could be judged" in sweep["reason"]
    assert "client-bound" in sweep["reason"]
    result.stdout.fnmatch_lines(["*undecided"])


def test_a_sweep_stays_on_one_launch_and_gates_judge_what_is_declared(
    pytester: pytest.Pytester,
) -> None:
    _, report = run(
        pytester,
        "@pytest.mark.llm_floor(output_throughput='0.01 tok/s')\n"
        "def test_a(llm_perf):\n"
        "    declared = llm_perf.run()\n"
        "    sweep = llm_perf.sweep(values=[1, 2], requests=8)\n"
        "    assert llm_perf.declared == declared\n"
        "    assert llm_perf.sweep(values=[1, 2], requests=8).points == sweep.points\n",
        "--llmperf-launches=2",
    )
    assert report["counts"]["tests"]["passed"] == 1
    assert report["counts"]["launches"] == 2
    (gate,) = report["gates"]
    (sweep,) = report["sweeps"]
    points = {point["measurement"] for point in sweep["points"]}
    assert gate["measurement"] not in points
    for entry in report["measurements"]:
        launches = {made["launch_id"] for made in entry["runs"]}
        assert len(launches) == (1 if entry["id"] in points else 2)


def test_smoke_keeps_every_point_short(pytester: pytest.Pytester) -> None:
    body = SWEEP.replace("high=64, requests=16", "high=4")
    result, report = run(pytester, body, "--llmperf=smoke", "--llmperf-runs=3")
    result.assert_outcomes(passed=1)
    runs = [made for entry in report["measurements"] for made in entry["runs"]]
    assert len(report["measurements"]) == len(runs) == 2
    assert max(made["requests"]["sent"] for made in runs) <= 8


def test_sweeps_of_xdist_workers_reach_the_report(pytester: pytest.Pytester) -> None:
    result, report = run(
        pytester, SWEEP.replace("high=64", "high=2") + "    assert sweep.highest == 2\n", "-n1"
    )
    result.assert_outcomes(passed=1)
    assert [sweep["test"] for sweep in report["sweeps"]] == ["test_it.py::test_a"]


def test_a_server_that_dies_breaks_the_test_and_leaves_what_was_measured(
    pytester: pytest.Pytester,
) -> None:
    body = "@pytest.mark.llm_server('sim', model='m', args='--die-after 30')" + SWEEP
    result, report = run(pytester, body)
    assert result.ret == 11
    assert report["tests"][0]["outcome"] == "broken"
    assert report["sweeps"] == []
    assert [entry["workload"]["asked"]["concurrency"] for entry in report["measurements"]] == [2]


def test_what_cannot_be_asked_is_told_before_anything_is_measured(
    pytester: pytest.Pytester,
) -> None:
    result, report = run(
        pytester,
        "@pytest.mark.parametrize(('said', 'told'), [\n"
        "    ({'over': 'rates'}, \"Did you mean 'rate'\"),\n"
        "    ({'low': 0}, 'whole number of at least 1'),\n"
        "    ({'slo': 'mlperf'}, 'unknown slo'),\n"
        "    ({'slo': {'ttft_from_schedule': '1 s'}}, 'closed loop'),\n"
        "    ({'requests': 8, 'duration': '1 s'}, 'give one of them'),\n"
        "    ({'requests': 0}, 'requests=0'),\n"
        "    ({'hihg': 3}, r'sweep\\(hihg=...\\)'),\n"
        "])\n"
        "def test_a(llm_perf, said, told):\n"
        "    with pytest.raises(UsageMistake, match=told):\n"
        "        llm_perf.sweep(**said)\n",
    )
    result.assert_outcomes(passed=7)
    assert report["measurements"] == report["sweeps"] == []
