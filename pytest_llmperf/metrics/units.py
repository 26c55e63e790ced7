"""Names of metrics, and the reading and printing of their values; the table is :mod:`.table`.

A metric measured once per run is named by its base (``output_throughput``). One measured once per
request is named with a statistic: ``ttft_mean``, ``ttft_p95``; ``p999`` is the 99.9th percentile.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Decimal

from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.records import Direction

from .table import METRICS as METRICS
from .table import Metric as Metric


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistic:
    """A metric as it is gated: the table's row, and for per-request metrics how it is reduced.

    ``quantile`` is in (0, 1), ``None`` for a mean or a metric of the whole run.
    """

    name: str
    metric: Metric
    quantile: float | None = None

    @property
    def unit(self) -> str:
        return self.metric.unit

    @property
    def direction(self) -> Direction:
        return self.metric.direction

    @property
    def requests_needed(self) -> int:
        """Requests per run for ten of them to lie beyond the percentile; 1 for anything else."""
        if self.quantile is None:
            return 1
        return math.ceil(round(10 / (1 - self.quantile), 6))


#: Statistics computed for every per-request metric of every run, gated or not.
STANDARD_STATISTICS = ("mean", "p50", "p90", "p95", "p99", "max")

_SUFFIX = re.compile(r"^(?P<base>.+)_(?P<stat>mean|max|p[0-9]{1,3})$")

_FROM_SCHEDULE = ("ttft", "ttfat", "e2e")
_SPOKEN = {
    **{name: name.upper() for name in ("ttft", "ttfat", "tpot", "itl", "icl", "e2e")},
    **{f"{name}_from_schedule": f"{name.upper()} from schedule" for name in _FROM_SCHEDULE},
    "startup_time": "start-up time",
    "cold_ttft": "cold TTFT",
}

# Dimension -> spelled unit -> how many of the dimension's own unit one of it is.
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0}
_BYTES = {
    "B": 1.0,
    **{f"{prefix}iB": 1024.0**n for n, prefix in enumerate("KMGT", 1)},
    **{f"{prefix}B": 1000.0**n for n, prefix in enumerate("kMGT", 1)},
}
_UNITS: dict[str, dict[str, float]] = {
    "ms": {unit: seconds * 1e3 for unit, seconds in _SECONDS.items()},
    "s": _SECONDS,
    "tok/s": {"tok/s": 1.0, "tokens/s": 1.0, "ktok/s": 1e3},
    "req/s": {"req/s": 1.0, "requests/s": 1.0, "rps": 1.0},
    "tok": {"tok": 1.0, "tokens": 1.0},
    "J/tok": {"J/tok": 1.0, "J/token": 1.0, "mJ/tok": 1e-3, "mJ/token": 1e-3},
    "tok/J": {"tok/J": 1.0, "tokens/J": 1.0},
    "$": {"$": 1.0, "USD": 1.0},
    "GiB": {unit: amount / 2**30 for unit, amount in _BYTES.items()},
    "1": {"": 1.0, "1": 1.0, "%": 1e-2},
}
_QUANTITY = re.compile(r"^\s*(?P<number>[+-]?[\d,_]*\.?\d+(?:[eE][+-]?\d+)?)\s*(?P<unit>\S*)\s*$")


#: The longest text that may be a quantity; of a longer one the pattern would try every part.
_LONGEST = 80


def resolve(name: str) -> Statistic:
    """The statistic a name stands for.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` naming the nearest valid spelling.
    """
    if metric := METRICS.get(name):
        if metric.per_request:
            raise UsageMistake(
                f"{name!r} is measured once per request; say which statistic: "
                f"{name}_mean, {name}_p50, {name}_p95, {name}_p99."
            )
        return Statistic(name=name, metric=metric)
    match = _SUFFIX.match(name)
    base = METRICS.get(match["base"]) if match else None
    if match is None or base is None:
        raise UsageMistake(f"unknown metric {name!r}.{nearest(name, _spellings())}")
    if not base.per_request:
        raise UsageMistake(
            f"{base.name!r} is one number per run and has no {match['stat']!r}; "
            f"write {base.name!r}."
        )
    return Statistic(name=name, metric=base, quantile=_quantile(name, match["stat"]))


def row_of(name: str) -> Metric:
    """The table's row behind any name that a run reports, maxima included.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` for a name that is not in the table.
    """
    match = _SUFFIX.match(name)
    if row := METRICS.get(match["base"] if match else name):
        return row
    return resolve(name).metric


def spoken(name: str) -> str:
    """A metric's name in a sentence: "output throughput", "p95 TTFT"."""
    base, stat = row_of(name).name, ""
    if name != base:
        stat = name.removeprefix(f"{base}_")
    if stat.startswith("p") and len(stat) > 3:
        stat = f"{stat[:3]}.{stat[3:]}"
    word = _SPOKEN.get(base, base.replace("_", " "))
    return f"{stat} {word}".strip()


def _spellings() -> list[str]:
    names = [name for name, metric in METRICS.items() if not metric.per_request]
    for name, metric in METRICS.items():
        if metric.per_request:
            names += [f"{name}_{stat}" for stat in STANDARD_STATISTICS]
    return names


def _quantile(name: str, stat: str) -> float | None:
    if stat == "mean":
        return None
    if stat == "max":
        raise UsageMistake(
            f"{name!r}: a maximum is one request's luck and cannot be gated; use a percentile."
        )
    digits = stat[1:]
    quantile = int(digits) / float(10 ** max(2, len(digits)))
    if not 0 < quantile < 1:
        raise UsageMistake(f"{name!r}: percentiles run from p1 to p99, and p999 for 99.9.")
    return quantile


def parse_quantity(text: str | float, statistic: Statistic) -> float:
    """``text`` ("1800 tok/s", "0.4 s", "99%") in the statistic's own unit.

    A bare number is accepted only for a metric without a unit. Raises
    :class:`~pytest_llmperf.errors.UsageMistake` for an unknown unit or one of another dimension.
    """
    units = _UNITS[statistic.unit]
    match = _QUANTITY.match(said) if len(said := str(text)) <= _LONGEST else None
    if match is None:
        raise UsageMistake(
            f"{statistic.name}={text!r}: expected a number and a unit, "
            f'for example "{_example(statistic)}".'
        )
    unit = match["unit"]
    if unit not in units:
        raise UsageMistake(_wrong_unit(statistic, text, unit))
    value = float(match["number"].replace(",", "").replace("_", "")) * units[unit]
    if not math.isfinite(value) or value < 0:
        raise UsageMistake(f"{statistic.name}={text!r}: a limit must be finite and not negative.")
    return value


def _wrong_unit(statistic: Statistic, text: str | float, unit: str) -> str:
    valid = ", ".join(repr(name) for name in _UNITS[statistic.unit] if name)
    said = f"{statistic.name}={text!r}"
    if not unit:
        return f'{said}: a unit is missing; write "{text} {statistic.unit}" (valid: {valid}).'
    known = any(unit in units for units in _UNITS.values())
    what = f"{unit!r} measures something else" if known else f"unknown unit {unit!r}"
    return f"{said}: {what}; {statistic.name} is in {statistic.unit} (valid: {valid})."


def _example(statistic: Statistic) -> str:
    return {
        "ms": "400 ms",
        "s": "40 s",
        "tok/s": "1800 tok/s",
        "req/s": "12 req/s",
        "tok": "2.5 tok",
        "J/tok": "0.4 J/tok",
        "tok/J": "2.5 tok/J",
        "$": "0.2 $",
        "GiB": "70 GiB",
        "1": "99%",
    }[statistic.unit]


def parse_loss(text: str | float, where: str) -> float:
    """A loss such as ``"3%"`` as a fraction in (0, 1)."""
    match = re.fullmatch(r"\s*([\d.]+)\s*%\s*", str(text))
    try:
        loss = float(match[1]) / 100 if match else math.nan
    except ValueError:
        loss = math.nan
    if not 0 < loss < 1:
        raise UsageMistake(f'{where}={text!r}: expected a loss between 0 and 100, such as "3%".')
    return loss


def format_value(value: float | None, unit: str, *, digits: int = 4) -> str:
    """``value`` for people: four significant digits, thousands separated, with its unit."""
    if value is None:
        return "not measured"
    number = format_number(value * 100 if unit == "1" else value, digits=digits)
    if unit == "1":
        return f"{number} %"
    return f"{number} {unit}"


def confidence_text(error: float) -> str:
    """The confidence of what is wrong with probability ``error``, in (0, 1), never rounded up to
    what it is not: "99 %", "99.66 %", "99.9996 %"."""
    # Ten digits of it mean something: it may be 1 less something just below 1.
    confidence = 100 * (1 - Decimal(f"{error:.9e}"))
    decimals = max(0, math.ceil(-math.log10(error) - 1e-9) - 1)
    shown = confidence.quantize(Decimal(1).scaleb(-decimals), rounding=ROUND_FLOOR)
    return f"{shown:f}".rstrip("0").rstrip(".") + " %" if decimals else f"{shown:f} %"


def format_number(value: float, *, digits: int = 4) -> str:
    """A number with ``digits`` significant digits, and commas between thousands."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
