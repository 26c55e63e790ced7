"""Names and values of metrics as people write and read them."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.units import (
    METRICS,
    confidence_text,
    format_number,
    format_value,
    parse_loss,
    parse_quantity,
    resolve,
)


def refused(name: str) -> str:
    with pytest.raises(UsageMistake) as raised:
        resolve(name)
    return str(raised.value)


# --- names -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "base", "quantile"),
    [
        ("output_throughput", "output_throughput", None),
        ("ttft_mean", "ttft", None),
        ("ttft_p1", "ttft", 0.01),
        ("ttft_p50", "ttft", 0.5),
        ("tpot_p95", "tpot", 0.95),
        ("e2e_p99", "e2e", 0.99),
        ("itl_p999", "itl", 0.999),
        ("ttft_from_schedule_p90", "ttft_from_schedule", 0.9),
    ],
)
def test_a_name_stands_for_a_row_and_how_it_is_reduced(
    name: str, base: str, quantile: float | None
) -> None:
    found = resolve(name)
    assert (found.name, found.metric, found.quantile) == (name, METRICS[base], quantile)
    assert (found.unit, found.direction) == (METRICS[base].unit, METRICS[base].direction)


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("ttft_mean", 1),
        ("ttft_p50", 20),
        ("ttft_p90", 100),
        ("ttft_p95", 200),
        ("itl_p999", 10_000),
    ],
)
def test_ten_requests_lie_beyond_a_percentile(name: str, needed: int) -> None:
    assert resolve(name).requests_needed == needed


def test_a_metric_of_requests_needs_a_statistic() -> None:
    assert refused("ttft") == (
        "'ttft' is measured once per request; say which statistic: "
        "ttft_mean, ttft_p50, ttft_p95, ttft_p99."
    )


def test_a_metric_of_runs_has_no_statistic() -> None:
    assert refused("output_throughput_p95") == (
        "'output_throughput' is one number per run and has no 'p95'; write 'output_throughput'."
    )


def test_a_maximum_is_not_gated() -> None:
    assert refused("ttft_max") == (
        "'ttft_max': a maximum is one request's luck and cannot be gated; use a percentile."
    )


@pytest.mark.parametrize("name", ["ttft_p0", "ttft_p00", "ttft_p000"])
def test_a_percentile_is_within(name: str) -> None:
    assert refused(name) == f"'{name}': percentiles run from p1 to p99, and p999 for 99.9."


@pytest.mark.parametrize(
    ("name", "near"),
    [("tpott_p95", "tpot_p95"), ("output_thruput", "output_throughput"), ("ttft_p1234", "ttft_p")],
)
def test_an_unknown_name_is_told_the_nearest(name: str, near: str) -> None:
    said = refused(name)
    assert said.startswith(f"unknown metric '{name}'.")
    assert near in said


# --- values with units -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("output_throughput", "1800 tok/s", 1800.0),
        ("output_throughput", "1.8 ktok/s", 1800.0),
        ("output_throughput", "1,800 tokens/s", 1800.0),
        ("output_throughput", "1_800tok/s", 1800.0),
        ("request_throughput", "12 rps", 12.0),
        ("request_throughput", "12 requests/s", 12.0),
        ("ttft_p95", "400 ms", 400.0),
        ("ttft_p95", "0.4 s", 400.0),
        ("ttft_p95", "400000 us", 400.0),
        ("ttft_p95", "400000 µs", 400.0),
        ("ttft_p95", "0.5 min", 30_000.0),
        ("ttft_p95", "4e2 ms", 400.0),
        ("ttft_p95", "4e+2 ms", 400.0),
        ("ttft_p95", ".5 ms", 0.5),
        ("ttft_p95", "+5 ms", 5.0),
        ("startup_time", "2 min", 120.0),
        ("startup_time", "40 s", 40.0),
        ("success_rate", "99%", 0.99),
        ("success_rate", "99 %", 0.99),
        ("success_rate", "1", 1.0),
        ("success_rate", 1, 1.0),
        ("success_rate", 0.5, 0.5),
        ("success_rate", " 0.5 ", 0.5),
    ],
)
def test_values_are_read_in_the_unit_of_their_metric(
    name: str, text: str | float, value: float
) -> None:
    assert parse_quantity(text, resolve(name)) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "ttft_p95",
            "fast",
            "ttft_p95='fast': expected a number and a unit, for example \"400 ms\".",
        ),
        (
            "startup_time",
            "",
            "startup_time='': expected a number and a unit, for example \"40 s\".",
        ),
        (
            "ttft_p95",
            "400",
            "ttft_p95='400': a unit is missing; write \"400 ms\" "
            "(valid: 's', 'ms', 'us', 'µs', 'min').",
        ),
        (
            "ttft_p95",
            400,
            'ttft_p95=400: a unit is missing; write "400 ms" '
            "(valid: 's', 'ms', 'us', 'µs', 'min').",
        ),
        (
            "ttft_p95",
            "400 tok/s",
            "ttft_p95='400 tok/s': 'tok/s' measures something else; ttft_p95 is in ms "
            "(valid: 's', 'ms', 'us', 'µs', 'min').",
        ),
        (
            "success_rate",
            "9 parsecs",
            "success_rate='9 parsecs': unknown unit 'parsecs'; success_rate is in 1 "
            "(valid: '1', '%').",
        ),
        ("ttft_p95", "-1 ms", "ttft_p95='-1 ms': a limit must be finite and not negative."),
        ("ttft_p95", "1e999 ms", "ttft_p95='1e999 ms': a limit must be finite and not negative."),
    ],
)
def test_a_value_that_cannot_be_meant_is_told(name: str, text: str | float, said: str) -> None:
    with pytest.raises(UsageMistake) as raised:
        parse_quantity(text, resolve(name))
    assert str(raised.value) == said


def test_nothing_is_below_zero_and_zero_is_a_limit() -> None:
    assert parse_quantity("0 ms", resolve("ttft_p95")) == 0.0


def test_a_text_of_any_length_is_read_or_refused_at_once() -> None:
    ttft = resolve("ttft_p95")
    assert parse_quantity("1".rjust(77, "0") + " ms", ttft) == 1.0
    with pytest.raises(UsageMistake, match="expected a number and a unit"):
        parse_quantity("1".rjust(78, "0") + " ms", ttft)


def test_every_unit_has_an_example_that_is_read() -> None:
    """The one that is told to whoever writes something else."""
    for base, metric in METRICS.items():
        statistic = resolve(f"{base}_mean" if metric.per_request else base)
        with pytest.raises(UsageMistake) as raised:
            parse_quantity("?", statistic)
        example = str(raised.value).partition('for example "')[2].rstrip('".')
        assert parse_quantity(example, statistic) > 0


@given(st.floats(1e-6, 1e9), st.sampled_from(["ms", "s", "us", "µs", "min"]))
def test_units_of_one_dimension_agree(number: float, unit: str) -> None:
    seconds = {"ms": 1e-3, "s": 1.0, "us": 1e-6, "µs": 1e-6, "min": 60.0}[unit]
    late = parse_quantity(f"{number!r} {unit}", resolve("ttft_p95"))
    assert late == pytest.approx(number * seconds * 1e3)
    assert parse_quantity(f"{number!r}{unit}", resolve("startup_time")) == pytest.approx(late / 1e3)


def test_memory_has_powers_of_two_and_of_ten() -> None:
    memory = next(name for name, metric in METRICS.items() if metric.unit == "GiB")
    read = [parse_quantity(text, resolve(memory)) for text in ("1 GiB", "1024 MiB", "1 TiB")]
    assert read == [1.0, 1.0, 1024.0]
    assert parse_quantity("1 GB", resolve(memory)) == pytest.approx(1e9 / 2**30)
    assert parse_quantity("1 kB", resolve(memory)) == pytest.approx(1e3 / 2**30)
    assert parse_quantity("1073741824 B", resolve(memory)) == 1.0


# --- losses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "loss"), [("3%", 0.03), (" 2.5 % ", 0.025), ("99.9%", 0.999), (".5%", 0.005)]
)
def test_a_loss_is_a_share(text: str, loss: float) -> None:
    assert parse_loss(text, "x") == pytest.approx(loss)


@pytest.mark.parametrize("text", ["3", 3, "0%", "100%", "101%", "-3%", "3 % of it", "1.2.3%", "%"])
def test_what_is_no_share_is_refused(text: str | float) -> None:
    with pytest.raises(UsageMistake) as raised:
        parse_loss(text, "allow")
    assert str(raised.value) == (
        f'allow={text!r}: expected a loss between 0 and 100, such as "3%".'
    )


# --- printing --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "digits", "said"),
    [
        (0.0, 4, "0"),
        (math.inf, 4, "inf"),
        (-math.inf, 4, "-inf"),
        (1.0, 4, "1"),
        (1234.5678, 4, "1,235"),
        (1234567.0, 4, "1,234,567"),
        (12.3456, 4, "12.35"),
        (12.3456, 2, "12"),
        (0.00123456, 4, "0.001235"),
        (-0.5, 4, "-0.5"),
        (100.0, 4, "100"),
        (1000.0, 1, "1,000"),
        (9.9996, 4, "10"),
        (0.1, 1, "0.1"),
    ],
)
def test_numbers_have_few_digits_and_keep_their_thousands(
    value: float, digits: int, said: str
) -> None:
    assert format_number(value, digits=digits) == said


def test_four_digits_are_usual() -> None:
    assert format_number(1.23456) == "1.235"
    assert format_value(1.23456, "ms") == "1.235 ms"


@given(st.floats(1e-9, 1e9) | st.floats(-1e9, -1e-9), st.integers(1, 8))
def test_a_printed_number_is_near_the_number(value: float, digits: int) -> None:
    read = float(format_number(value, digits=digits).replace(",", ""))
    assert read == pytest.approx(value, rel=0.5 * 10.0 ** (1 - digits) + 1e-12)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (None, "ms", "not measured"),
        (None, "1", "not measured"),
        (0.98765, "1", "98.77 %"),
        (1800.0, "tok/s", "1,800 tok/s"),
        (0.0, "1", "0 %"),
    ],
)
def test_values_are_told_with_their_unit(value: float | None, unit: str, said: str) -> None:
    assert format_value(value, unit) == said
    assert units.format_value(value, unit, digits=4) == said


def test_values_are_told_as_exactly_as_asked() -> None:
    assert format_value(0.98765, "1", digits=2) == "99 %"
    assert format_value(12.3456, "ms", digits=3) == "12.3 ms"


# --- how sure --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gates", "said"),
    [
        (1, "99 %"),
        (2, "99.5 %"),
        (3, "99.66 %"),
        (7, "99.85 %"),
        (20, "99.95 %"),
        (200, "99.995 %"),
        (2500, "99.9996 %"),
    ],
)
def test_a_confidence_as_people_know_it(gates: int, said: str) -> None:
    assert confidence_text(0.01 / gates) == said
    assert confidence_text(1 - (1 - 0.01 / gates)) == said


@given(st.floats(1e-12, 0.999))
def test_a_confidence_is_never_rounded_up(error: float) -> None:
    said = Decimal(confidence_text(error).removesuffix(" %"))
    assert said <= 100 * (1 - Decimal(error)) + Decimal("1e-9")
    assert said < 100
