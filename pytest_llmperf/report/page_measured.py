"""What was measured, as the page tells it: headline figures and a table of the runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.metrics import units

from .words import anchor, count, quantity, rounded, short

Entry = Mapping[str, Any]

_HEADLINE = ("output_throughput", "ttft_p50", "ttft_p95", "tpot_mean", "e2e_mean", "success_rate")
RUN_HEADINGS = (
    "at", "side", "pair", "run", "output tok/s", "TTFT p50 ms", "TTFT p95 ms", "TPOT ms",
    "E2E ms", "requests", "client CPU", "counts",
)  # fmt: skip


HEALTH_HEADINGS = (
    "at", "side", "busiest process", "loop lag p99 ms", "loop lag max ms", "late p99 ms",
    "late max ms", "held back", "offered /s", "achieved /s", "in flight", "memory", "processes",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementView:
    """One workload on one server, with the reference that it was compared with. ``index`` is its
    place in the report."""

    index: int
    anchor: str
    test: str
    name: str
    workload: str
    facts: Sequence[tuple[str, str]]
    reference: bool
    runs: Sequence[Sequence[str]]
    health: Sequence[Sequence[str]]
    simulated: bool
    invalid: Sequence[str]


def measurements(document: Entry) -> list[MeasurementView]:
    by_id = {each["id"]: each for each in document["measurements"]}
    compared = {each["reference"] for each in document["measurements"]}
    return [
        _measurement(index, each, by_id.get(each["reference"] or ""))
        for index, each in enumerate(document["measurements"])
        if each["id"] not in compared
    ]


def _measurement(index: int, entry: Entry, reference: Entry | None) -> MeasurementView:
    runs = [*entry["runs"], *(reference["runs"] if reference else ())]
    runs.sort(key=lambda run: str(run["started_at"]))
    return MeasurementView(
        index=index,
        anchor=anchor(entry["id"]),
        test=entry["test"],
        name=short(entry["test"]),
        workload=_workload(entry["workload"]["asked"]),
        facts=[
            (units.spoken(name), quantity(found["value"], found["unit"]))
            for name in _HEADLINE
            if (found := entry["summary"].get(name)) is not None
        ],
        reference=reference is not None,
        runs=[_run(run) for run in runs],
        health=[_health(run) for run in runs if run["client"]],
        simulated=entry["simulated"],
        invalid=_left_out(runs),
    )


def _left_out(runs: Sequence[Entry]) -> list[str]:
    """Why runs do not count, once for each kind of trouble, which is what stands before a colon."""
    kinds: dict[str, list[str]] = {}
    for run in runs:
        for kind, why in {why.partition(":")[0]: why for why in run["invalid_reasons"]}.items():
            kinds.setdefault(kind, []).append(why)
    return [
        f"{count(len(found), 'run')} left out: {found[0]}"
        + ("; the others alike" if len(set(found)) > 1 else "")
        for found in kinds.values()
    ]


def _workload(asked: Entry) -> str:
    parts = []
    if asked["input_tokens"] is not None or asked["output_tokens"] is not None:
        parts.append(
            f"{_or_some(asked['input_tokens'])} tokens in, {_or_some(asked['output_tokens'])} out"
        )
    if asked["rate"]:
        parts.append(f"{rounded(asked['rate'])} requests/s")
    elif asked["concurrency"] is not None:
        parts.append(f"{asked['concurrency']} at once")
    return ": ".join(part for part in (asked["name"], ", ".join(parts)) if part)


def _or_some(tokens: int | None) -> str:
    return "some" if tokens is None else str(tokens)


def _run(run: Entry) -> list[str]:
    metrics = run["metrics"]
    return [
        _time(run),
        run["side"],
        "" if run["pair"] is None else str(run["pair"] + 1),
        str(run["index"] + 1),
        *(
            _figure(metrics.get(name), name)
            for name in ("output_throughput", "ttft_p50", "ttft_p95", "tpot_mean", "e2e_mean")
        ),
        f"{run['requests']['succeeded']}/{_or_some(run['requests']['sent'])}",
        f"{run['client']['cpu_share']:.0%}" if run["client"] else "-",
        "valid" if run["valid"] else "; ".join(run["invalid_reasons"]) or "invalid",
    ]


def _health(run: Entry) -> list[str]:
    """What the load client says of itself."""
    client = run["client"]
    lag = ("loop_lag_ms_p99", "loop_lag_ms_max", "send_delay_ms_p99", "send_delay_ms_max")
    load = ("offered_rate", "achieved_rate", "mean_in_flight")
    return [
        _time(run),
        run["side"],
        f"{client['cpu_share']:.0%}",
        *(_plain(client[name]) for name in lag),
        "yes" if client["held_back"] else "no",
        *(_plain(client[name]) for name in load),
        f"{client['peak_rss_bytes'] / 2**20:,.0f} MiB",
        str(client["processes"]),
    ]


def _plain(value: float | None) -> str:
    return "-" if value is None else rounded(value, 3)


def _time(run: Entry) -> str:
    return (run["started_at"] or "")[11:19] or "-"


def _figure(value: Any, name: str) -> str:
    if isinstance(value, Mapping):
        return "unbounded"
    return "-" if value is None else rounded(value, 1 if units.row_of(name).unit == "1" else 4)
