"""A server that uses fewer devices than there are, from its marker to the report."""

from __future__ import annotations

import json
from typing import Any

import pytest

#: Four devices that are not there, and the simulator by the name of an engine with flags for them.
FOUR_DEVICES = """
from dataclasses import replace

from pytest_llmperf.accelerators.base import alike, visible
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.records import Device
from pytest_llmperf.session import placing

GPUS = [Device(vendor="nvidia", product="Big One", index=i, uuid=f"GPU-{i}") for i in range(4)]


class Spread(Sim):
    def plan(self, request, placement):
        argv = request.args if placement.port == 0 else ()
        plan = super().plan(replace(request, args=()), placement)
        return replace(plan, argv=(*plan.argv, *argv))


def pytest_configure(config):
    placing.detect = lambda wanted=None, env=None: alike(
        visible(GPUS, (env or {}).get("CUDA_VISIBLE_DEVICES")), "test"
    )


def pytest_llmperf_engines():
    return {"sglang": Spread()}
"""
TEST = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="m", args="ARGS"),
    pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=8),
]


def test_it(llm_perf, llm_server):
    run = llm_perf.run()
    assert run.output_throughput == pytest.approx(run.throughput_per_accelerator * COUNT)
    assert llm_server.accelerator.count == COUNT
"""


@pytest.fixture
def suite(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)
    pytester.makeconftest(FOUR_DEVICES)
    return pytester


def run(suite: pytest.Pytester, args: str, count: int) -> pytest.RunResult:
    suite.makepyfile(TEST.replace("ARGS", args).replace("COUNT", str(count)))
    return suite.runpytest_subprocess("--llmperf-runs=1", "--llmperf-report=report.json")


def report(suite: pytest.Pytester) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((suite.path / "report.json").read_text())
    return found


def test_a_server_gets_what_it_uses_and_is_reported_with_it(suite: pytest.Pytester) -> None:
    run(suite, "--tp 2", 2).assert_outcomes(passed=1)
    document = report(suite)
    launch = document["servers"][0]["launches"][0]
    assert launch["devices"] == ["GPU-0", "GPU-1"]
    assert launch["env"]["CUDA_VISIBLE_DEVICES"] == "0,1"
    accelerator = document["environment"]["accelerators"][0]
    assert (accelerator["count"], accelerator["parallel"]) == (2, {"tp": 2})
    match = document["environment"]["fingerprint"]["match"]
    assert (match["count"], match["parallel_tp"]) == (2, 2)


def test_what_the_surroundings_chose_is_not_said_again(
    suite: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    run(suite, "--tp 1", 1).assert_outcomes(passed=1)
    launch = report(suite)["servers"][0]["launches"][0]
    assert launch["devices"] == ["GPU-3"]
    assert "CUDA_VISIBLE_DEVICES" not in launch["env"]


def test_more_than_there_are_is_a_mistake_before_anything_starts(suite: pytest.Pytester) -> None:
    result = run(suite, "--tp 8", 8)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*ask for 8 devices, and here are 4 × Big One; use fewer*"])
    assert not report(suite)["servers"]


def test_a_plan_says_it_and_ends_as_the_run_would(suite: pytest.Pytester) -> None:
    suite.makepyfile(TEST.replace("ARGS", "--tp 8").replace("COUNT", "8"))
    result = suite.runpytest_subprocess("--llmperf-plan")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["plan: 1 server*", "*sglang | m: CANNOT BE LAUNCHED: *ask for 8 devices, and here are 4*"]
    )
    result.stderr.fnmatch_lines(["*--llmperf-plan: 1 server cannot be launched here*"])
    assert "INTERNALERROR" not in result.stdout.str()


GATED = "pytestmark += [pytest.mark.llm_no_regression(output_throughput='50%')]\n"


def compared(suite: pytest.Pytester, marker: str, *options: str) -> pytest.RunResult:
    test = (
        TEST.replace('args="ARGS"', marker).replace("COUNT", "1").replace("\n\n\n", f"\n{GATED}\n")
    )
    suite.makepyfile(test)
    return suite.runpytest_subprocess(
        "--llmperf-runs=1", "--llmperf-report=report.json", "--llmperf-quality=off", *options
    )


def test_side_by_side_with_other_numbers_of_devices_is_refused_before_any_launch(
    suite: pytest.Pytester,
) -> None:
    options = ("--llmperf-side-by-side", "--llmperf-reference-args=--tp 2")
    result = compared(suite, 'args="--tp 1"', *options)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*server uses 1 device and its reference 2, and both have to be*"])
    assert not report(suite)["servers"]


def test_a_plan_refuses_side_by_side_on_other_numbers_of_devices(suite: pytest.Pytester) -> None:
    options = ("--llmperf-side-by-side", "--llmperf-reference-args=--tp 2", "--llmperf-plan")
    result = compared(suite, 'args="--tp 1"', *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(
        ["*sglang | m: CANNOT BE LAUNCHED: --llmperf-side-by-side: the server uses 1 device and *"]
    )
    alike = compared(suite, 'args="--tp 2"', *options)
    assert alike.ret == 0
    alike.stdout.fnmatch_lines(["*pairs of launches, two at a time*"])


def test_sides_on_other_cards_are_not_compared(suite: pytest.Pytester) -> None:
    marker = (
        'args="--tp 1", env={"CUDA_VISIBLE_DEVICES": "0"}, '
        'reference={"env": {"CUDA_VISIBLE_DEVICES": "1"}}'
    )
    result = compared(suite, marker)
    assert result.ret == 11
    (gate,) = report(suite)["gates"]
    assert gate["reason_code"] == "unlike"
    result.stdout.fnmatch_lines(
        ["*unlike devices, for the server ran on GPU-0 and its reference*GPU-1*"]
    )
