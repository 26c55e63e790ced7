"""Numbers and names as people read them in a report."""

from __future__ import annotations

from pytest_llmperf.metrics.units import format_number, format_value


def anchor(id_: str) -> str:
    """An id that may stand in an address."""
    return "m-" + "".join(letter if letter.isalnum() else "-" for letter in id_)


def short(test: str) -> str:
    """A test's name without its file and class; parameters may hold "::" themselves."""
    head, bracket, parameters = test.partition("[")
    return head.rsplit("::", 1)[-1] + bracket + parameters


def percent(fraction: float | None, *, signed: bool = False) -> str:
    """A fraction in percent; "-" where there is none."""
    if fraction is None:
        return "-"
    plus = "+" if signed and fraction > 0 else ""
    return f"{plus}{format_number(round(fraction * 100, 2), digits=3)} %"


def quantity(value: float | None, unit: str) -> str:
    return "-" if value is None else format_value(value, unit)


def rounded(value: float, digits: int = 4) -> str:
    return format_number(value, digits=digits)


def count(number: int, one: str, many: str = "") -> str:
    return f"{number:,} {one if number == 1 else many or one + 's'}"
