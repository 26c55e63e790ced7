"""Cost by a price file of the user's own."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.cost import cost_metric, price_of
from pytest_llmperf.metrics.prices import Priced, Prices, read_prices
from pytest_llmperf.records import Accelerator, ClientHealth, Device, MetricValue, Run, Vendor
from pytest_llmperf.schema import load_schema

SAID = "--llmperf-prices=prices.json"
GOOD: dict[str, Any] = {
    "currency": "USD",
    "dated": "2026-02-03",
    "source": "our contract",
    "prices": [{"accelerator": "H200", "per_hour": 3.6}, {"accelerator": "cpu", "per_hour": 0.09}],
}


def devices(product: str, count: int = 1, vendor: Vendor = "nvidia") -> Accelerator:
    found = (
        Device(vendor=vendor, product=product, index=index, uuid=str(index))
        for index in range(count)
    )
    return Accelerator(devices=tuple(found), source="test")


H200 = devices("NVIDIA H200", 8)
PRICES = Prices(
    currency="USD",
    usd=1.0,
    dated=date(2026, 2, 3),
    source="our contract",
    prices=(Priced(accelerator="H200", per_hour=3.6),),
    where="prices.json",
)


def run_at(rate: float | None, *, succeeded: int = 4) -> Run:
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
        metrics={"output_throughput": MetricValue(value=rate)},
        sent=4,
        succeeded=succeeded,
        failed={},
        input_tokens_mean=None,
        output_tokens_mean=None,
        reasoning_tokens_mean=None,
        cached_tokens_total=None,
        token_source="usage",
        client=health,
    )


def cost(rate: float | None, prices: Prices | None, on: Accelerator = H200, **more: Any) -> Any:
    return cost_metric(run_at(rate, **more), price_of(on, prices), on, prices)


# --- cost ------------------------------------------------------------------------------------


def test_cost_by_hand() -> None:
    # 8 x 3.60 $/h = 28.80 $/h; 2,000 tok/s = 7.2 M tok/h: 4 $ a million
    assert cost(2000.0, PRICES).value == pytest.approx(4.0)


def test_cost_in_another_currency_is_told_in_dollars() -> None:
    euros = replace(PRICES, currency="EUR", usd=1.25)
    assert cost(2000.0, euros).value == pytest.approx(5.0)


@given(rate=st.floats(0.1, 1e6), per_hour=st.floats(0.01, 100), count=st.integers(1, 64))
def test_cost_grows_with_devices_and_falls_with_speed(
    rate: float, per_hour: float, count: int
) -> None:
    prices = replace(PRICES, prices=(Priced(accelerator="H200", per_hour=per_hour),))
    one = cost(rate, prices, devices("NVIDIA H200"))
    assert cost(rate, prices, devices("NVIDIA H200", count)).value == pytest.approx(
        one.value * count
    )
    assert cost(2 * rate, prices, devices("NVIDIA H200")).value == pytest.approx(one.value / 2)


def test_a_standstill_costs_without_end() -> None:
    assert cost(0.0, PRICES, succeeded=0) == MetricValue(value=None, unbounded=True, failed=4)
    assert cost(None, PRICES) == MetricValue(value=None)


def test_what_is_missing_is_said_with_what_to_do() -> None:
    assert "--llmperf-prices FILE" in cost(2000.0, None).missing
    unknown = cost(2000.0, PRICES, devices("AMD Instinct MI300X", vendor="amd"))
    assert unknown.missing == "prices.json has no price for 'AMD Instinct MI300X'; add one"
    remote = devices("endpoint", vendor="remote")
    anything = replace(PRICES, prices=(Priced(accelerator=".", per_hour=1.0),))
    assert cost(2000.0, anything, remote).missing.startswith("what an endpoint")


# --- which price -----------------------------------------------------------------------------


def prices_for(*names: str) -> Prices:
    lines = (Priced(accelerator=name, per_hour=n + 1.0) for n, name in enumerate(names))
    return replace(PRICES, prices=tuple(lines))


@pytest.mark.parametrize(
    ("names", "product", "per_hour"),
    [
        (("H100", "H200"), "NVIDIA H200", 2.0),
        (("NVIDIA.*", "H200"), "NVIDIA H200", 2.0),  # an alias before an expression
        (("H100 PCIe", "H100 SXM"), "NVIDIA H100 80GB HBM3", 2.0),
        (("nvidia",), "NVIDIA H200", 1.0),
        (("H100",), "NVIDIA H200", None),
        (("RTX 4090",), "NVIDIA GeForce RTX 4090 D", None),
    ],
)
def test_the_price_that_fits_best_counts(
    names: tuple[str, ...], product: str, per_hour: float | None
) -> None:
    found = price_of(devices(product), prices_for(*names))
    assert (found and found.per_device_hour) == per_hour


def test_two_that_fit_equally_well_are_a_mistake() -> None:
    with pytest.raises(UsageMistake, match=r"'H.00' and '200' fit 'NVIDIA H200' equally well"):
        price_of(devices("NVIDIA H200"), prices_for("H.00", "200"))


def test_an_old_price_says_so() -> None:
    dated = PRICES.dated
    fresh = price_of(H200, PRICES, dated + timedelta(days=180))
    stale = price_of(H200, PRICES, dated + timedelta(days=181))
    assert fresh is not None
    assert stale is not None
    assert (fresh.note, stale.note) == ("", "prices of 2026-02-03 are 181 days old")
    assert (stale.devices, stale.matched) == (8, "H200")
    assert stale.usd_per_hour == pytest.approx(28.8)


# --- the file --------------------------------------------------------------------------------


def written(tmp_path: Path, document: object) -> Path:
    path = tmp_path / "prices.json"
    text = document if isinstance(document, str) else json.dumps(document)
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_read(tmp_path: Path) -> None:
    path = written(tmp_path, {"$schema": "x", **GOOD})
    found = read_prices(path, SAID)
    assert (found.currency, found.usd, found.dated) == ("USD", 1.0, date(2026, 2, 3))
    assert found.prices == (
        Priced(accelerator="H200", per_hour=3.6),
        Priced(accelerator="cpu", per_hour=0.09),
    )
    assert (found.source, found.where) == ("our contract", str(path))
    assert found.age_days(date(2026, 2, 13)) == 10


TO_COME = (datetime.now(UTC).date() + timedelta(days=9)).isoformat()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"currency": None}, "'currency' is missing"),
        ({"currency": "dollars"}, "'currency' is 'dollars'"),
        ({"currency": "CNY"}, "these prices are in CNY; say what one CNY was worth"),
        ({"currency": "CNY", "usd": 0}, "'usd' is 0; expected a number above zero"),
        ({"usd": 2}, "'usd' must be 1"),
        ({"dated": "yesterday"}, "'dated' is 'yesterday'; expected a day such as"),
        ({"dated": TO_COME}, "a day to come"),
        ({"source": " "}, "'source' is missing"),
        ({"prices": []}, "'prices' must be a list with at least one price"),
        ({"prices": [1]}, "prices[0] must be an object"),
        ({"prices": [{"accelerator": "H200"}]}, "prices[0]: 'per_hour' is None"),
        ({"prices": [{"accelerator": "H200", "per_hour": True}]}, "'per_hour' is True"),
        ({"prices": [{"accelerator": "H200", "per_hour": -1}]}, "'per_hour' is -1"),
        ({"prices": [{"per_hour": 1}]}, "prices[0]: 'accelerator' is missing"),
        ({"prices": [{"accelerator": "H(", "per_hour": 1}]}, "nor a valid regular expression"),
        ({"prices": [*GOOD["prices"], {"accelerator": "h200", "per_hour": 1}]}, "has two prices"),
        ({"price": 1}, "the file has 'price', which means nothing here"),
    ],
)
def test_a_wrong_file_is_told_with_its_remedy(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    path = written(tmp_path, {**GOOD, **change})
    with pytest.raises(UsageMistake) as mistake:
        read_prices(path, SAID)
    assert str(mistake.value).startswith(f"{SAID}: ")
    assert told in str(mistake.value)


@pytest.mark.parametrize(
    ("text", "told"), [("{", "it is not JSON"), ("[]", "the file must be an object")]
)
def test_what_is_no_price_file_is_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UsageMistake, match=told):
        read_prices(written(tmp_path, text), SAID)
    with pytest.raises(UsageMistake, match="cannot be read"):
        read_prices(tmp_path / "absent.json", SAID)


# --- its schema ------------------------------------------------------------------------------


def test_the_schema_is_one_and_takes_what_is_read() -> None:
    schema = load_schema("prices-v1")
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    noted = [{"accelerator": "H200", "per_hour": 3.6, "note": "on demand"}]
    for good in (GOOD, {**GOOD, "currency": "CNY", "usd": 0.14}, {**GOOD, "prices": noted}):
        assert list(validator.iter_errors(good)) == []
    wrong: list[dict[str, Any]] = [{"currency": "dollars"}, {"currency": "CNY"}, {"prices": []}]
    for change in [*wrong, {"price": 1}, {"prices": [{"accelerator": "H200", "per_hour": 0}]}]:
        assert list(validator.iter_errors({**GOOD, **change}))
