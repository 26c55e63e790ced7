"""Numbers and names as people read them in a report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from pytest_llmperf.metrics.units import format_number, format_value

#: Digits of a value and its limit that fewer would show in a wrong order.
_MORE_DIGITS = (8, 15, 17)
#: Decimals of a fraction behind which there is nothing but what floating point leaves.
_DUST = 12
#: Percent of which two decimals would not leave two digits.
_SMALL = 0.1


def anchor(id_: str) -> str:
    """An id that may stand in an address."""
    return "m-" + "".join(letter if letter.isalnum() else "-" for letter in id_)


def short(test: str) -> str:
    """A test's name without its file and class, on one line; parameters may hold "::"."""
    head, bracket, parameters = test.partition("[")
    return " ".join((head.rsplit("::", 1)[-1] + bracket + parameters).splitlines())


def with_place(test: str, on: str) -> str:
    """What a merged report calls a test that others ran elsewhere."""
    return f"{test}@{on}"


def node_id(entry: Mapping[str, Any]) -> str:
    """That of an entry's test, without what :func:`with_place` added."""
    return str(entry["test"]).removesuffix(with_place("", entry["on"]) if entry.get("on") else "")


def placed(entry: Mapping[str, Any]) -> str:
    """The name of an entry's test, and below it what it ran on where a merged report says so."""
    name = short(node_id(entry))
    return f"{name}\non {entry['on']}" if entry.get("on") else name


def percent(fraction: float | None, *, signed: bool = False) -> str:
    """A fraction in percent, 0 only where it is nothing; "-" where there is none."""
    if fraction is None:
        return "-"
    number = 100 * round(fraction, _DUST) + 0.0  # what is rounded to -0.0 becomes 0.0
    small = abs(number) < _SMALL
    plus = "+" if signed and number > 0 else ""
    return f"{plus}{format_number(number if small else round(number, 2), digits=3 - small)} %"


def worse(loss: float | None, bound: float | None = None) -> str:
    """A loss, as a fraction, by its direction; "-" where there is none. It is never rounded onto
    the ``bound`` that it stands beside."""
    if loss is None:
        return "-"
    return f"{size(loss, bound)} {'worse' if loss > 0 else 'better'}"


def size(loss: float, bound: float | None = None) -> str:
    """A loss in percent and without its sign, rounded unless that made it ``bound``."""
    shown = percent(abs(loss))
    if bound is None or loss < 0 or shown != percent(bound):
        return shown
    return beside(loss, bound, "1", digits=3)[0]


def quantity(value: float | None, unit: str) -> str:
    return "-" if value is None else format_value(value, unit)


def to_noise(value: float, unit: str, noise: float | None) -> str:
    """``value`` with its unit and as many digits as ``noise``, how far it may be off, leaves
    meaning in: two digits of the noise, at most four in all. Four digits where nobody knows."""
    if not noise or not value or not math.isfinite(noise + value):
        return format_value(value, unit)
    value, noise = (100 * value, 100 * noise) if unit == "1" else (value, noise)
    size, place = (math.floor(math.log10(abs(each))) for each in (value, noise))
    decimals = 1 - min(max(place, size - 2), size)
    number = round(value, decimals)
    return f"{number:,.{max(0, decimals)}f} {'%' if unit == '1' else unit}"


def beside(
    value: float | None,
    limit: float | None,
    unit: str,
    noise: float | None = None,
    digits: int = 4,
) -> tuple[str, str]:
    """``value`` and its ``limit``, each with its unit, "-" for what is missing: ``digits`` digits
    as a rule, of the value no more than ``noise`` leaves meaning in, and more of both where their
    texts would compare otherwise than the numbers do."""
    own = to_noise(value, unit, noise) if noise and value else _told(value, unit, digits)
    shown = own, _told(limit, unit, digits)
    if value is None or limit is None:
        return shown
    for more in _MORE_DIGITS:
        if _order(*map(_read, shown)) == _order(value, limit):
            break
        shown = _told(value, unit, more), _told(limit, unit, more)
    return shown


def ends(
    low: float | None, high: float | None, unit: str, limit: float | None = None
) -> tuple[str, str]:
    """The ends of an interval, each on its side of ``limit``, with digits as far as its width
    leaves meaning in; empty where an end is open."""
    noise = (high - low) / 2 if low is not None and high is not None else None
    shown = (beside(end, limit, unit, noise)[0] if end is not None else "" for end in (low, high))
    return next(shown), next(shown)


def _told(value: float | None, unit: str, digits: int) -> str:
    return "-" if value is None else format_value(value, unit, digits=digits)


def _read(shown: str) -> float:
    return float(shown.split()[0].replace(",", ""))


def _order(one: float, other: float) -> int:
    return (one > other) - (one < other)


def rounded(value: float, digits: int = 4) -> str:
    return format_number(value, digits=digits)


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
