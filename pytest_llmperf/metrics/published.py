"""What others published, beside what was measured. It is shown and never judged.

A figure is shown only where the same was asked of the same: the model, the engine, the product and
the number of devices are those of the publication; requests came in a closed loop with as many in
flight, one turn each and no prefix in common; and prompts and answers were on average within
:data:`LENGTHS_WITHIN` of those that were published as sent, not as asked for.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from pytest_llmperf.records import Accelerator, Workload

#: How far mean lengths may be from the published ones, as a fraction of these.
LENGTHS_WITHIN = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What was measured: ``devices`` of the accelerator's product, mean lengths in tokens as sent,
    ``None`` where not known."""

    model: str | None
    engine: str
    accelerator: Accelerator
    workload: Workload
    input_tokens_mean: float | None
    output_tokens_mean: float | None


@functools.cache
def entries() -> tuple[Mapping[str, Any], ...]:
    """All that comes with this package, as ``schemas/published-v1.schema.json`` describes it."""
    file = resources.files("pytest_llmperf") / "published" / "r1.json"
    found: list[Mapping[str, Any]] = json.loads(file.read_text(encoding="utf-8"))["entries"]
    return tuple(found)


def comparable(entry: Mapping[str, Any], asked: Asked) -> bool:
    """Whether the same was asked of the same; see the rule above."""
    hardware, workload = entry["hardware"], entry["workload"]
    if entry["kind"] != "figure" or workload is None or hardware["product"] is None:
        return False
    return (
        _last(entry["model"]) == _last(asked.model)
        and entry["engine"]["name"] == asked.engine
        and hardware["devices"] == asked.accelerator.count
        and re.search(hardware["product"], asked.accelerator.product, re.IGNORECASE) is not None
        and _plain(asked.workload)
        and workload["concurrency"] == asked.workload.concurrency
        and _near(asked.input_tokens_mean, workload["input_tokens_mean"])
        and _near(asked.output_tokens_mean, workload["output_tokens_mean"])
    )


def beside(
    measured: Mapping[str, float | None],
    asked: Asked,
    among: Iterable[Mapping[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """The published figures for metrics that were measured, each with the ratio of ours to it."""
    among = entries() if among is None else among
    return [row for entry in among if comparable(entry, asked) for row in _rows(entry, measured)]


def _rows(
    entry: Mapping[str, Any], measured: Mapping[str, float | None]
) -> Iterator[dict[str, Any]]:
    for figure in entry["figures"]:
        ours = measured.get(figure["metric"])
        if ours is not None and ours > 0:
            yield {
                "id": entry["id"],
                "source": f"{entry['publisher']}: {entry['source']['title']}, "
                f"{entry['source']['at']}",
                "date": entry["date"],
                "metric": figure["metric"],
                "value": figure["value"],
                "unit": figure["unit"],
                "conditions": f"{entry['hardware']['text']}, {entry['engine']['name']} "
                f"{entry['engine']['version'] or ''}: {entry['conditions']}",
                "verified": entry["verified"],
                "ratio": ours / figure["value"],
            }


def _plain(workload: Workload) -> bool:
    """A closed loop of single requests that have nothing in common."""
    return (
        workload.arrivals == "closed"
        and workload.turns == 1
        and not (workload.shared_prefix_tokens)
    )


def _near(ours: float | None, published: float) -> bool:
    return ours is not None and abs(ours - published) <= LENGTHS_WITHIN * published


def _last(model: str | None) -> str:
    return re.split(r"[\\/]", (model or "").rstrip("\\/"))[-1].lower() or "-"
