"""Night after night against a named release, on the simulator."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest

from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.records import Observation
from pytest_llmperf.session import watching
from pytest_llmperf.store import open_store

RELEASE = "--ttft-ms 5 --itl-ms 2"
SLOWER = "--ttft-ms 5 --itl-ms 4"
FASTER = "--ttft-ms 5 --itl-ms 1"
ALIKE = "--ttft-ms 5.01 --itl-ms 2"
TEST = """
import pytest
@pytest.mark.llm_server("sim", model="m", args="{args}")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=32, requests=16, concurrency=4)
@pytest.mark.llm_no_regression(tpot_mean="{loss}")
def test_a(llm_perf):
    llm_perf.run()
"""
#: Less than four pairs could ever show or exclude.
TINY = "0.05%"
FAST = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
STORED = ("--llmperf-store=perf", "--llmperf-anchor=v1.0")


def night(
    pytester: pytest.Pytester, server: str, loss: str = "20%"
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=TEST.format(args=server, loss=loss))
    reference = f"--llmperf-reference-args={RELEASE}"
    result = pytester.runpytest(*FAST, *STORED, reference, "--llmperf-quality=off")
    report: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return result, report


def remembered(pytester: pytest.Pytester) -> list[Observation]:
    store = open_store("perf", pytester.path)
    try:
        return store.observations()
    finally:
        store.close()


def test_nights_add_up_until_they_show_what_one_alone_cannot(pytester: pytest.Pytester) -> None:
    found = []
    for _ in range(4):
        result, report = night(pytester, SLOWER)
        (gate,) = report["gates"]
        launches = sum(len(server["launches"]) for server in report["servers"])
        found.append((result.ret, gate["reason_code"], gate["n_pairs"], launches))
        if gate["verdict"] == "fail":
            break
    # two pairs a night, and one launch of each side to warm up
    assert found[0] == (0, "accumulating", 2, 6)
    assert found[-1][1] == "loss_shown"
    assert found[-1][0] == 10
    assert [pairs for _, _, pairs, _ in found] == [2 * (n + 1) for n in range(len(found))]
    assert gate["alpha"] == pytest.approx(0.001)
    assert gate["against"].startswith("v1.0 (sim")
    assert " since 20" in gate["reason"]
    # red until a later sequence passes, and the next night begins one
    result, report = night(pytester, FASTER)
    (gate,) = report["gates"]
    assert (result.ret, gate["verdict"], gate["reason_code"]) == (10, "fail", "failed_before")
    assert gate["n_pairs"] == 2
    for _ in range(4):
        result, report = night(pytester, FASTER)
        if report["gates"][0]["verdict"] == "pass":
            break
    assert result.ret == 0


def test_pairs_that_are_gone_are_missed_and_a_new_sequence_begins(
    pytester: pytest.Pytester,
) -> None:
    night(pytester, ALIKE, TINY)
    night(pytester, ALIKE, TINY)
    first = remembered(pytester)[0]
    for path in (pytester.path / "perf").rglob(f"*{first.id}*.json"):
        path.unlink()
    result, report = night(pytester, ALIKE, TINY)
    (gate,) = report["gates"]
    assert (result.ret, gate["reason_code"], gate["covered"]) == (11, "sequence_lost", False)
    assert "2 of the earlier pairs with v1.0 are gone from the store" in gate["reason"]
    result, report = night(pytester, ALIKE, TINY)
    (gate,) = report["gates"]
    assert (result.ret, gate["reason_code"], gate["n_pairs"]) == (0, "accumulating", 4)


def test_a_release_needs_somebody_who_says_how_to_start_it(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST.format(args=RELEASE, loss="20%"))
    result = pytester.runpytest(*FAST, *STORED)
    assert result.ret == 11
    assert "--llmperf-anchor names v1.0, and no reference says" in result.stdout.str()


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--llmperf-anchor=v1"], "say where with --llmperf-store"),
        (["--llmperf-anchor= ", "--llmperf-store=perf"], "--llmperf-anchor is empty"),
        (
            ["--llmperf-anchor=v1", "--llmperf-store=perf", "--llmperf-aa"],
            "--llmperf-aa looks at noise",
        ),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    pytester: pytest.Pytester, args: list[str], told: str
) -> None:
    pytester.makepyfile(test_it=TEST.format(args=RELEASE, loss="20%"))
    result = pytester.runpytest(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert told in result.stderr.str()


def test_the_plan_says_what_a_night_adds(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(test_it=TEST.format(args=SLOWER, loss="20%"))
    reference = f"--llmperf-reference-args={RELEASE}"
    result = pytester.runpytest(*STORED, reference, "--llmperf-plan")
    result.stdout.fnmatch_lines(
        ["*4 launches: two more of at most 12 pairs with v1.0, kept from session to session"]
    )


def test_a_night_on_which_nothing_was_measured_is_no_quiet_night(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    night(pytester, ALIKE, TINY)
    watcher = Watcher(look=lambda: [Condition(uuid="u")], period_s=0.001)
    with monkeypatch.context() as patched:
        patched.setattr(watching, "watching", lambda _: nullcontext(watcher))
        patched.setattr(watching, "troubles", lambda *_: ["throttled: by the test"])
        result, report = night(pytester, ALIKE, TINY)
    (gate,) = report["gates"]
    assert (result.ret, gate["covered"]) == (11, False)
    assert "throttled: by the test" in gate["reason"]
    _, report = night(pytester, ALIKE, TINY)
    assert report["gates"][0]["n_pairs"] == 4
