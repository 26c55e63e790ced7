"""A server against its reference, launch by launch, on the simulator."""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from pytest_llmperf.gates.design import Prior, design_for
from pytest_llmperf.gates.sequential import State, decide
from pytest_llmperf.records import RegressionGate
from pytest_llmperf.session import duel as duels
from pytest_llmperf.session.comparison import SHARE_OF_LOOKS
from pytest_llmperf.testing import FakeServer, Script
from repositories import git

SERVER = "--ttft-ms 5 --itl-ms 2"
SLOWER = "--ttft-ms 5 --itl-ms 3"
HEAD = """
import pytest

from pytest_llmperf.testing import FakeServer, Script
from pytest_llmperf import Regressed
pytestmark = [
    pytest.mark.llm_server("sim", model="m", args="{args}"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=32, requests=16, concurrency=4),
]
GATE = pytest.mark.llm_no_regression(tpot_mean="20%")
"""
RUN = "@GATE\ndef test_a(llm_perf): llm_perf.run()\n"


def duel(
    pytester: pytest.Pytester, *args: str, server: str = SERVER, body: str = RUN
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=HEAD.format(args=server) + body)
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
    result = pytester.runpytest(*options, "--llmperf-quality=off", *args)
    report = pytester.path / "r.json"
    return result, json.loads(report.read_text()) if report.exists() else {}


def sides(report: dict[str, Any]) -> list[tuple[str, int]]:
    """Side and pair of each measured launch, in order."""
    runs = [run for each in report["measurements"] for run in each["runs"]]
    runs.sort(key=lambda run: run["started_at"])
    return [(run["side"], run["pair"]) for run in runs]


def test_a_slower_server_fails_against_its_reference(pytester: pytest.Pytester) -> None:
    result, report = duel(pytester, "--llmperf-reference-args", SERVER, server=SLOWER)
    assert result.ret == 10
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["mode"], gate["kind"]) == ("fail", "ab", "regression")
    assert gate["reason_code"] == "loss_shown"
    assert gate["loss_low"] > 0
    assert gate["n_pairs"] >= 4
    assert gate["reference"] < gate["observed"]
    assert f"with {SERVER}" in gate["against"]
    result.stdout.fnmatch_lines(["FAILED test_it.py::test_a - * slower: mean TPOT*"])


def test_a_faster_server_passes(pytester: pytest.Pytester) -> None:
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER)
    assert result.ret == 0
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"]) == ("pass", "loss_excluded")
    assert gate["loss"] < 0


def test_launches_alternate_in_blocks_of_two_pairs(pytester: pytest.Pytester) -> None:
    _, report = duel(pytester, "--llmperf-reference-args", SLOWER)
    order = sides(report)
    assert len(order) % 4 == 0
    for at in range(0, len(order), 4):
        first, second, third, fourth = order[at : at + 4]
        pair = at // 2
        assert [each[1] for each in (first, second, third, fourth)] == [
            pair,
            pair,
            pair + 1,
            pair + 1,
        ]
        assert first[0] == fourth[0] != second[0] == third[0]
    mine, theirs = report["measurements"]
    assert mine["reference"] == theirs["id"]
    assert len({run["launch_id"] for run in mine["runs"]}) == len(mine["runs"])
    # and one launch of each side to warm up
    launches = [launch for server in report["servers"] for launch in server["launches"]]
    assert len(launches) == len(order) + 2


def test_a_server_against_itself_is_nothing_to_compare(pytester: pytest.Pytester) -> None:
    result, report = duel(pytester, "--llmperf-reference-args", SERVER)
    assert result.ret == 11
    (gate,) = report["gates"]
    assert (gate["reason_code"], gate["covered"]) == ("identical", False)
    assert "nothing to compare" in result.stdout.str()


def test_a_server_against_itself_is_compared_when_asked(pytester: pytest.Pytester) -> None:
    _, report = duel(pytester, "--llmperf-reference-args", SERVER, "--llmperf-aa")
    (gate,) = report["gates"]
    assert gate["verdict"] != "fail"
    assert gate["n_pairs"] >= 4


def test_the_marker_names_the_reference(pytester: pytest.Pytester) -> None:
    body = (
        f"@pytest.mark.llm_server('sim', model='m', args={SLOWER!r}, "
        f"reference={{'args': {SERVER!r}}})\n" + RUN
    )
    result, report = duel(pytester, body=body)
    assert result.ret == 10
    assert report["gates"][0]["mode"] == "ab"


def test_tests_share_launches_until_each_is_decided(pytester: pytest.Pytester) -> None:
    body = (
        RUN
        + "@GATE\n@pytest.mark.llm_workload('chat', input_tokens=8, output_tokens=32, requests=16,"
        + " concurrency=2)\ndef test_b(llm_perf):\n"
        + "    run = llm_perf.run()\n"
        + "    assert run.reference.tpot_mean > run.tpot_mean\n"
    )
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, body=body)
    assert result.ret == 0
    assert len(report["measurements"]) == 4
    shared = [{run["launch_id"] for run in each["runs"]} for each in report["measurements"]]
    assert shared[0] & shared[2]


def test_limits_are_judged_on_the_candidate_beside_the_gate(pytester: pytest.Pytester) -> None:
    body = "@pytest.mark.llm_floor(output_throughput='0.01 tok/s')\n" + RUN
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, body=body)
    assert result.ret == 0
    floor = next(gate for gate in report["gates"] if gate["kind"] == "floor")
    assert floor["verdict"] == "pass"
    assert floor["n_launches"] >= 4


def test_tests_without_a_gate_never_start_the_reference(pytester: pytest.Pytester) -> None:
    body = "def test_a(llm_perf): llm_perf.run()\n"
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, body=body)
    assert result.ret == 0
    assert report["counts"]["launches"] == 1


def test_a_reference_that_does_not_start_is_broken_once(pytester: pytest.Pytester) -> None:
    body = RUN + RUN.replace("test_a", "test_b")
    result, report = duel(pytester, "--llmperf-reference-args", "--fail-start boom", body=body)
    assert result.ret == 11
    assert [test["outcome"] for test in report["tests"]] == ["broken", "broken"]
    assert "boom" in result.stdout.str()
    launches = [launch for server in report["servers"] for launch in server["launches"]]
    assert sum(launch["failure"] is not None for launch in launches) == 1


def test_no_block_begins_when_the_time_is_over(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Late:
        """In time for one block, and for no second one."""

        def __init__(self) -> None:
            self.asked = 0

        @property
        def elapsed(self) -> float:
            self.asked += 1
            return 0.0 if self.asked == 1 else 1e9

    monkeypatch.setattr(duels, "clock", SimpleNamespace(Stopwatch=Late))
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, "--llmperf-budget", "1h")
    (gate,) = report["gates"]
    assert (result.ret, gate["reason_code"], gate["covered"]) == (0, "budget", True)
    assert report["counts"]["launches"] == 6  # two to warm up, and one block
    assert "of at most 12 pairs, undecided" in gate["reason"]


def test_a_budget_that_is_too_small_says_so_and_launches_no_pairs(
    pytester: pytest.Pytester,
) -> None:
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, "--llmperf-budget", "1s")
    assert result.ret == 0
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"], gate["covered"]) == (
        "inconclusive",
        "budget",
        True,
    )
    assert report["counts"]["launches"] <= 3


def test_the_merge_base_is_built_and_named(pytester: pytest.Pytester) -> None:
    git("init", "-q", "-b", "main", at=pytester.path)
    git("commit", "-qm", "one", "--allow-empty", at=pytester.path)
    build = f"{sys.executable} -c 'import sys; print(sys.executable)'"
    cache = f"llmperf_cache_dir={pytester.path / 'cache'}"
    result, report = duel(
        pytester, f"--llmperf-reference-build={build}", "--llmperf-aa", "-o", cache
    )
    (gate,) = report["gates"]
    assert gate["n_pairs"] >= 4
    assert "the merge base with main" in gate["against"]
    assert result.ret in (0, 10)


def test_a_reference_that_cannot_be_built_is_broken_and_nothing_starts(
    pytester: pytest.Pytester,
) -> None:
    git("init", "-q", "-b", "main", at=pytester.path)
    result, report = duel(pytester, "--llmperf-reference-build=make reference")
    result.stdout.fnmatch_lines(["*--llmperf-reference-ref*"])
    assert report["counts"]["launches"] == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--llmperf-pairs", "5"], "an even number of at least 4"),
        (["--llmperf-budget", "soon"], "expected a time such as 20m"),
        (["--llmperf-reference-args", "'"], "No closing quotation"),
        (
            ["--llmperf-reference-url", "http://127.0.0.1:1", "--llmperf-reference-args", "x"],
            "does not go together",
        ),
    ],
)
def test_mistakes_in_options(pytester: pytest.Pytester, args: list[str], said: str) -> None:
    result, _ = duel(pytester, *args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("{}", "expected what differs"),
        ("{'arguments': 'x'}", "Did you mean 'args'?"),
    ],
)
def test_mistakes_in_the_marker(pytester: pytest.Pytester, reference: str, said: str) -> None:
    body = f"@pytest.mark.llm_server('sim', model='m', reference={reference})\n" + RUN
    result, _ = duel(pytester, body=body)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_a_comparison_that_could_show_no_loss_is_red(pytester: pytest.Pytester) -> None:
    gates = "".join(f"@pytest.mark.llm_no_regression({name}='20%')\n" for name in METRICS)
    body = gates + "def test_a(llm_perf): llm_perf.run()\n"
    result, report = duel(
        pytester, "--llmperf-reference-args", SERVER, "--llmperf-pairs=4", server=SLOWER, body=body
    )
    assert result.ret == 11
    assert {gate["reason_code"] for gate in report["gates"]} == {"too_few_pairs"}
    assert "allow 6 (--llmperf-pairs" in report["gates"][0]["reason"]


METRICS = ("tpot_mean", "ttft_mean", "output_throughput")


def test_trouble_with_one_workload_is_told_by_its_own_test(pytester: pytest.Pytester) -> None:
    body = (
        RUN
        + "@GATE\n@pytest.mark.llm_workload('chat', input_tokens=4000, output_tokens=32,"
        + " requests=4, concurrency=2)\ndef test_b(llm_perf): llm_perf.run()\n"
    )
    small = " --max-context-tokens 256"
    args = ("--llmperf-reference-args", SLOWER + small)
    result, report = duel(pytester, *args, server=SERVER + small, body=body)
    outcomes = {test["test"]: test["outcome"] for test in report["tests"]}
    assert outcomes == {"test_it.py::test_a": "passed", "test_it.py::test_b": "broken"}
    assert result.ret == 11
    assert "context is too small" in result.stdout.str()


def test_a_launched_server_is_not_compared_with_a_running_one(pytester: pytest.Pytester) -> None:
    with FakeServer() as running:
        result, report = duel(pytester, f"--llmperf-reference-url={running.url}")
    assert result.ret == 11
    assert report["gates"][0]["reason_code"] == "unlike"


def test_two_running_servers_are_compared_visit_by_visit(pytester: pytest.Pytester) -> None:
    with FakeServer(Script(itl_ms=2)) as fast, FakeServer(Script(itl_ms=4)) as slow:
        args = (f"--llmperf-url={slow.url}", f"--llmperf-reference-url={fast.url}")
        result, report = duel(pytester, *args)
    assert result.ret == 10
    (gate,) = report["gates"]
    assert "the luck of their one launch" in gate["against"]
    assert report["counts"]["launches"] >= 12


def test_comparing_a_server_with_itself_is_said(pytester: pytest.Pytester) -> None:
    _, report = duel(pytester, "--llmperf-reference-args", SERVER, "--llmperf-aa")
    assert "which runs the same" in report["gates"][0]["reason"]


def test_a_program_that_is_not_there_is_a_mistake(pytester: pytest.Pytester) -> None:
    result, _ = duel(pytester, "--llmperf-reference-python=no/such/python")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "there is no program" in result.stderr.str()


# --- what is held fixed ----------------------------------------------------------------------

HELD = """
@pytest.mark.llm_no_regression(tpot_mean="20%", subject={names})
def test_a(llm_perf): llm_perf.run()
"""


def test_what_a_test_holds_fixed_refuses_its_gate_and_names_both_values(
    pytester: pytest.Pytester,
) -> None:
    body = HELD.format(names='("engine_version", "--itl-ms")') + RUN.replace("test_a", "test_b")
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, body=body)
    assert result.ret == 11
    refused, passed = report["gates"]
    assert (refused["verdict"], refused["reason_code"]) == ("inconclusive", "subject")
    assert refused["covered"] is False
    assert "itl_ms is 2 here and 3 there" in refused["reason"].replace("args.", "")
    assert "take it out of subject=" in refused["reason"]
    assert "version" not in refused["reason"].partition(": ")[2].partition(";")[0]
    assert passed["verdict"] == "pass"


def test_nothing_is_launched_for_gates_that_are_all_refused(pytester: pytest.Pytester) -> None:
    body = HELD.format(names='"--itl-ms"')
    _, report = duel(pytester, "--llmperf-reference-args", SLOWER, body=body)
    assert report["gates"][0]["reason_code"] == "subject"
    assert report["counts"]["launches"] <= 3  # one of each side to warm up, and one to measure


def test_what_is_equal_on_both_sides_may_be_held_fixed(pytester: pytest.Pytester) -> None:
    body = HELD.format(names='("engine_version", "model")')
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, body=body)
    assert result.ret == 0
    assert report["gates"][0]["verdict"] == "pass"


def test_what_neither_side_knows_is_not_known_to_be_equal(pytester: pytest.Pytester) -> None:
    body = HELD.format(names='("quantisation_of_the_moon",)')
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, body=body)
    assert result.ret == 11
    assert (
        "quantisation_of_the_moon is known neither here nor there" in report["gates"][0]["reason"]
    )


@pytest.mark.parametrize("names", ["3", '["a", 1]', '("",)'])
def test_what_is_held_fixed_is_named_by_words(pytester: pytest.Pytester, names: str) -> None:
    result, _ = duel(pytester, body=HELD.format(names=names))
    assert result.ret == 4
    result.stderr.fnmatch_lines(
        ["*test_it.py:*llm_no_regression(subject=*expected names of facts*"]
    )


# --- the report alone ------------------------------------------------------------------------


def again(report: dict[str, Any], gate: dict[str, Any]) -> State:
    """A comparison decided anew by nothing but its report."""
    mine = next(each for each in report["measurements"] if each["id"] == gate["measurement"])
    theirs = next(each for each in report["measurements"] if each["id"] == mine["reference"])
    means = [launch_means(each, gate["metric"]) for each in (mine, theirs)]
    shifts = [math.log(means[0][pair] / means[1][pair]) for pair in sorted(means[0])]
    declared = RegressionGate(
        metric=gate["metric"],
        loss_to_catch=gate["loss_to_catch"],
        allow=gate["allow"],
        source=gate["source"],
    )
    alpha = SHARE_OF_LOOKS * gate["alpha"] / gate["family"]
    design = design_for(declared, alpha=alpha, max_pairs=2 * gate["looks"] + 2)
    prior = gate["prior_sigma"] and Prior(sigma=gate["prior_sigma"], df=gate["prior_df"])
    return decide(shifts, design, prior)


def launch_means(measurement: dict[str, Any], metric: str) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for run in measurement["runs"]:
        if run["valid"]:
            found.setdefault(run["pair"], []).append(run["metrics"][metric])
    return {pair: statistics.fmean(values) for pair, values in found.items()}


def drawn(seed: int, pairs: int) -> list[str]:
    """The sides of a duel's launches in the order that ``seed`` decides."""
    order: list[str] = []
    for first in range(0, pairs, 2):
        one, other = random.Random(f"{seed} {first}").sample(["candidate", "reference"], 2)
        order += [one, other, other, one]
    return order


@pytest.mark.parametrize("workers", [(), ("-n2", "--dist=load")])
def test_the_report_alone_gives_the_verdict_again(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    other = f"@pytest.mark.llm_server('sim', model='other', args={SERVER!r})\n"
    body = RUN + other + RUN.replace("test_a", "test_b")
    result, report = duel(pytester, "--llmperf-reference-args", SLOWER, *workers, body=body)
    assert result.ret == 0
    assert len(report["gates"]) == 2
    for gate in report["gates"]:
        state = again(report, gate)
        assert (state.word, state.code) == (gate["verdict"], gate["reason_code"])
        for name in ("loss", "loss_low", "loss_high", "sigma", "df", "look"):
            assert getattr(state, name) == pytest.approx(gate[name]), name
        runs = [
            run
            for each in report["measurements"]
            if each["test"] == gate["test"]
            for run in each["runs"]
        ]
        runs.sort(key=lambda run: run["started_at"])
        # A run may have been repeated on its launch.
        sides = list({run["launch_id"]: run["side"] for run in runs}.values())
        assert sides == drawn(report["seed"], len(sides) // 2)
