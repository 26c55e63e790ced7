"""What a million output tokens cost, by the prices of a file."""

from __future__ import annotations

from datetime import date

from pytest_llmperf.accelerators.names import match_rank
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Accelerator, MetricValue, Price, Run

from .prices import STALE_DAYS, Priced, Prices

METRIC = "cost_per_million_output_tokens"
_NO_PRICES = (
    "no price is known: name a dated price file with --llmperf-prices FILE, or the ini value "
    "llmperf_prices"
)
_HOUR_S = 3600
_MILLION = 1e6


def price_of(
    accelerator: Accelerator, prices: Prices | None, today: date | None = None
) -> Price | None:
    """What the devices of ``accelerator`` cost; ``None`` without a file, or where it has no price
    for them. An alias counts before a regular expression. Raises
    :class:`~pytest_llmperf.errors.UsageMistake` where two prices fit equally well."""
    if prices is None or (found := _best(accelerator, prices)) is None:
        return None
    age = prices.age_days(today)
    old = f"prices of {prices.dated} are {age} days old" if age > STALE_DAYS else ""
    return Price(
        per_device_hour=found.per_hour,
        currency=prices.currency,
        usd=prices.usd,
        devices=accelerator.count,
        dated=prices.dated.isoformat(),
        source=prices.source,
        matched=found.accelerator,
        note=old,
    )


def cost_metric(
    run: Run, price: Price | None, accelerator: Accelerator, prices: Prices | None
) -> MetricValue:
    """Dollars an hour for all devices / output tokens an hour, times a million."""
    if price is None:
        return MetricValue(value=None, missing=_missing(accelerator, prices))
    rate = run.metrics["output_throughput"].value
    if rate is None:
        return MetricValue(value=None)
    if not rate:
        return MetricValue(value=None, unbounded=True, failed=run.sent - run.succeeded)
    return MetricValue(value=price.usd_per_hour / (rate * _HOUR_S) * _MILLION)


def _missing(accelerator: Accelerator, prices: Prices | None) -> str:
    if accelerator.vendor == "remote":
        return "what an endpoint that runs elsewhere runs on, and on how many, is not known"
    if prices is None:
        return _NO_PRICES
    return f"{prices.where} has no price for {accelerator.product!r}; add one"


def _best(accelerator: Accelerator, prices: Prices) -> Priced | None:
    if accelerator.vendor == "remote":
        return None
    ranked = [(match_rank(each.accelerator, accelerator), each) for each in prices.prices]
    fitting = [(rank, each) for rank, each in ranked if rank is not None]
    best = max((rank for rank, _ in fitting), default=None)
    found = [each for rank, each in fitting if rank == best]
    if len(found) > 1:
        names = " and ".join(repr(each.accelerator) for each in found)
        raise UsageMistake(
            f"{prices.where}: {names} fit {accelerator.product!r} equally well; make one of them "
            "more exact."
        )
    return found[0] if found else None
