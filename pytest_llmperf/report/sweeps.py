"""Sweeps as lines for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from pytest_llmperf.metrics import units
from pytest_llmperf.metrics.units import format_number, format_value

from .columns import PLAIN, Look, fits, table, wrapped
from .words import percent, quantity, short

_FIGURES = ("throughput", "per_user")


def sweep_lines(sweep: Mapping[str, Any], look: Look = PLAIN) -> list[str]:
    """One row per load, the highest and the knee marked, and how the search ended."""
    unit = "requests in flight" if sweep["over"] == "concurrency" else "requests per second"
    name = f"{short(sweep['test'])}: " if sweep["test"] else ""
    throughput = f"{units.spoken(sweep['throughput_metric'])} in tok/s"
    lines = textwrap.wrap(f"{name}sweep over {sweep['over']} ({unit}), {throughput}", look.prose)
    if sweep["objectives"]:
        lines += textwrap.wrap(f"within: {', '.join(_limits_of(sweep))}", look.prose)
    return [*lines, *_sweep_table(sweep, look), *wrapped(sweep["reason"], look)]


def sweep_section(
    document: Mapping[str, Any], sweep: Mapping[str, Any], look: Look = PLAIN
) -> list[str]:
    simulated = {entry["id"] for entry in document["measurements"] if entry["simulated"]}
    lines = sweep_lines(sweep, look)
    labelled = any(point["measurement"] in simulated for point in sweep["points"])
    return [*lines, "  SIMULATED"] if labelled else lines


def _limits_of(sweep: Mapping[str, Any]) -> list[str]:
    return [
        f"{units.spoken(slo['metric'] + '_p99')} <= {format_value(slo['limit_ms'], 'ms')}"
        for slo in sweep["objectives"]
    ]


def _sweep_table(sweep: Mapping[str, Any], look: Look) -> list[str]:
    """The table with as many of the deciding percentiles as there is room for."""
    names = [f"{slo['metric']}_p99" for slo in sweep["objectives"]]
    while True:
        headers = ["load", "output", "per user", *map(units.spoken, names)]
        headers += ["attained", "within"] if sweep["objectives"] else [""]
        rows = [_sweep_row(point, sweep, names) for point in sweep["points"]]
        if not names or fits(rows, headers, look):
            return table(rows, headers, look)
        names.pop()


def _sweep_row(
    point: Mapping[str, Any], sweep: Mapping[str, Any], names: Sequence[str]
) -> list[str]:
    load = point["load"]
    marks = ", ".join(mark for mark in ("highest", "knee") if sweep[mark] == load)
    judged = {True: "yes", False: "no", None: "undecided" if point["reason"] else ""}
    last = [percent(point["attainment"])] if sweep["objectives"] else []
    words = [judged[point["within"]], f"<- {marks}" if marks else ""]
    return [
        format_number(load),
        *("-" if point[name] is None else format_number(point[name]) for name in _FIGURES),
        *(_worst(point["worst"].get(name)) for name in names),
        *last,
        " ".join(word for word in words if word),
    ]


def _worst(value: Any) -> str:
    return "unbounded" if isinstance(value, Mapping) else quantity(value, "ms")
