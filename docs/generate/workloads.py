"""What a workload may say, and the presets."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from pytest_llmperf.load.declare.fields import ALIASES, FIELDS, OPTIONAL
from pytest_llmperf.load.declare.presets import PRESETS
from pytest_llmperf.load.declare.workloads import (
    DEFAULT_CONCURRENCY,
    OPEN_LOOP_S,
    SESSIONS_PER_SLOT,
)
from pytest_llmperf.metrics.slo import SLOS
from pytest_llmperf.records import Workload

from .page import Page, described, prose, table, told

_DEFAULTS = {each.name: each.default for each in dataclasses.fields(Workload)}
#: Where the default is made of other fields.
_MADE = {
    "concurrency": f"{DEFAULT_CONCURRENCY} in a closed loop",
    "requests": f"{SESSIONS_PER_SLOT} sessions for each active one, or {OPEN_LOOP_S:g} s of "
    "arrivals, and as many as the gated percentiles need",
    "warmup_requests": "as many as are in flight",
    "runs": "the option --llmperf-runs",
}


def page() -> Page:
    return Page(
        name="reference/workloads",
        title="Workload fields and presets",
        about="what llm_workload takes",
        body="\n".join(_parts()),
    )


def _parts() -> Iterator[str]:
    text = Workload.__doc__ or ""
    yield prose("\n".join(line.strip() for line in text.splitlines())) + "\n"
    yield "How they go together is told in [workloads](../workloads.md).\n\n## Fields\n"
    by_field = {field: alias for alias, field in ALIASES.items()}
    for name in FIELDS:
        alias = f"May be written `{by_field[name]}`, with a unit." if name in by_field else ""
        yield described("workload-field", f"{name} : {expected(name)}", default(name), alias)
    yield "## Presets\n"
    rows = (
        [f"`{name}`", _fields(name), f"`{p.slo}`" if p.slo else ""] for name, p in PRESETS.items()
    )
    yield table(("preset", "fields", "objectives"), rows)
    yield "## Objectives by name\n"
    yield table(
        ("name", "every request", "asked of"),
        (
            [
                f"`{name}`",
                ", ".join(
                    f"`{each.metric}` of at most {each.limit_ms:g} ms" for each in preset.objectives
                ),
                f"{100 * preset.quantile:g} % of requests",
            ]
            for name, preset in SLOS.items()
        ),
    )


def expected(field: str) -> str:
    """What the field's reader says it wants, asked with a value that no field takes."""
    try:
        FIELDS[field](object())
    except ValueError as wanted:
        return str(wanted)
    raise ValueError(f"{field}: its reader takes anything")


def default(field: str) -> str:
    """What holds where the field is not given, in words."""
    known = _DEFAULTS[field]
    if field in _MADE:
        return f"Default: {told(_MADE[field])}."
    if known is dataclasses.MISSING or known is None:
        return "Default: none." if field in OPTIONAL else "Must be given."
    return f"Default: `{known!r}`."


def _fields(preset: str) -> str:
    return ", ".join(f"`{name}={value!r}`" for name, value in PRESETS[preset].fields.items())
