"""Sessions of one suite that are judged together: their shares, what they leave to each other, and
the report that is made of theirs."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.gates.design import Design, design_for, lower_width
from pytest_llmperf.gates.sequential import decide
from pytest_llmperf.judging_options import FAMILY_ALPHA
from pytest_llmperf.records import RegressionGate
from pytest_llmperf.session.comparison import SHARE_OF_LOOKS
from pytest_llmperf.settings import Settings

#: ``PRETEND`` is the accelerator that a session believes to run on.
CONFTEST = """
import os
def pytest_llmperf_fingerprint(facts):
    facts["product"] = os.environ.get("PRETEND", "one")
def pytest_addoption(parser):
    parser.addoption("--part")
def pytest_collection_modifyitems(config, items):
    part = config.getoption("--part")
    gone = [item for item in items if part and item.name not in part.split(",")]
    config.hook.pytest_deselected(items=gone)
    items[:] = [item for item in items if item not in gone]
"""
SUITE = """
import pytest
pytestmark = [
    pytest.mark.llm_server("sim", model="m"),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=8, requests=20, concurrency=4),
]
LOW = pytest.mark.llm_floor(output_throughput="0.01 tok/s")
@LOW
def test_a(llm_perf): llm_perf.run()
@LOW
@pytest.mark.llm_ceiling(ttft_p50="100 s")
def test_b(llm_perf): llm_perf.run()
@LOW
def test_c(llm_perf): llm_perf.run()
"""
A, B, C = (f"test_it.py::test_{name}" for name in "abc")


@pytest.fixture(autouse=True)
def suite(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(CONFTEST)
    pytester.makepyfile(test_it=SUITE)


def run(pytester: pytest.Pytester, name: str, *args: str) -> tuple[int, dict[str, Any]]:
    options = (f"--llmperf-report={name}", "--llmperf-runs=1", "--llmperf-no-progress")
    result = pytester.runpytest(*options, *args)
    return int(result.ret), json.loads((pytester.path / name).read_text())


def shares(report: dict[str, Any]) -> set[tuple[float, int]]:
    return {(round(gate["alpha"], 6), gate["family"]) for gate in report["gates"]}


# --- shares --------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [(), ("-n2",)])
def test_a_shard_judges_what_it_runs_with_its_share(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    status, report = run(
        pytester, "r.json", "--llmperf-shard=2/4", "--part=test_a,test_b", *workers
    )
    assert status == 0
    assert shares(report) == {(0.0025, 3)}
    suite = report["suite"]
    assert (suite["shard"], suite["shards"], suite["family"]) == (2, 4, 3)
    assert (suite["alpha"], suite["share"]) == (0.01, 0.25)
    selected = {gate["test"]: gate["selected"] for gate in suite["gates"]}
    assert selected == {A: True, B: True, C: False}


def test_without_shards_what_is_deselected_counts_as_ever(pytester: pytest.Pytester) -> None:
    _, report = run(pytester, "r.json", "--part=test_a")
    assert shares(report) == {(0.01, 4)}
    assert (report["suite"]["shards"], report["suite"]["family"]) == (None, 4)


def test_a_number_in_the_ini_file_holds_in_shards_too(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nllmperf_family = 10")
    _, report = run(pytester, "r.json", "--llmperf-shard=1/2", "--part=test_a")
    assert shares(report) == {(0.005, 10)}
    assert report["suite"]["family"] == 10


def test_an_interrupted_shard_goes_on(pytester: pytest.Pytester) -> None:
    stop = "\ndef test_z(): raise KeyboardInterrupt\n"
    suite = pytester.path / "test_it.py"
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-shard=1/2")
    suite.write_text(SUITE + stop)
    with pytest.raises(KeyboardInterrupt):
        pytester.runpytest_inprocess(*options, "--part=test_a,test_z")
    result = pytester.runpytest(*options, "--part=test_a", "--llmperf-resume")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["--llmperf-resume: 1 finished test of the interrupted session*"])


@pytest.mark.parametrize("given", ["0/2", "3/2", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_mistakes(pytester: pytest.Pytester, given: str) -> None:
    result = pytester.runpytest(f"--llmperf-shard={given}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*--llmperf-shard={given}: expected which session of how many*"])


# --- what shards leave to each other -------------------------------------------------------------


def test_a_gate_that_another_shard_has_is_not_missing(pytester: pytest.Pytester) -> None:
    required = ("--llmperf-require=.", "--llmperf-store=perf")
    assert run(pytester, "r.json", *required)[0] == 0  # the store knows all three
    assert run(pytester, "r.json", "--part=test_a", *required)[0] == 11
    for at, part in enumerate(("test_a,test_b", "test_c"), 1):
        shard = f"--llmperf-shard={at}/2"
        assert run(pytester, f"{at}.json", f"--part={part}", shard, *required)[0] == 0
    assert main(["merge", "1.json", "2.json", "-o", "all.json", "--require", "."]) == 0


def test_what_a_shard_was_to_run_and_did_not_judge_is_missing(pytester: pytest.Pytester) -> None:
    (pytester.path / "test_it.py").write_text(
        SUITE.replace("def test_c(llm_perf): llm_perf.run()", "def test_c(llm_perf): pass")
    )
    arguments = ("--llmperf-shard=1/2", "--llmperf-require=.")
    status, report = run(pytester, "r.json", "--part=test_c", *arguments)
    assert status == 11
    assert report["tests"][0]["outcome"] == "could_not_measure"
    (pytester.path / "test_it.py").write_text(
        SUITE.replace(
            "def test_c(llm_perf): llm_perf.run()", "@pytest.mark.xfail\ndef test_c(llm_perf): 1/0"
        )
    )
    status, report = run(pytester, "r.json", "--part=test_c", *arguments)
    assert status == 11
    assert "the test was expected to fail" in report["problems"][0]


def test_a_gate_that_no_shard_has_is_told_by_merge(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    for at, part in enumerate(("test_a", "test_c"), 1):
        run(pytester, f"{at}.json", f"--part={part}", f"--llmperf-shard={at}/2")
    assert main(["merge", "1.json", "2.json", "-o", "all.json"]) == 0
    capsys.readouterr()
    assert main(["merge", "1.json", "2.json", "-o", "all.json", "--require", "test_it.py"]) == 11
    said = f"ERROR: {B}: nobody judged its gates on p50 TTFT and output throughput: every session "
    assert said in capsys.readouterr().out


# --- merged --------------------------------------------------------------------------------------


def test_two_accelerators_make_one_report_that_every_command_takes(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for at, name in enumerate(("H100", "MI300X"), 1):
        monkeypatch.setenv("PRETEND", name)
        assert run(pytester, f"{at}.json", f"--llmperf-shard={at}/2")[0] == 0
    assert main(["merge", "2.json", "1.json", "-o", "all.json"]) == 0
    out = capsys.readouterr().out
    assert "merged from 2 sessions:" in out
    assert "NOTE" not in out
    assert main(["validate", "all.json"]) == 0
    assert main(["report", "all.json", "-o", "all.html"]) == 0
    kinds = ("bencher", "markdown", "openmetrics", "pytest-benchmark", "gitlab", "pytorch-oss")
    assert main(["export", "all.json", *(f"{kind}:{kind}.out" for kind in kinds)]) == 0
    figures = json.loads((pytester.path / "bencher.out").read_text())
    assert len(figures) == 6
    capsys.readouterr()
    main(["compare", "all.json", "all.json"])
    assert f"{A}@" in capsys.readouterr().out
    assert main(["compare", "1.json", "all.json"]) == 1
    assert "product" in capsys.readouterr().err


def test_foreign_reports_and_what_is_no_report_are_refused(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    _, report = run(pytester, "r.json", "--part=test_a")
    origin = {"tool": "AIPerf", "version": None, "files": ["x"], "notes": []}
    (pytester.path / "f.json").write_text(json.dumps(report | {"foreign": origin}))
    (pytester.path / "n.json").write_text("{}")
    assert main(["merge", "r.json", "f.json", "-o", "all.json"]) == 1
    assert "f.json holds results of AIPerf" in capsys.readouterr().err
    assert main(["merge", "r.json", "n.json", "-o", "all.json"]) == 1
    assert "n.json is no valid report" in capsys.readouterr().err
    assert not (pytester.path / "all.json").exists()


def test_a_place_that_refuses_leaves_what_was_there(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    run(pytester, "r.json", "--part=test_a")
    assert main(["merge", "r.json", "-o", "r.json/x"]) == 1
    assert "-o" in capsys.readouterr().err
    assert json.loads((pytester.path / "r.json").read_text())["merged"] is None


# --- how often a fleet alarms --------------------------------------------------------------------

_SHARDS, _GATES, _NIGHTS, _SIGMA = 8, 2, 20_000, 0.045


def test_shards_with_shares_alarm_no_more_often_than_one_session(
    pytester: pytest.Pytester,
) -> None:
    """A fleet of unchanged servers: on how many nights does any gate of any shard fail?"""
    alone = pytester.parseconfigure()
    shards = [
        pytester.parseconfigure(f"--llmperf-shard={at}/{_SHARDS}") for at in range(1, _SHARDS + 1)
    ]
    rate, error = _alarms([Settings.from_config(config).family_alpha for config in shards])
    assert rate < FAMILY_ALPHA - 3 * error
    rate, error = _alarms([Settings.from_config(alone).family_alpha] * _SHARDS)
    assert rate > 3 * FAMILY_ALPHA + 3 * error  # what the shares are for


def _alarms(alphas: list[float]) -> tuple[float, float]:
    """The share of nights with an alarm, and its standard error."""
    noise = np.random.default_rng(20261122)
    alarmed = np.zeros(_NIGHTS, dtype=np.bool_)
    for alpha in alphas:
        # A loss to catch so small that nothing but the bound protects.
        gate = RegressionGate(metric="output_throughput", loss_to_catch=1e-6, allow=0, source="")
        design = design_for(gate, alpha=SHARE_OF_LOOKS * alpha / _GATES)
        for _ in range(_GATES):
            shifts = noise.normal(0, _SIGMA, (_NIGHTS, design.most_pairs))
            failed = _shown(shifts, design)
            _check(shifts, failed, design)
            alarmed |= failed
    rate = float(alarmed.mean())
    return rate, math.sqrt(rate * (1 - rate) / _NIGHTS)


def _shown(shifts: npt.NDArray[np.float64], design: Design) -> npt.NDArray[np.bool_]:
    """Sequences in which a loss is shown at some look; with such a loss to catch nothing passes
    before the last one."""
    found = np.zeros(len(shifts), dtype=np.bool_)
    for look in design.plan:
        seen = shifts[:, : look.pairs]
        width = lower_width(look, look.pairs - 1)
        error = seen.std(axis=1, ddof=1) / math.sqrt(look.pairs)
        found |= seen.mean(axis=1) > width * error
    return found


def _check(shifts: npt.NDArray[np.float64], failed: npt.NDArray[np.bool_], design: Design) -> None:
    """The rule that judges tests says the same of each that failed, and of some that did not."""
    for at in (*np.flatnonzero(failed)[:20], *np.flatnonzero(~failed)[:10]):
        state = decide([float(shift) for shift in shifts[at]], design)
        assert (state.word == "fail") == failed[at]
