"""What was seen of the devices during a run, in figures, and the metrics that come of it."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TypeVar

from pytest_llmperf.accelerators.conditions import Condition
from pytest_llmperf.records import (
    Accelerator,
    Device,
    DeviceTelemetry,
    MetricValue,
    RequestRecord,
    Run,
    Series,
    Telemetry,
)

from .energy import Window, energy_of

#: Rows of a series that a report keeps: ten minutes of samples a second; longer runs are merged.
MOST_ROWS = 600

_T = TypeVar("_T")
_GIB = 2**30
_NOBODY = "nobody here can ask its devices; see the table of accelerators in docs/telemetry.md"

#: All devices at one moment.
Look = Sequence[Condition]


def window_of(records: Sequence[RequestRecord], duration_s: float) -> Window | None:
    """The window of a run: from the first request written for ``duration_s``, to the last token;
    to the end of the last response where no token came. ``None`` where nothing was sent."""
    if not records:
        return None
    start = min(record.written_ns for record in records)
    last = max(record.ended_ns for record in records)
    return Window(start_ns=start, end_ns=start + round(duration_s * 1e9) if duration_s else last)


def within(looks: Iterable[Look], window: Window) -> list[Look]:
    """The looks with those conditions alone that lie in the window."""
    inside = ([one for one in look if _in(one, window)] for look in looks)
    return [look for look in inside if look]


def reduce_looks(
    accelerator: Accelerator,
    looks: Sequence[Look],
    window: Window,
    *,
    missing: str = "",
) -> Telemetry:
    """The figures of every device of ``accelerator`` in ``window``, and their sums.

    ``missing`` is why energy cannot be known however good the samples are.
    """
    devices = tuple(_device(device, looks, window, missing) for device in accelerator.devices)
    known = _known(device.energy_j for device in devices)
    elsewhere = _elsewhere(accelerator)
    whole = len(known) == len(devices) and not elsewhere
    memory = None if elsewhere else peak_memory(accelerator, looks, window)
    return Telemetry(
        energy_j=math.fsum(known) if whole else None,
        energy_missing=elsewhere or _first_missing(devices),
        peak_memory_bytes=memory,
        peak_memory_of=None if memory is None else "devices",
        peak_memory_missing=elsewhere or (_untold(looks) if memory is None else ""),
        devices=devices,
    )


def peak_memory(accelerator: Accelerator, looks: Sequence[Look], window: Window) -> int | None:
    """The most bytes in use on all devices together in one look; ``None`` where no look in the
    window knows it of every device."""
    wanted = {device.uuid for device in accelerator.devices}
    sums = []
    for look in within(looks, window):
        used = {
            one.uuid: one.memory_used_bytes
            for one in look
            if one.memory_used_bytes is not None and one.uuid in wanted
        }
        if len(used) == len(wanted):
            sums.append(sum(used.values()))
    return max(sums, default=None)


def _untold(looks: Iterable[Look]) -> str:
    return next((one.untold for look in looks for one in look if one.untold), "")


def _elsewhere(accelerator: Accelerator) -> str:
    """Why the figures of this machine's devices are not the server's."""
    if accelerator.nodes == accelerator.covered:
        return ""
    return f"the server has devices on {accelerator.nodes} machines, and only those here are seen"


def _first_missing(devices: Sequence[DeviceTelemetry]) -> str:
    for device in devices:
        if device.energy_missing:
            several = f"{device.product} {device.uuid[:12]}: " if len(devices) > 1 else ""
            return f"{several}{device.energy_missing}"
    return ""


# --- one device ------------------------------------------------------------------------------


def _device(device: Device, looks: Sequence[Look], window: Window, missing: str) -> DeviceTelemetry:
    stamped = (one for look in looks for one in look if one.uuid == device.uuid)
    seen = sorted((one for one in stamped if one.at_ns is not None), key=_moment)
    inside = [one for one in seen if _in(one, window)]
    energy = energy_of(seen, window)
    return DeviceTelemetry(
        uuid=device.uuid,
        index=device.index,
        product=device.product,
        samples=len(inside),
        energy_j=energy.joules,
        energy_from=energy.source,
        energy_missing=(missing or energy.missing) if energy.joules is None else "",
        power_mean_w=_mean(one.power_w for one in inside),
        power_max_w=_max(one.power_w for one in inside),
        clock_p50_mhz=_middle(one.clock_mhz for one in inside),
        memory_clock_p50_mhz=_middle(one.memory_clock_mhz for one in inside),
        temperature_max_c=_max(one.temperature_c for one in inside),
        memory_max_bytes=max(_known(one.memory_used_bytes for one in inside), default=None),
        utilisation_mean=_mean(one.utilisation for one in inside),
        slowed=_shares(inside),
        power_capped_share=_mean(map(_flag, inside)),
        series=series_of(_near(seen, window), window),
    )


def _moment(one: Condition) -> int:
    return one.at_ns or 0


def _in(one: Condition, window: Window) -> bool:
    return one.at_ns is not None and window.holds(one.at_ns)


def _near(seen: Sequence[Condition], window: Window) -> list[Condition]:
    """Those in the window, the last one before it and the first one after it."""
    before = [one for one in seen if _moment(one) < window.start_ns]
    after = [one for one in seen if _moment(one) > window.end_ns]
    return [*before[-1:], *(one for one in seen if _in(one, window)), *after[:1]]


def _shares(seen: Sequence[Condition]) -> dict[str, float]:
    counts = Counter(reason for one in seen for reason in one.slowed)
    return {reason: n / len(seen) for reason, n in sorted(counts.items())}


# --- series ----------------------------------------------------------------------------------


def series_of(seen: Sequence[Condition], window: Window, *, most: int = MOST_ROWS) -> Series:
    """Columns of ``seen``, with no more than ``most`` rows: of so many neighbours as it takes,
    memory and temperature keep the largest value, everything else the mean."""
    size = max(1, math.ceil(len(seen) / most))
    rows = [seen[begin : begin + size] for begin in range(0, len(seen), size)]
    held = [[float(bool(one.slowed)) for one in row] for row in rows]
    used = [max(_known(one.memory_used_bytes for one in row), default=None) for row in rows]
    return Series(
        at_s=tuple(_second(row, window) for row in rows),
        power_w=_column((_mean(one.power_w for one in row) for row in rows), 1),
        clock_mhz=_column((_mean(one.clock_mhz for one in row) for row in rows), 0),
        memory_clock_mhz=_column((_mean(one.memory_clock_mhz for one in row) for row in rows), 0),
        temperature_c=_column((_max(one.temperature_c for one in row) for row in rows), 1),
        memory_used_bytes=tuple(used) if any(each is not None for each in used) else None,
        utilisation=_column((_mean(one.utilisation for one in row) for row in rows), 2),
        slowed=_column(map(_mean, held), 2),
        power_capped=_column((_mean(map(_flag, row)) for row in rows), 2),
    )


def _second(row: Sequence[Condition], window: Window) -> float:
    middle = statistics.fmean(window.since(_moment(one)) for one in row)
    return round(middle, 2) + 0.0  # no negative zero


def _flag(one: Condition) -> float | None:
    return None if one.power_capped is None else float(one.power_capped)


def _column(values: Iterable[float | None], digits: int) -> tuple[float | None, ...] | None:
    """Rounded; ``None`` for a column of nothing."""
    column = tuple(None if value is None else round(value, digits) for value in values)
    return column if any(value is not None for value in column) else None


def _known(values: Iterable[_T | None]) -> list[_T]:
    return [value for value in values if value is not None]


def _mean(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return statistics.fmean(known) if known else None


def _max(values: Iterable[float | None]) -> float | None:
    return max(_known(values), default=None)


def _middle(values: Iterable[float | None]) -> float | None:
    known = sorted(_known(values))
    return known[len(known) // 2] if known else None


# --- metrics ---------------------------------------------------------------------------------


def telemetry_metrics(run: Run, telemetry: Telemetry | None) -> dict[str, MetricValue]:
    """``joules_per_output_token``, ``tokens_per_joule`` and ``peak_memory`` of ``run``, each with
    why it is not known where it is not."""
    if telemetry is None:
        unknown = MetricValue(value=None, missing=_NOBODY)
        return dict.fromkeys(
            ("joules_per_output_token", "tokens_per_joule", "peak_memory"), unknown
        )
    memory = telemetry.peak_memory_bytes
    return {
        **_energy_metrics(run, telemetry),
        "peak_memory": MetricValue(value=memory / _GIB)
        if memory is not None
        else MetricValue(value=None, missing=telemetry.peak_memory_missing or _NOBODY),
    }


def _energy_metrics(run: Run, telemetry: Telemetry) -> dict[str, MetricValue]:
    joules, tokens = telemetry.energy_j, output_tokens(run)
    if joules is None or tokens is None:
        why = telemetry.energy_missing or (_NOBODY if joules is None else "")
        unknown = MetricValue(value=None, missing=why)
        return {"joules_per_output_token": unknown, "tokens_per_joule": unknown}
    endless = MetricValue(value=None, unbounded=True, failed=run.sent - run.succeeded)
    return {
        "joules_per_output_token": MetricValue(value=joules / tokens) if tokens else endless,
        "tokens_per_joule": MetricValue(value=tokens / joules),
    }


def output_tokens(run: Run) -> float | None:
    """Output tokens of the successful requests of ``run``; ``None`` where they were not counted."""
    if not run.succeeded:
        return 0.0
    mean = run.output_tokens_mean
    return None if mean is None else mean * run.succeeded
