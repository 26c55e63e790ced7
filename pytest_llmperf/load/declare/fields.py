"""Reading what users write into a workload's fields, one value at a time."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from pytest_llmperf.errors import UsageMistake, nearest
from pytest_llmperf.records import Slo

_SECONDS = {"ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_PER_SECOND = {"req/s": 1.0, "requests/s": 1.0, "rps": 1.0, "req/min": 1 / 60}
_QUANTITY = re.compile(r"\s*(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>\S+)\s*")

#: More than anything here is counted or measured in; what is larger is a slip, and would make
#: infinities of products.
_MOST = 1_000_000_000
#: The longest text that may be a quantity.
_LONGEST = 80
_LARGEST_SEED = 2**63 - 1
#: More tokens than one request has; its prompt would fill the memory before any server saw it.
MOST_TOKENS = 1 << 24

Reader = Callable[[object], object]


def read_fields(overrides: Mapping[str, object], source: str) -> dict[str, Any]:
    """``overrides`` as a workload has them; what is ``None`` was not given.

    ``source`` says where they were written, for the messages of
    :class:`~pytest_llmperf.errors.UsageMistake`.
    """
    given: dict[str, Any] = {}
    for name, value in overrides.items():
        field = ALIASES.get(name, name)
        if field in given:
            raise UsageMistake(f"{source}: {name} and {field} are the same; give one of them.")
        read = _read(field, name, value, source)
        if read is not None:
            given[field] = read
    return given


def _read(field: str, name: str, value: object, source: str) -> object:
    reader = FIELDS.get(field)
    if reader is None:
        raise UsageMistake(f"{source}: a workload has no field {name!r}.{nearest(name, FIELDS)}")
    if value is None and field in OPTIONAL:
        return None
    try:
        return reader(value)
    except ValueError as expected:
        raise UsageMistake(f"{source}: {name}={value!r}: expected {expected}.") from None


# --- values ----------------------------------------------------------------------------------


def _whole(minimum: int, most: int = _MOST) -> Reader:
    def read(value: object) -> object:
        if isinstance(value, int) and not isinstance(value, bool) and minimum <= value:
            if value <= most:
                return value
            raise ValueError(f"a whole number of at most {most:,}")
        raise ValueError(f"a whole number of at least {minimum}")

    return read


def _number(minimum: float, *, above: bool = False, below: float = math.inf) -> Reader:
    expected = f"a number {'above' if above else 'of at least'} {minimum:g}"
    if below < math.inf:
        expected += f" and below {below:g}"

    def read(value: object) -> object:
        if isinstance(value, int | float) and not isinstance(value, bool):
            high_enough = value > minimum if above else value >= minimum
            if high_enough and value < below and value <= _MOST:
                return float(value)
            if high_enough and below == math.inf:
                raise ValueError(f"a number of at most {_MOST:,}")
        raise ValueError(expected)

    return read


def _quantity(units: Mapping[str, float], number: Reader, example: str) -> Reader:
    """A number, or one with a unit in a text."""

    def read(value: object) -> object:
        if not isinstance(value, str):
            return _explained(number, value, example)
        match = _QUANTITY.fullmatch(value) if len(value) <= _LONGEST else None
        if match is None or match["unit"] not in units:
            raise ValueError(
                f"a number with one of the units {', '.join(units)}, such as {example}"
            )
        return _explained(number, float(match["number"]) * units[match["unit"]], example)

    return read


def _explained(number: Reader, value: object, example: str) -> object:
    try:
        return number(value)
    except ValueError as expected:
        raise ValueError(f"{expected}, or a text such as {example}") from None


def _one_of(*words: str) -> Reader:
    expected = " or ".join([", ".join(map(repr, words[:-1])), repr(words[-1])])

    def read(value: object) -> object:
        if value in words:
            return value
        raise ValueError(expected)

    return read


def _truth(value: object) -> object:
    if isinstance(value, bool):
        return value
    raise ValueError("True or False")


def _objectives(value: object) -> object:
    if isinstance(value, tuple) and all(isinstance(each, Slo) for each in value):
        return value
    raise ValueError("objectives, by the name of a preset or as a mapping of metrics to limits")


_RATE = _quantity(_PER_SECOND, _number(0.0, above=True), '"10 req/s"')
_DURATION = _quantity(_SECONDS, _number(0.0), '"2 min"')
_POSITIVE_DURATION = _quantity(_SECONDS, _number(0.0, above=True), '"60 s"')

#: Every field that may be given, and how it is read.
FIELDS: Mapping[str, Reader] = {
    "input_tokens": _whole(1, MOST_TOKENS),
    "output_tokens": _whole(1, MOST_TOKENS),
    "concurrency": _whole(1),
    "requests": _whole(1),
    "warmup_requests": _whole(1),
    "runs": _whole(1),
    "seed": _whole(0, _LARGEST_SEED),
    "temperature": _number(0.0),
    "api": _one_of("chat", "completions", "generate"),
    "request_timeout_s": _POSITIVE_DURATION,
    "stream": _truth,
    "arrivals": _one_of("closed", "constant", "poisson", "gamma", "trace"),
    "rate": _RATE,
    "final_rate": _RATE,
    "burstiness": _number(0.0, above=True),
    "trace_speed": _number(0.0, above=True),
    "ramp_up_s": _DURATION,
    "duration_s": _POSITIVE_DURATION,
    "length_spread": _number(0.0, below=1.0),
    "shared_prefix_tokens": _whole(0, MOST_TOKENS),
    "prefixes": _whole(1),
    "turns": _whole(1),
    "turn_input_tokens": _whole(0, MOST_TOKENS),
    "think_time_s": _DURATION,
    "flush": _truth,
    "slo": _objectives,
}

#: Durations may be written without the unit in their name: ``duration="60 s"``.
ALIASES: Mapping[str, str] = {
    field.removesuffix("_s"): field for field in FIELDS if field.endswith("_s")
}

#: Fields for which ``None`` says "not given", so that a parameter may leave them out.
OPTIONAL = frozenset(
    {
        "input_tokens",
        "output_tokens",
        "concurrency",
        "requests",
        "rate",
        "final_rate",
        "duration_s",
        "slo",
    }
)
