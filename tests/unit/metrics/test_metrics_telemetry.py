"""What was seen of devices during a run, reduced to figures."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.accelerators.conditions import Condition
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.energy import Window
from pytest_llmperf.metrics.telemetry import (
    MOST_ROWS,
    reduce_looks,
    series_of,
    telemetry_metrics,
    window_of,
    within,
)
from pytest_llmperf.metrics.units import format_value, parse_quantity, resolve
from pytest_llmperf.records import (
    NO_CHUNKS,
    Accelerator,
    ClientHealth,
    Device,
    MetricValue,
    RequestRecord,
    Run,
    Telemetry,
)

SECOND = 1_000_000_000
WINDOW = Window(start_ns=100 * SECOND, end_ns=110 * SECOND)
GIB = 2**30


def cards(count: int) -> Accelerator:
    devices = (
        Device(vendor="nvidia", product="NVIDIA L4", index=index, uuid=f"GPU-{index}")
        for index in range(count)
    )
    return Accelerator(devices=tuple(devices), source="test")


def at(second: float, index: int = 0, **read: Any) -> Condition:
    """So many seconds into the window."""
    moment = WINDOW.start_ns + round(second * SECOND)
    return Condition(uuid=f"GPU-{index}", at_ns=moment, **read)


def every_second(count: int = 1, **read: Any) -> list[list[Condition]]:
    """Looks from a second before the window to a second after it."""
    return [[at(second, index, **read) for index in range(count)] for second in range(-1, 12)]


def run_of(*, sent: int = 4, succeeded: int = 4, mean: float | None = 25.0) -> Run:
    health = ClientHealth(
        cpu_share=0.1,
        loop_lag_ms_p99=None,
        loop_lag_ms_max=None,
        peak_rss_bytes=1,
        mean_in_flight=None,
    )
    return Run(
        launch_id="L",
        index=0,
        seed=0,
        started_at="",
        duration_s=10.0,
        valid=True,
        invalid_reasons=(),
        metrics={},
        sent=sent,
        succeeded=succeeded,
        failed={},
        input_tokens_mean=None,
        output_tokens_mean=mean,
        reasoning_tokens_mean=None,
        cached_tokens_total=None,
        token_source="usage",
        client=health,
    )


# --- devices ---------------------------------------------------------------------------------


def test_a_device_s_figures_are_those_of_the_window() -> None:
    looks = [
        [at(-1, power_w=10, clock_mhz=100, temperature_c=99, memory_used_bytes=9)],
        [at(0, power_w=100, clock_mhz=1000, temperature_c=50, memory_used_bytes=5)],
        [at(4, power_w=300, clock_mhz=1500, temperature_c=70, memory_used_bytes=7)],
        [at(10, power_w=200, clock_mhz=1400, temperature_c=60, memory_used_bytes=6)],
        [at(11, power_w=10, clock_mhz=100, temperature_c=99, memory_used_bytes=9)],
    ]
    (device,) = reduce_looks(cards(1), looks, WINDOW).devices
    assert (device.samples, device.uuid, device.index) == (3, "GPU-0", 0)
    assert (device.power_mean_w, device.power_max_w) == (200, 300)
    assert (device.clock_p50_mhz, device.temperature_max_c) == (1400, 70)
    assert device.memory_max_bytes == 7
    assert device.utilisation_mean is device.memory_clock_p50_mhz is None
    assert device.energy_missing.startswith("two samples are 6.0 s apart")


def test_reasons_to_be_slow_are_told_as_shares_and_the_power_cap_apart() -> None:
    capped = [at(second, power_capped=second < 5) for second in range(10)]
    hot = replace(capped[9], slowed=("hardware thermal slowdown",))
    (device,) = reduce_looks(cards(1), [[one] for one in [*capped[:9], hot]], WINDOW).devices
    assert device.power_capped_share == 0.5
    assert device.slowed == {"hardware thermal slowdown": pytest.approx(0.1)}


def test_energies_of_devices_add_up() -> None:
    seen = reduce_looks(cards(2), every_second(2, power_w=100), WINDOW)
    assert seen.energy_j == pytest.approx(2000)
    assert [device.energy_j for device in seen.devices] == [pytest.approx(1000)] * 2
    assert [device.energy_from for device in seen.devices] == ["power"] * 2
    assert seen.energy_missing == ""


def test_one_device_that_does_not_know_is_enough_to_know_nothing_and_is_named() -> None:
    looks = [[one[0], replace(one[1], power_w=None)] for one in every_second(2, power_w=100)]
    seen = reduce_looks(cards(2), looks, WINDOW)
    assert seen.energy_j is None
    assert seen.energy_missing == "NVIDIA L4 GPU-1: it tells neither its power nor its energy"
    assert seen.devices[0].energy_j == pytest.approx(1000)


def test_where_samples_cannot_do_the_reason_is_why() -> None:
    looks = [[at(second, power_w=100)] for second in (-1, 4, 9, 14)]
    seen = reduce_looks(cards(1), looks, WINDOW, missing="nvidia-smi is asked every 5 s")
    assert (seen.energy_j, seen.energy_missing) == (None, "nvidia-smi is asked every 5 s")
    half = reduce_looks(cards(1), every_second(untold="half a card"), WINDOW)
    assert (half.energy_missing, half.peak_memory_missing) == ("half a card", "half a card")
    known = reduce_looks(cards(1), every_second(power_w=1), WINDOW, missing="it is slow")
    assert known.energy_j == pytest.approx(10)
    assert known.energy_missing == ""


def test_peak_memory_is_of_one_moment_and_of_all_devices() -> None:
    def look(second: float, *used: int | None) -> list[Condition]:
        return [at(second, index, memory_used_bytes=each) for index, each in enumerate(used)]

    looks = [look(-1, 90, 90), look(1, 5, 1), look(2, 1, 4), look(3, None, 50), look(4, 70)]
    seen = reduce_looks(cards(2), looks, WINDOW)
    assert (seen.peak_memory_bytes, seen.peak_memory_of) == (6, "devices")
    silent = reduce_looks(cards(2), every_second(2), WINDOW)
    assert (silent.peak_memory_bytes, silent.peak_memory_of) == (None, None)


@given(seed=st.integers(0, 2**32), count=st.integers(1, 8))
def test_the_order_of_devices_changes_nothing(seed: int, count: int) -> None:
    rng = random.Random(seed)
    looks = [
        [
            replace(one, power_w=rng.uniform(50, 700), memory_used_bytes=rng.randrange(GIB))
            for one in look
        ]
        for look in every_second(count)
    ]
    here = cards(count)
    shuffled = replace(here, devices=tuple(rng.sample(here.devices, count)))
    mixed = [rng.sample(look, count) for look in looks]
    seen, other = reduce_looks(here, looks, WINDOW), reduce_looks(shuffled, mixed, WINDOW)
    assert seen.energy_j == other.energy_j
    assert seen.energy_j is not None
    assert seen.peak_memory_bytes == other.peak_memory_bytes
    assert {one.uuid: one for one in seen.devices} == {one.uuid: one for one in other.devices}


def test_devices_of_others_do_not_count() -> None:
    seen = reduce_looks(cards(1), every_second(3, power_w=100, memory_used_bytes=2), WINDOW)
    assert seen.energy_j == pytest.approx(1000)
    assert (seen.peak_memory_bytes, len(seen.devices)) == (2, 1)


# --- the window ------------------------------------------------------------------------------


def record(written_s: float, ended_s: float) -> RequestRecord:
    return RequestRecord(
        index=0,
        written_ns=round(written_s * SECOND),
        ended_ns=round(ended_s * SECOND),
        status=200,
        failure=None,
        finish_reason="stop",
        prompt_tokens=1,
        cached_tokens=None,
        output_tokens=1,
        reasoning_tokens=None,
        token_source="usage",
        chunks=NO_CHUNKS,
    )


def test_the_window_is_from_the_first_request_to_the_last_token() -> None:
    records = [record(3, 9), record(2, 5)]
    assert window_of(records, 6.5) == Window(start_ns=2 * SECOND, end_ns=round(8.5 * SECOND))
    assert window_of(records, 0.0) == Window(start_ns=2 * SECOND, end_ns=9 * SECOND)
    assert window_of([], 0.0) is None


def test_only_what_was_seen_in_the_window_is_within() -> None:
    looks = [[at(-0.1)], [at(0), at(-0.1, 1)], [at(10)], [at(10.1)], [Condition(uuid="GPU-0")]]
    assert within(looks, WINDOW) == [[at(0)], [at(10)]]


# --- series ----------------------------------------------------------------------------------


def test_a_series_has_its_neighbours_beyond_the_edges_and_no_more() -> None:
    looks = [[at(second, power_w=second + 5.04)] for second in range(-3, 14)]
    series = reduce_looks(cards(1), looks, WINDOW).devices[0].series
    assert series.at_s == tuple(range(-1, 12))
    assert series.power_w == pytest.approx([second + 5.0 for second in range(-1, 12)])
    assert series.clock_mhz is series.memory_used_bytes is series.power_capped is None
    assert series.slowed == (0.0,) * 13


def test_a_long_series_is_merged_and_no_longer_than_it_may_be() -> None:
    seen = [
        at(
            second,
            power_w=float(second),
            memory_used_bytes=second,
            temperature_c=float(second),
            slowed=("power brake",) if second % 2 else (),
        )
        for second in range(6)
    ]
    series = series_of(seen, WINDOW, most=2)
    assert series.at_s == (1.0, 4.0)
    assert series.power_w == (1.0, 4.0)
    assert series.memory_used_bytes == (2, 5)
    assert series.temperature_c == (2.0, 5.0)
    assert series.slowed == (0.33, 0.67)


@given(count=st.integers(0, 4000))
def test_no_series_is_longer_than_that(count: int) -> None:
    one = at(1, power_w=1.0)
    series = series_of([one] * count, WINDOW)
    assert len(series.at_s) <= MOST_ROWS
    assert len(series.at_s) >= min(count, MOST_ROWS / 2)
    assert series.power_w is None if not count else len(series.power_w or ()) == len(series.at_s)


# --- metrics ---------------------------------------------------------------------------------


def test_energy_metrics_are_over_the_tokens_of_successful_requests() -> None:
    # 3 of 4 requests gave 20 tokens each; what the fourth drew is in the 600 J
    found = telemetry_metrics(
        run_of(sent=4, succeeded=3, mean=20.0), Telemetry(energy_j=600.0, peak_memory_bytes=3 * GIB)
    )
    assert found["joules_per_output_token"] == MetricValue(value=10.0)
    assert found["tokens_per_joule"] == MetricValue(value=0.1)
    assert found["peak_memory"] == MetricValue(value=3.0)


def test_without_a_single_success_a_token_costs_without_end() -> None:
    failed = run_of(sent=4, succeeded=0, mean=None)
    found = telemetry_metrics(failed, Telemetry(energy_j=600.0))
    endless = MetricValue(value=None, unbounded=True, failed=4)
    assert found["joules_per_output_token"] == endless
    assert found["tokens_per_joule"] == MetricValue(value=0.0)


@pytest.mark.parametrize(
    ("telemetry", "why"),
    [
        (Telemetry(energy_missing="too short"), "too short"),
        (Telemetry(), "nobody here can ask its devices"),
        (None, "nobody here can ask its devices"),
    ],
)
def test_what_is_not_measured_says_why(telemetry: Telemetry | None, why: str) -> None:
    found = telemetry_metrics(run_of(), telemetry)
    for name in ("joules_per_output_token", "tokens_per_joule"):
        assert found[name].value is None
        assert found[name].missing.startswith(why)
    assert found["peak_memory"].missing.startswith("nobody here can ask its devices")


def test_tokens_that_nobody_counted_make_no_figure() -> None:
    found: dict[str, MetricValue] = telemetry_metrics(run_of(mean=None), Telemetry(energy_j=1.0))
    assert found["joules_per_output_token"].value is found["tokens_per_joule"].value is None


def test_a_look_may_hold_anything_in_any_order() -> None:
    looks: Sequence[Sequence[Condition]] = every_second(power_w=100)
    assert reduce_looks(cards(1), looks[::-1], WINDOW).energy_j == pytest.approx(1000)


def test_of_a_server_on_several_machines_only_a_part_is_seen() -> None:
    part = replace(cards(2), nodes=2)
    seen = reduce_looks(part, every_second(2, power_w=100, memory_used_bytes=1), WINDOW)
    told = "the server has devices on 2 machines, and only those here are seen"
    assert (seen.energy_j, seen.energy_missing) == (None, told)
    assert (seen.peak_memory_bytes, seen.peak_memory_of) == (None, None)
    assert [device.energy_j for device in seen.devices] == [pytest.approx(1000)] * 2
    assert telemetry_metrics(run_of(), seen)["peak_memory"].missing == told


@pytest.mark.parametrize(
    ("name", "text", "value", "shown"),
    [
        ("joules_per_output_token", "400 mJ/tok", 0.4, "0.4 J/tok"),
        ("tokens_per_joule", "2.5 tokens/J", 2.5, "2.5 tok/J"),
        ("cost_per_million_output_tokens", "0.20 USD", 0.2, "0.2 $"),
        ("peak_memory", "70 GiB", 70.0, "70 GiB"),
        ("peak_memory", "75161927680 B", 70.0, "70 GiB"),
        ("peak_memory", "107374.1824 MB", 100.0, "100 GiB"),
    ],
)
def test_limits_are_read_in_their_units(name: str, text: str, value: float, shown: str) -> None:
    statistic = resolve(name)
    assert parse_quantity(text, statistic) == pytest.approx(value)
    assert format_value(value, statistic.unit) == shown
    with pytest.raises(UsageMistake, match=r"for example|a unit is missing"):
        parse_quantity("7", statistic)
