"""What sessions remember: observations, accepted levels, calibrations; on the simulator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.records import Level, Observation
from pytest_llmperf.store import open_store
from pytest_llmperf.store.kept import Kept

SERVER = "--ttft-ms 5 --itl-ms 2"
SLOWER = "--ttft-ms 5 --itl-ms 4"
TEST = """
import pytest
@pytest.mark.llm_server("sim", model="m", args="{args}")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=32, requests=16, concurrency=4)
@pytest.mark.llm_no_regression(tpot_mean="30%")
def test_a(llm_perf): llm_perf.run()
"""


def session(
    pytester: pytest.Pytester, *args: str, server: str = SERVER, store: str = "perf"
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=TEST.format(args=server))
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
    result = pytester.runpytest(*options, f"--llmperf-store={store}", *args)
    report = pytester.path / "r.json"
    return result, json.loads(report.read_text()) if report.exists() else {}


def remembered(pytester: pytest.Pytester, where: str = "perf") -> list[Observation]:
    store = open_store(where, pytester.path)
    try:
        return store.observations()
    finally:
        store.close()


def give_history(pytester: pytest.Pytester, sessions: int, *, accept: bool) -> Observation:
    """One real session, and more like it before it, each a little different."""
    session(pytester)
    (newest,) = remembered(pytester)
    store = open_store("perf", pytester.path)
    for number in range(1, sessions):
        factor = 1 + 0.01 * (-1) ** number * number / sessions
        launches = tuple(
            replace(one, metrics={name: v * factor for name, v in one.metrics.items()})
            for one in newest.launches
        )
        created = f"2026-01-{number:02d}T00:00:00+00:00"
        store.append(replace(newest, id=f"old{number}", created=created, launches=launches))
    if accept:
        ids = tuple(each.id for each in store.observations(newest.key))
        level = Level(
            id="level",
            key=newest.key,
            created=newest.created,
            observations=ids,
            reason="first",
            author="a",
        )
        store.accept(level)
    store.close()
    return newest


def test_the_first_day_is_neutral_and_remembered(pytester: pytest.Pytester) -> None:
    result, report = session(pytester)
    assert result.ret == 0
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"], gate["mode"]) == (
        "inconclusive",
        "learning",
        "history",
    )
    assert "LEARNING 1/8" in result.stdout.str()
    (observation,) = remembered(pytester)
    assert observation.test == "test_it.py::test_a"
    assert observation.gates == ("tpot_mean",)
    assert observation.launches[0].metrics["tpot_mean"] == pytest.approx(2.0, rel=0.5)
    assert observation.subject["engine"] == "sim"


def test_the_past_of_a_test_is_read_once(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = give_history(pytester, 10, accept=True)
    read: list[tuple[str, str | None]] = []

    class Counting(Kept):
        def observations(self, key: str | None = None) -> list[Observation]:
            read.append(("observations", key))
            return super().observations(key)

        def levels(self, key: str | None = None) -> list[Level]:
            read.append(("levels", key))
            return super().levels(key)

    monkeypatch.setattr("pytest_llmperf.store.kept.Kept", Counting)
    _, report = session(pytester)
    assert report["gates"][0]["history"]["points"]
    assert read == [("observations", newest.key), ("levels", newest.key)]


def test_enough_sessions_without_an_accepted_level_are_red(pytester: pytest.Pytester) -> None:
    give_history(pytester, 8, accept=False)
    result, report = session(pytester)
    assert result.ret == 11
    (gate,) = report["gates"]
    assert (gate["reason_code"], gate["covered"]) == ("no_level", False)
    assert "baseline accept" in gate["reason"]


def test_a_slower_server_fails_against_the_accepted_level(pytester: pytest.Pytester) -> None:
    give_history(pytester, 10, accept=True)
    result, report = session(pytester, server=SLOWER)
    # another server= is another subject on the same key
    assert result.ret == 10
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["mode"], gate["reason_code"]) == ("fail", "history", "loss_shown")
    assert any("itl-ms" in each for each in gate["changed"])
    assert gate["against"].startswith("the level accepted on ")
    points = gate["history"]["points"]
    assert [point["fresh"] for point in points] == [False] * 10 + [True]
    assert all(point["accepted"] for point in points[:10])
    assert points[-1]["value"] > 1.3 * gate["history"]["level"]
    assert gate["history"]["against"] == gate["against"]
    # green or red, every session is remembered
    assert len(remembered(pytester)) == 11


def test_an_unchanged_server_passes_and_may_become_the_level(pytester: pytest.Pytester) -> None:
    newest = give_history(pytester, 10, accept=True)
    result, report = session(pytester, "--llmperf-update-baseline")
    assert result.ret == 0
    assert report["gates"][0]["verdict"] == "pass"
    store = open_store("perf", pytester.path)
    levels = store.levels(newest.key)
    store.close()
    assert [level.reason for level in levels] == ["first", "--llmperf-update-baseline"]


def test_a_red_session_is_not_accepted(pytester: pytest.Pytester) -> None:
    newest = give_history(pytester, 10, accept=True)
    result, _ = session(pytester, "--llmperf-update-baseline", server=SLOWER)
    assert result.ret == 10
    store = open_store("perf", pytester.path)
    assert len(store.levels(newest.key)) == 1
    store.close()


def held(pytester: pytest.Pytester, names: str, server: str) -> tuple[pytest.RunResult, Any]:
    body = TEST.format(args=server).replace('"30%"', f'"30%", subject={names}')
    pytester.makepyfile(test_it=body)
    result = pytester.runpytest(
        "--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-store=perf"
    )
    return result, json.loads((pytester.path / "r.json").read_text())


def test_what_is_held_fixed_refuses_a_level_of_before(pytester: pytest.Pytester) -> None:
    give_history(pytester, 10, accept=True)
    result, report = held(pytester, '("engine_version", "--itl-ms")', SLOWER)
    assert result.ret == 11
    (gate,) = report["gates"]
    assert (gate["reason_code"], gate["covered"], gate["mode"]) == ("subject", False, "history")
    assert "itl-ms is 4 here and 2 there" in gate["reason"].replace("_", "-")
    assert "accept a level of what runs now" in gate["reason"]
    # What differs and is not held fixed is compared, and what is held fixed and equal, too.
    result, report = held(pytester, '("engine_version",)', SLOWER)
    assert report["gates"][0]["reason_code"] == "loss_shown"
    assert result.ret == 10


OTHER_PLACE = """
import pytest
@pytest.hookimpl
def pytest_llmperf_fingerprint(facts): facts["room"] = "cellar"
"""
COMPARABLE = """
@pytest.hookimpl
def pytest_llmperf_comparable(current, baseline):
    return current["room"] == "cellar" and "room" not in baseline
"""


def test_a_level_of_another_environment_is_refused_by_name(pytester: pytest.Pytester) -> None:
    give_history(pytester, 10, accept=True)
    pytester.makeconftest(OTHER_PLACE)
    result, report = session(pytester)
    assert result.ret == 11
    (gate,) = report["gates"]
    assert (gate["reason_code"], gate["covered"]) == ("environment", False)
    assert "room is cellar here and unknown there" in gate["reason"]


def test_a_hook_may_say_that_environments_are_comparable(pytester: pytest.Pytester) -> None:
    give_history(pytester, 10, accept=True)
    pytester.makeconftest(OTHER_PLACE + COMPARABLE)
    result, report = session(pytester)
    assert result.ret == 0
    assert report["gates"][0]["verdict"] == "pass"


def test_a_truncated_store_is_red_and_names_the_file(pytester: pytest.Pytester) -> None:
    give_history(pytester, 10, accept=True)
    path = next(Path(pytester.path, "perf").rglob("*old1*.json"))
    path.write_text(path.read_text()[:100])
    result, report = session(pytester)
    assert result.ret == 11
    assert report["gates"][0]["reason_code"] == "store_broken"
    assert path.name in result.stdout.str()


def test_a_store_that_cannot_be_written_is_red(pytester: pytest.Pytester) -> None:
    Path(pytester.path, "taken").write_text("a file where the directory should be")
    result, _ = session(pytester, store="taken")
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*taken*"])


def test_floors_are_remembered_too(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_it=TEST.format(args=SERVER).replace(
            "llm_no_regression(tpot_mean='30%')".replace("'", '"'),
            'llm_floor(output_throughput="0.01 tok/s")',
        )
    )
    result = pytester.runpytest("--llmperf-store=perf", "--llmperf-runs=1")
    assert result.ret == 0
    (observation,) = remembered(pytester)
    assert (observation.gates, observation.verdict) == (("output_throughput",), "pass")


def test_two_workers_remember_side_by_side(pytester: pytest.Pytester) -> None:
    body = TEST.format(args=SERVER) + TEST.format(args=SLOWER).replace("test_a", "test_b")
    pytester.makepyfile(test_it=body)
    result = pytester.runpytest_subprocess("-n2", "--llmperf-store=perf", "--llmperf-runs=1")
    assert result.ret == 0
    assert {each.test for each in remembered(pytester)} == {
        "test_it.py::test_a",
        "test_it.py::test_b",
    }


# --- calibration -----------------------------------------------------------------------------


def test_a_calibration_judges_nothing_and_is_used_by_plans(pytester: pytest.Pytester) -> None:
    result, report = session(pytester, "--llmperf-calibrate=6")
    assert result.ret == 0
    assert report["gates"] == []
    (noise,) = report["noise"]
    assert noise["launches"] == 6
    found = noise["metrics"]["tpot_mean"]
    assert found["pair_df"] == 3
    assert found["pair_sigma"] < 0.5
    assert remembered(pytester) == []
    result, _ = session(pytester, "--llmperf-plan", f"--llmperf-reference-args={SLOWER}")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["plan: 1 server, 1 gate;*", "*mean TPOT*(calibrated on *"])
    assert "1 passed" not in result.stdout.str()


def test_tests_without_a_gate_are_calibrated_too(pytester: pytest.Pytester) -> None:
    gate = '@pytest.mark.llm_no_regression(tpot_mean="30%")\n'
    pytester.makepyfile(test_it=TEST.format(args=SERVER).replace(gate, ""))
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-store=perf")
    result = pytester.runpytest(*options, "--llmperf-calibrate=6")
    assert result.ret == 0
    report = json.loads((pytester.path / "r.json").read_text())
    (noise,) = report["noise"]
    assert (noise["test"], noise["launches"]) == ("test_it.py::test_a", 6)
    assert report["counts"]["launches"] == 6
    # What was found is of the server and the workload, whichever test asks next.
    result, _ = session(pytester, "--llmperf-plan", f"--llmperf-reference-args={SLOWER}")
    result.stdout.fnmatch_lines(["*mean TPOT*(calibrated on *"])


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--llmperf-calibrate=5", "--llmperf-store=perf"], "an even number of at least 6"),
        (["--llmperf-calibrate=6"], "say where with --llmperf-store"),
        (["--llmperf-plan", "-n2"], "--llmperf-plan goes without -n"),
    ],
)
def test_mistakes(pytester: pytest.Pytester, args: list[str], said: str) -> None:
    pytester.makepyfile(test_it=TEST.format(args=SERVER))
    result = pytester.runpytest(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_a_level_whose_sessions_are_gone_breaks_nothing(pytester: pytest.Pytester) -> None:
    give_history(pytester, 8, accept=True)
    for document in (pytester.path / "perf").rglob("*.json"):
        if "observations" not in json.loads(document.read_text()):
            document.unlink()
    assert not remembered(pytester)
    result, report = session(pytester)
    assert result.ret in (0, 11), str(result.stdout)
    (gate,) = report["gates"]
    assert gate["verdict"] == "inconclusive"
    assert gate["history"] is None
    assert "Traceback" not in str(result.stdout)


def test_the_history_is_of_this_environment_alone(pytester: pytest.Pytester) -> None:
    newest = give_history(pytester, 8, accept=True)
    place = """
    import os
    def pytest_llmperf_fingerprint(facts): facts["rack"] = os.environ["RACK"]
    def pytest_llmperf_comparable(): return True
    """
    pytester.makeconftest(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RACK", "a")
        _, first = session(pytester)
        _, second = session(pytester)
    assert first["gates"][0]["mode"] == "history"
    assert first["gates"][0]["reason_code"] != "learning"  # by the level of the other environment
    assert first["gates"][0]["history"] is None
    assert len(second["gates"][0]["history"]["points"]) == 2
    assert len(remembered(pytester)) > 2
    assert newest.key != remembered(pytester)[-1].key
