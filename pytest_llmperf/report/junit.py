"""One test's results as JUnit properties."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pytest_llmperf.inert import inert

from .assembly import overall

#: Characters of a property; readers of JUnit hold all of a file in memory.
_LONGEST = 4000
#: What is told of every measurement, beside the metrics that are gated.
HEADLINE = ("output_throughput", "ttft_p50", "ttft_p95", "tpot_mean", "success_rate")


def properties(fragment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values for the ``user_properties`` of the test that made ``fragment``.

    Metrics of a second measurement of the same test carry that measurement's id in their names.
    Characters that XML cannot hold, or that who shows them would obey, are written out.
    """
    return [(_shown(name), _shown(value)) for name, value in _found(fragment)]


def _shown(text: str) -> str:
    shown: str = inert(text[:_LONGEST])
    return shown if len(text) <= _LONGEST else f"{shown}…"


def _found(fragment: Mapping[str, Any]) -> list[tuple[str, str]]:
    tests, gates = fragment.get("tests", ()), fragment.get("gates", ())
    found = [("llmperf.verdict", overall(gates, tests))]
    found += [("llmperf.class", test["outcome"]) for test in tests]
    gated = [gate["metric"] for gate in gates]
    for at, measurement in enumerate(fragment.get("measurements", ())):
        prefix = "llmperf." if at == 0 else f"llmperf.{measurement['id']}."
        for name in dict.fromkeys((*HEADLINE, *gated)):
            if (entry := measurement["summary"].get(name)) and entry["value"] is not None:
                found.append((prefix + name, _value(entry)))
    found += [
        (f"llmperf.gate.{gate['kind']}.{gate['metric']}", f"{gate['verdict']}: {gate['reason']}")
        for gate in gates
    ]
    return found


def _value(entry: Mapping[str, Any]) -> str:
    number = f"{entry['value']:.6g}"
    return number if entry["unit"] == "1" else f"{number} {entry['unit']}"
