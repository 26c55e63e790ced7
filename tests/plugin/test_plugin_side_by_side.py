"""Both launches of a pair up at once, on the simulator."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Any

import psutil
import pytest

from pytest_llmperf.launch.tree import process_ids
from pytest_llmperf.session.server import LiveServer

SERVER = "--ttft-ms 5 --itl-ms 2"
SLOWER = "--ttft-ms 5 --itl-ms 4"
TEST = """
import pytest
pytestmark = [
    pytest.mark.llm_server("sim", model="m", args="{args}"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=16, requests=8, concurrency=4),
]
GATE = pytest.mark.llm_no_regression(tpot_mean="30%")
@GATE
def test_a(llm_perf): llm_perf.run()
{more}
"""
MORE = """
@GATE
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=24, requests=8, concurrency=4)
def test_b(llm_perf): llm_perf.run()

def test_c(llm_server): assert llm_server.metrics()
"""


def duel(
    pytester: pytest.Pytester, *args: str, server: str = SLOWER, more: str = ""
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=TEST.format(args=server, more=more))
    options = ("--llmperf-report=r.json", "--llmperf-runs=2", "--llmperf-no-progress")
    result = pytester.runpytest(
        *options, "--llmperf-quality=off", "--llmperf-side-by-side",
        f"--llmperf-reference-args={SERVER}", *args,
    )  # fmt: skip
    return result, json.loads((pytester.path / "r.json").read_text())


def runs_in_order(report: dict[str, Any]) -> list[dict[str, Any]]:
    found = [run for each in report["measurements"] for run in each["runs"]]
    return sorted(found, key=lambda run: str(run["started_at"]))


def test_runs_take_turns_and_each_pair_has_launches_of_its_own(
    pytester: pytest.Pytester,
) -> None:
    result, report = duel(pytester)
    assert result.ret == 10
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"]) == ("fail", "loss_shown")
    launches = []
    for _, group in groupby(runs_in_order(report), key=lambda run: run["pair"]):
        runs = [run for run in group if run["valid"]]
        sides = [run["side"] for run in runs]
        # one, other, other, one: drift within a pair falls on both
        assert sides[0] == sides[3] != sides[1] == sides[2]
        assert [run["index"] for run in runs] == [0, 0, 1, 1]
        assert [run["seed"] for run in runs[:2]] == [runs[0]["seed"]] * 2
        launches.append({run["launch_id"] for run in runs})
    assert all(len(each) == 2 for each in launches)
    assert len(set.union(*launches)) == 2 * len(launches)


def test_who_is_not_measured_stands_still(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    up: dict[str, LiveServer] = {}
    seen: list[list[bool]] = []
    measure = LiveServer.measure

    def watched(server: LiveServer, *args: Any, **how: Any) -> Any:
        assert server.process is not None
        up[server.record.server_id] = server
        seen.extend(states(each) for each in up.values() if each is not server and is_up(each))
        assert not any(states(server))
        return measure(server, *args, **how)

    monkeypatch.setattr(LiveServer, "measure", watched)
    result, _ = duel(pytester)
    assert result.ret == 10
    assert seen
    assert all(all(each) for each in seen)


def is_up(server: LiveServer) -> bool:
    return server.process is not None and psutil.pid_exists(server.process.pid)


def states(server: LiveServer) -> list[bool]:
    assert server.process is not None
    return [
        psutil.Process(pid).status() == psutil.STATUS_STOPPED
        for pid in process_ids(server.process.pid)
    ]


def test_several_tests_share_the_pairs_and_the_server_is_there_afterwards(
    pytester: pytest.Pytester,
) -> None:
    result, report = duel(pytester, more=MORE)
    assert result.ret == 10
    result.assert_outcomes(failed=2, passed=1)
    assert {gate["verdict"] for gate in report["gates"]} == {"fail"}


def test_the_plan_says_so(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST.format(args=SLOWER, more=""))
    result = pytester.runpytest(
        "--llmperf-plan", "--llmperf-side-by-side", f"--llmperf-reference-args={SERVER}"
    )
    result.stdout.fnmatch_lines(["*4 to 12 pairs of launches, two at a time (10 to 26 launches*"])
