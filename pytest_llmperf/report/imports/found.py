"""What a foreign file tells of one load."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics import units

#: Said of tools that leave failed requests out of their figures.
FAILED_UNKNOWN = (
    "Its file does not tell how many requests failed: its latencies are those of requests that "
    "succeeded, where ours take the failed ones as infinitely late."
)
FAILED_LEFT_OUT = (
    "Requests failed, and its latencies leave them out, where ours take them as infinitely late: "
    "they are not taken over."
)


#: "p55" is the 55th percentile: there is no name for one of 5.5.
_NAMED_FRACTIONS: Mapping[float, str] = {99.9: "p999"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One load and its figures, in the units of :mod:`pytest_llmperf.metrics.table`.

    ``tool`` is its name in the schema. ``rate`` is in requests per second, ``started_at`` a time in
    ISO 8601 with its offset; ``input_mean`` and ``output_mean`` are tokens per request. ``None`` is
    what the file does not tell.
    """

    tool: str
    duration_s: float
    succeeded: int
    metrics: Mapping[str, float]
    version: str | None = None
    engine: str | None = None
    engine_version: str | None = None
    model: str | None = None
    name: str = "imported"
    failed: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    length_spread: float | None = None
    concurrency: int | None = None
    rate: float | None = None
    arrivals: str | None = None
    burstiness: float | None = None
    requests: int | None = None
    input_mean: float | None = None
    output_mean: float | None = None
    started_at: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def load(self) -> tuple[object, ...]:
        """What makes two results results of one load."""
        lengths = (self.input_tokens, self.output_tokens, self.length_spread)
        arrivals = (self.concurrency, self.rate, self.arrivals, self.burstiness, self.requests)
        return (self.tool, self.model, self.name, *lengths, *arrivals)


def number(data: Mapping[str, Any], *path: str) -> float | None:
    """A finite number below the names of ``path``; ``None`` where there is none."""
    value: Any = data
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def count(data: Mapping[str, Any], *path: str) -> int | None:
    value = number(data, *path)
    return None if value is None else round(value)


def text(data: Mapping[str, Any], *path: str) -> str | None:
    """A text that is not empty."""
    value: Any = data
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, str) and value else None


def mean(total: float | None, of: int) -> float | None:
    return None if total is None or not of else total / of


def figures(pairs: Mapping[str, float | None]) -> dict[str, float]:
    """Those that are known, under names of the table."""
    return {name: value for name, value in pairs.items() if value is not None and _known(name)}


def _known(name: str) -> bool:
    try:
        units.row_of(name)
    except UsageMistake:
        return False
    return True


def flat_latencies(data: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, float]:
    """``mean_ttft_ms``, ``median_ttft_ms``, ``p99_ttft_ms`` and so on, as SGLang and vLLM write
    them, for the metrics that ``names`` gives to their words."""
    found: dict[str, float | None] = {}
    for key in data:
        if match := re.fullmatch(r"(mean|median|p\d+(?:\.\d+)?)_(\w+)_ms", key):
            statistic, metric = _statistic(match[1]), names.get(match[2])
            if statistic and metric:
                found.setdefault(f"{metric}_{statistic}", number(data, key))
    return figures(found)


def _statistic(word: str) -> str | None:
    """What we call it; ``None`` for a percentile that has no name here, such as ``p5.5``."""
    if word == "mean":
        return word
    percentile = 50.0 if word == "median" else float(word[1:])
    if percentile.is_integer():
        return "max" if percentile == 100 else f"p{percentile:.0f}"
    return _NAMED_FRACTIONS.get(percentile)
