"""Numbers that options and ini values say, read with their units."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from pytest_llmperf.errors import UsageMistake

from .option_checks import MOST

#: Spelled units of a bound, and how many of its own unit one of them is.
SHARES = {"": 1.0, "%": 0.01}
TIMES = {"ms": 1.0, "s": 1000.0, "us": 0.001}


def count(config: pytest.Config, name: str) -> int:
    """What an option says, or else the ini value of its name."""
    value = config.getoption(name)
    option = "--" + name.replace("_", "-")
    said = f"{option}={value}" if value is not None else f"ini value {name} = {config.getini(name)}"
    text = str(config.getini(name) if value is None else value).strip()
    return at_least_one(text, said)


def at_least_one(text: str, said: str, *, otherwise: str = "") -> int:
    """``text`` as the number of something; ``said`` is how it was given, and ``otherwise`` what
    could stand in its place."""
    if not re.fullmatch(r"0*[1-9][0-9]{0,6}", text):
        raise UsageMistake(f"{said}: expected a whole number of at least 1{otherwise}.")
    return int(text)


def timeout(asked: float | None) -> float | None:
    """Seconds that a server may take."""
    if asked is not None and not 0 < asked <= MOST:
        raise UsageMistake(
            f"--llmperf-server-timeout={asked}: expected seconds above zero and at most {MOST:,}."
        )
    return asked


def budget(text: str | None) -> float | None:
    """Seconds that a comparison may take."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,9}(?:\.[0-9]+)?)\s*(s|m|min|h)\s*", text)
    if match is None or not float(match[1]):
        raise UsageMistake(f"--llmperf-budget={text!r}: expected a time such as 20m or 1.5h.")
    return float(match[1]) * {"s": 1, "m": 60, "min": 60, "h": 3600}[match[2]]


def bound(
    config: pytest.Config, name: str, units: Mapping[str, float], example: str
) -> float | None:
    """A bound in its own unit; ``None`` for one that is switched off."""
    text = str(config.getini(name)).strip()
    if text == "off":
        return None
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)\s*(\S*)", text)
    if match is None or match[2] not in units:
        raise UsageMistake(
            f"ini value {name} = {text!r}: expected a value such as {example!r}, or 'off'."
        )
    return float(match[1]) * units[match[2]]
