"""Energy, memory and cost from the devices to the verdict."""

from __future__ import annotations

import itertools
import json
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.accelerators.conditions import Condition, Watcher
from pytest_llmperf.records import Accelerator
from pytest_llmperf.session import watching

TEST = """
import pytest

@pytest.mark.llm_server("sim", model="m", args="--ttft-ms 20 --itl-ms 2")
@pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=32, requests=8, concurrency=2)
@pytest.mark.llm_ceiling({gate})
def test_a(llm_perf): llm_perf.run()
"""
TODAY = datetime.now(UTC).date()


def session(
    pytester: pytest.Pytester, gate: str, *args: str
) -> tuple[pytest.RunResult, dict[str, Any], dict[str, Any]]:
    """Its result, the one gate and the one run."""
    pytester.makepyfile(test_it=TEST.format(gate=gate))
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
    result = pytester.runpytest(*options, *args)
    report: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    (gate_entry,), (measurement,) = report["gates"], report["measurements"]
    return result, gate_entry, measurement["runs"][-1]


def prices(pytester: pytest.Pytester, *, days: int = 1, per_hour: float = 3.6) -> str:
    document = {
        "currency": "USD",
        "dated": (TODAY - timedelta(days=days)).isoformat(),
        "source": "the test",
        "prices": [{"accelerator": "cpu", "per_hour": per_hour}],
    }
    Path(pytester.path, "prices.json").write_text(json.dumps(document))
    return "--llmperf-prices=prices.json"


COST = 'cost_per_million_output_tokens="1000000 $"'


def test_cost_without_prices_is_a_hole_that_names_the_option(pytester: pytest.Pytester) -> None:
    result, gate, run = session(pytester, COST)
    assert result.ret == 11
    assert (gate["reason_code"], gate["covered"]) == ("not_measured", False)
    assert "--llmperf-prices FILE" in gate["reason"]
    assert run["metrics"]["cost_per_million_output_tokens"] is None


def test_cost_is_judged_by_the_price_file(pytester: pytest.Pytester) -> None:
    result, gate, run = session(pytester, COST, prices(pytester))
    assert result.ret == 0
    rate = run["metrics"]["output_throughput"]
    assert gate["observed"] == pytest.approx(3.6 / (rate * 3600) * 1e6)
    assert gate["unit"] == "$"
    assert run["telemetry"]["price"]["source"] == "the test"
    assert "days old" not in gate["reason"]


def test_old_prices_are_told_with_the_verdict(pytester: pytest.Pytester) -> None:
    _, gate, run = session(pytester, COST, prices(pytester, days=200))
    told = f"prices of {TODAY - timedelta(days=200)} are 200 days old"
    assert gate["reason"].endswith(told)
    assert run["telemetry"]["price"]["note"] == told


def test_prices_of_the_ini_file_lie_beside_it(pytester: pytest.Pytester) -> None:
    prices(pytester)
    pytester.makeini("[pytest]\nllmperf_prices = prices.json")
    result, gate, _ = session(pytester, COST)
    assert (result.ret, gate["verdict"]) == (0, "pass")


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--llmperf-prices=none.json"], "*--llmperf-prices=none.json: it cannot be read:*"),
        (["-o", "llmperf_prices=none.json"], "*ini value llmperf_prices = none.json: it cannot*"),
    ],
)
def test_a_price_file_that_cannot_be_read_is_a_mistake_of_usage(
    pytester: pytest.Pytester, args: list[str], said: str
) -> None:
    pytester.makepyfile(test_it=TEST.format(gate=COST))
    result = pytester.runpytest(*args)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_memory_of_a_server_on_the_processor_is_gated(pytester: pytest.Pytester) -> None:
    result, gate, run = session(pytester, 'peak_memory="64 GiB"')
    assert (result.ret, gate["verdict"], gate["unit"]) == (0, "pass", "GiB")
    telemetry = run["telemetry"]
    assert telemetry["peak_memory_of"] == "processes"
    assert gate["observed"] == pytest.approx(telemetry["peak_memory_bytes"] / 2**30)
    result, gate, _ = session(pytester, 'peak_memory="1 MiB"')
    assert (result.ret, gate["verdict"]) == (10, "fail")


def test_energy_of_a_device_is_gated(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A device that draws 250 W for as long as it is watched."""

    def watching_it(accelerator: Accelerator) -> Any:
        uuid = accelerator.devices[0].uuid

        def look() -> list[Condition]:
            return [Condition(uuid=uuid, power_w=250.0)]

        return nullcontext(Watcher(look=look, period_s=0.01, source="the test"))

    monkeypatch.setattr(watching, "watching", watching_it)
    result, gate, run = session(pytester, 'joules_per_output_token="1000 J/tok"')
    assert (result.ret, gate["verdict"]) == (0, "pass")
    (device,) = run["telemetry"]["devices"]
    assert device["energy_from"] == "power"
    assert device["energy_j"] == pytest.approx(250 * run["duration_s"])
    assert gate["observed"] == pytest.approx(250 * run["duration_s"] / (8 * 32))
    assert run["metrics"]["tokens_per_joule"] == pytest.approx(1 / gate["observed"])
    moments = device["series"]["at_s"]
    assert moments[0] <= 0 < run["duration_s"] <= moments[-1] + 0.01
    assert len(moments) >= 3


def test_energy_that_is_not_certain_is_a_hole_that_says_why(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    counter = itertools.count(1000, -1)

    def watching_it(accelerator: Accelerator) -> Any:
        uuid = accelerator.devices[0].uuid

        def look() -> list[Condition]:
            return [Condition(uuid=uuid, energy_j=float(next(counter)))]

        return nullcontext(Watcher(look=look, period_s=0.01))

    monkeypatch.setattr(watching, "watching", watching_it)
    result, gate, run = session(pytester, 'joules_per_output_token="1000 J/tok"')
    assert result.ret == 11
    assert (gate["reason_code"], gate["covered"]) == ("not_measured", False)
    assert "its counter fell from" in gate["reason"]
    assert run["telemetry"]["energy_missing"].startswith("its counter fell")
