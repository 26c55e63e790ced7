"""What an accelerator costs an hour: a dated file of the user's own, never a figure of ours.

::

    {
      "currency": "USD",
      "dated": "2026-11-01",
      "source": "our contract, or the address of a price list",
      "prices": [{"accelerator": "H200", "per_hour": 3.5}]
    }

``accelerator`` is an alias or a regular expression as in ``on=`` of a limit; ``per_hour`` is for
one device. In a ``currency`` other than USD the file says what one of it was worth on its date:
``"usd": 0.14``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.reading import MIB, Unreadable, read_json

#: After so long a price is likely to have changed.
STALE_DAYS = 180
_DOLLAR = "USD"
_LARGEST = MIB
_FIELDS = {"$schema", "currency", "usd", "dated", "source", "prices"}
_OF_PRICE = {"accelerator", "per_hour", "note"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """One line of a price file: what a device of this kind costs an hour, in the currency."""

    accelerator: str
    per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """A price file. ``usd`` is what one unit of ``currency`` was worth on the day ``dated``;
    ``where`` is how the file was named, for people."""

    currency: str
    usd: float
    dated: date
    source: str
    prices: tuple[Priced, ...]
    where: str

    def age_days(self, today: date | None = None) -> int:
        """Days since its date."""
        return ((today or datetime.now(UTC).date()) - self.dated).days


def read_prices(path: Path, said: str) -> Prices:
    """The price file at ``path``; ``said`` is the option or ini value that names it. Raises
    :class:`~pytest_llmperf.errors.UsageMistake` naming it and what to mend."""
    try:
        document = read_json(path, most=_LARGEST)
    except Unreadable as why:
        raise UsageMistake(f"{said}: it {why}; see docs/telemetry.md.") from None
    try:
        return _prices(document, str(path))
    except _Wrong as why:
        raise UsageMistake(f"{said}: {why}; see docs/telemetry.md.") from None


class _Wrong(ValueError):
    """What is wrong with a price file, in words."""


def _prices(document: object, where: str) -> Prices:
    fields = _object(document, "the file", _FIELDS)
    currency = _text(fields, "currency", "three letters such as USD")
    if not re.fullmatch(r"[A-Z]{3}", currency):
        raise _Wrong(f"'currency' is {currency!r}; expected three letters such as USD")
    entries = fields.get("prices")
    if not isinstance(entries, list) or not entries:
        raise _Wrong("'prices' must be a list with at least one price")
    return Prices(
        currency=currency,
        usd=_dollars(fields, currency),
        dated=_date(fields),
        source=_text(fields, "source", "where the prices are from"),
        prices=_once([_priced(entry, n) for n, entry in enumerate(entries)]),
        where=where,
    )


def _priced(entry: object, number: int) -> Priced:
    place = f"prices[{number}]"
    fields = _object(entry, place, _OF_PRICE)
    name = _text(fields, "accelerator", "a name such as H200", place)
    try:
        re.compile(name)
    except (re.error, OverflowError, RecursionError) as error:
        raise _Wrong(
            f"{place}: {name!r} is neither the name of an accelerator nor a valid regular "
            f"expression: {error}"
        ) from None
    return Priced(accelerator=name, per_hour=_positive(fields, "per_hour", place))


def _once(prices: Sequence[Priced]) -> tuple[Priced, ...]:
    names = [price.accelerator.strip().lower() for price in prices]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise _Wrong(f"{twice!r} has two prices; leave one")
    return tuple(prices)


def _dollars(fields: Mapping[str, Any], currency: str) -> float:
    if currency == _DOLLAR and "usd" not in fields:
        return 1.0
    if currency != _DOLLAR and "usd" not in fields:
        raise _Wrong(
            f"cost is told in dollars and these prices are in {currency}; say what one {currency} "
            "was worth on that day with 'usd'"
        )
    worth = _positive(fields, "usd")
    if currency == _DOLLAR and worth != 1:
        raise _Wrong("'usd' must be 1 where the currency is USD; leave it out")
    return worth


def _date(fields: Mapping[str, Any]) -> date:
    text = _text(fields, "dated", "a day such as 2026-11-01")
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise _Wrong(f"'dated' is {text!r}; expected a day such as 2026-11-01") from None
    if day > datetime.now(UTC).date():
        raise _Wrong(f"'dated' is {text}, a day to come; write when these prices were looked up")
    return day


def _object(value: object, place: str, known: set[str]) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise _Wrong(f"{place} must be an object, with {', '.join(sorted(known - {'$schema'}))}")
    if strange := sorted(set(value) - known):
        raise _Wrong(f"{place} has {strange[0]!r}, which means nothing here")
    return value


def _text(fields: Mapping[str, Any], name: str, example: str, place: str = "") -> str:
    value = fields.get(name)
    if not isinstance(value, str) or not value.strip():
        raise _Wrong(f"{place and place + ': '}{name!r} is missing; expected {example}")
    return value.strip()


def _positive(fields: Mapping[str, Any], name: str, place: str = "") -> float:
    value = fields.get(name)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or value <= 0
    ):
        raise _Wrong(f"{place and place + ': '}{name!r} is {value!r}; expected a number above zero")
    return float(value)
