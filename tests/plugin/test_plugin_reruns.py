"""Running a test again does not launder what its gate has decided: by a plugin, or by CI."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pytest_llmperf.records import Level, Observation
from pytest_llmperf.store import open_store
from repositories import git

SERVER = "--ttft-ms 5 --itl-ms 2"
SLOWER = "--ttft-ms 5 --itl-ms 3"
TEST = """
import pytest
@pytest.mark.llm_server("sim", model="m", args="{args}")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=32, requests=16, concurrency=4)
{gate}
def test_a(llm_perf):
    llm_perf.run()
    {body}
"""
GATE = '@pytest.mark.llm_no_regression(tpot_mean="20%")'
HIGH = '@pytest.mark.llm_floor(output_throughput="100000000 tok/s")'
LOW = '@pytest.mark.llm_floor(output_throughput="0.01 tok/s")'
FAST = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")


def session(
    pytester: pytest.Pytester, *args: str, server: str = SERVER, gate: str = GATE, body: str = ""
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=TEST.format(args=server, gate=gate, body=body))
    result = pytester.runpytest(*FAST, *args)
    report: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return result, report


def remembered(pytester: pytest.Pytester) -> list[Observation]:
    store = open_store("perf", pytester.path)
    try:
        return store.observations()
    finally:
        store.close()


def duel(
    pytester: pytest.Pytester, server: str, *args: str
) -> tuple[pytest.RunResult, dict[str, Any]]:
    return session(
        pytester, "--llmperf-store=perf", f"--llmperf-reference-args={SERVER}", *args, server=server
    )


# --- in one session --------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(), ("-n1",)])
def test_a_failed_gate_fails_again_and_nothing_is_measured_anew(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    result, report = session(
        pytester, "--reruns=2", "--llmperf-store=perf", *workers, gate=HIGH, body="assert True"
    )
    assert result.ret == 10
    result.assert_outcomes(failed=1)
    assert result.parseoutcomes()["rerun"] == 2
    assert report["tests"][0]["outcome"] == "slow"
    assert [gate["verdict"] for gate in report["gates"]] == ["fail"]
    assert len(report["measurements"][0]["runs"]) == 1
    assert "running it again changes nothing" in result.stdout.str()
    # and it counts as one observation, whoever counts them
    assert len(remembered(pytester)) == 1


def test_the_body_of_a_test_with_a_failed_gate_is_not_run_again(
    pytester: pytest.Pytester,
) -> None:
    count = "f = open('count', 'a'); f.write('x'); f.close()"
    session(pytester, "--reruns=2", gate=HIGH, body=count)
    assert (pytester.path / "count").read_text() == "x"


def test_a_flaky_body_may_run_again_beside_a_gate_that_holds(pytester: pytest.Pytester) -> None:
    flaky = "import pathlib as p; was = p.Path('was').exists(); p.Path('was').touch(); assert was"
    result, report = session(pytester, "--reruns=2", "--llmperf-store=perf", gate=LOW, body=flaky)
    assert result.ret == 0
    assert result.parseoutcomes()["rerun"] == 1
    assert report["gates"][0]["verdict"] == "pass"
    assert len(remembered(pytester)) == 1


# --- from session to session -----------------------------------------------------------------


def test_each_decision_about_the_same_halves_what_the_next_may_use(
    pytester: pytest.Pytester,
) -> None:
    found = []
    for _ in range(2):
        _, report = duel(pytester, SLOWER)
        (gate,) = report["gates"]
        found.append((gate["attempt"], gate["alpha"], gate["verdict"]))
    assert found == [(1, 0.01, "fail"), (2, 0.005, "fail")]
    assert "attempt 2 on this commit, which failed on " in gate["reason"]
    assert "judged with 1/2 of the false alarms" in gate["reason"]


def test_a_failure_is_not_cleared_by_a_session_that_decides_nothing(
    pytester: pytest.Pytester,
) -> None:
    result, _ = duel(pytester, SLOWER)
    assert result.ret == 10
    result, report = duel(pytester, SLOWER, "--llmperf-budget=1s")
    assert result.ret == 10
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"], gate["attempt"]) == ("fail", "failed_before", 2)
    result.stdout.fnmatch_lines(["failed before, on *and this session does not clear it: *"])


def test_another_candidate_begins_anew(pytester: pytest.Pytester) -> None:
    duel(pytester, SLOWER)
    result, report = duel(pytester, "--ttft-ms 5 --itl-ms 1")
    assert result.ret == 0
    assert report["gates"][0]["attempt"] == 1
    assert "attempt" not in report["gates"][0]["reason"]


def test_an_edit_that_is_not_committed_makes_another_candidate(
    pytester: pytest.Pytester,
) -> None:
    git("init", "-q", at=pytester.path)
    (pytester.path / "engine.py").write_text("speed = 1\n")
    git("add", "engine.py", at=pytester.path)
    git("commit", "-qm", "first", at=pytester.path)
    attempts = []
    for edit in ("", "", "speed = 2\n", "speed = 3\n"):
        if edit:
            (pytester.path / "engine.py").write_text(edit)
        _, report = duel(pytester, SLOWER)
        attempts.append(report["gates"][0]["attempt"])
    # The report, the store and the suite's own files are no edits from one session to the next.
    assert attempts == [1, 2, 1, 1]
    assert report["environment"]["git"]["dirty_digest"]


def test_a_server_against_itself_is_asked_as_often_as_one_likes(
    pytester: pytest.Pytester,
) -> None:
    for _ in range(2):
        _, report = duel(pytester, SERVER, "--llmperf-aa")
        assert report["gates"][0]["attempt"] is None


def test_without_a_store_nothing_is_known_and_nothing_said(pytester: pytest.Pytester) -> None:
    for _ in range(2):
        _, report = session(pytester, f"--llmperf-reference-args={SERVER}", server=SLOWER)
        (gate,) = report["gates"]
        assert (gate["attempt"], gate["verdict"]) == (None, "fail")
        assert "attempt" not in gate["reason"]


def test_attempts_against_a_level_count_until_it_moves(pytester: pytest.Pytester) -> None:
    from dataclasses import replace

    session(pytester, "--llmperf-store=perf")
    (newest,) = remembered(pytester)
    store = open_store("perf", pytester.path)
    for number in range(1, 10):
        factor = 1 + 0.01 * (-1) ** number * number / 10
        launches = tuple(
            replace(one, metrics={name: v * factor for name, v in one.metrics.items()})
            for one in newest.launches
        )
        created = f"2026-01-{number:02d}T00:00:00+00:00"
        store.append(replace(newest, id=f"old{number}", created=created, launches=launches))
    ids = tuple(each.id for each in store.observations())
    level = Level(id="l1", key=newest.key, created=newest.created, observations=ids, reason="x")
    store.accept(level)
    attempts = []
    for name in ("", "", "l2"):
        if name:
            store.accept(replace(level, id=name, created="2999-01-01T00:00:00+00:00"))
        _, report = session(pytester, "--llmperf-store=perf", server=SLOWER)
        attempts.append(report["gates"][0]["attempt"])
    store.close()
    assert attempts == [1, 2, 1]
