"""What AMD's devices say of themselves under load: through ``amdsmi``, sysfs or ``amd-smi``.

Energy is the accumulator times its resolution, in microjoules; RDNA3 has none and shows 0. Instinct
cards count how long each limiter was at work (``gpu_metrics`` 1.6, ROCm 6.3); Radeon cards set bits
(``indep_throttle_status``, the kernel's ``SMU_THROTTLER_*``). The single word "THROTTLED" of
``amd-smi`` is not used: it is said at the power cap too, which is where a card is meant to run.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytest_llmperf import clock
from pytest_llmperf.records import Device

from . import amd_sysfs
from .base import MIB, READ_S, WATCH_S, RunTool, number, read_number, read_text, whole, within
from .conditions import Condition, Watcher

#: The tool starts an interpreter each time, and energy wants samples at most 3 s apart.
LIBRARY_S, SYSFS_S, TOOL_S = 1.0, 1.0, 2.5
#: What the counters of the limiters are called: in the library's metrics, and in the tool's JSON.
_COUNTERS = {
    "processor hot": ("prochot_residency_acc", "prochot_accumulated"),
    "thermal slowdown": ("socket_thm_residency_acc", "socket_thermal_accumulated"),
    "regulator thermal slowdown": ("vr_thm_residency_acc", "vr_thermal_accumulated"),
    "memory thermal slowdown": ("hbm_thm_residency_acc", "hbm_thermal_accumulated"),
}
_CAP = ("ppt_residency_acc", "ppt_accumulated")
_CLOCK = ("accumulation_counter", "accumulation_counter")
#: A limiter that was at work for less of the time between two looks did not hold the clocks down.
_LEAST_SHARE = 0.05
#: Bits of ``indep_throttle_status``: from the first up to, not including, the second.
_POWER_BITS = (0, 8)
_BITS = {"current limit": (16, 24), "thermal slowdown": (32, 46), "processor hot": (46, 48)}
#: What the tables of metrics say for "unknown", of 16 bits.
_UNKNOWN = 0xFFFF

Counts = Mapping[str, float]


def slowed_by_bits(bits: int) -> tuple[str, ...]:
    """The names of the limiters in an ``indep_throttle_status``, but for the power cap."""
    return tuple(name for name, (first, last) in _BITS.items() if _any(bits, first, last))


def capped_by_bits(bits: int) -> bool:
    return _any(bits, *_POWER_BITS)


def slowed_by_counts(now: Counts, before: Counts) -> tuple[str, ...]:
    """The limiters that were at work between two looks."""
    return tuple(name for name in _COUNTERS if _share(name, now, before) > _LEAST_SHARE)


def capped_by_counts(now: Counts, before: Counts) -> bool | None:
    if "cap" not in now or "cap" not in before:
        return None
    return _share("cap", now, before) > _LEAST_SHARE


def _any(bits: int, first: int, last: int) -> bool:
    return bool(bits >> first & (1 << (last - first)) - 1)


def _share(name: str, now: Counts, before: Counts) -> float:
    spent = now.get("clock", 0.0) - before.get("clock", 0.0)
    if spent <= 0 or name not in now or name not in before:
        return 0.0
    return (now[name] - before[name]) / spent


def _counts(table: object, which: int) -> Counts:
    """Those of the limiters' counters that a table of metrics has."""
    names = {**_COUNTERS, "cap": _CAP, "clock": _CLOCK}
    if not isinstance(table, Mapping):
        return {}
    found = {name: number(table.get(keys[which])) for name, keys in names.items()}
    return {name: value for name, value in found.items() if value is not None}


# --- the library -----------------------------------------------------------------------------


def by_library(library: Any, devices: Sequence[Device]) -> Callable[[], list[Condition]]:
    """Asks ``amdsmi``, which must stay started, of these devices."""
    before: dict[str, Counts] = {}

    def look() -> list[Condition]:
        try:
            handles = library.amdsmi_get_processor_handles()
        except library.AmdSmiException:
            return []
        return [
            _by_library(library, device.uuid, handles[position], before)
            for device in devices
            if (position := whole(device.details.get("smi_index"))) is not None
            and position < len(handles)
        ]

    return look


def _by_library(library: Any, uuid: str, handle: Any, before: dict[str, Counts]) -> Condition:
    def ask(name: str, *more: object) -> Any:
        # A function may be younger than the library, and a card may not know the answer.
        try:
            return getattr(library, name)(handle, *more)
        except (AttributeError, library.AmdSmiException):
            return None

    at_ns = clock.now_ns()
    metrics = _table(ask("amdsmi_get_gpu_metrics_info"))
    power = _table(ask("amdsmi_get_power_info"))
    counts = _counts(metrics, 0)
    bits = whole(metrics.get("indep_throttle_status"))
    known_bits = bits if bits is not None and bits.bit_length() < 64 else None
    running = ask("amdsmi_get_gpu_process_list")
    earlier, before[uuid] = before.get(uuid, counts), counts
    return Condition(
        uuid=uuid,
        slowed=(*slowed_by_counts(counts, earlier), *slowed_by_bits(known_bits or 0)),
        power_capped=_capped(counts, earlier, known_bits),
        clock_mhz=_first(_listed(metrics.get("current_gfxclks")), metrics.get("current_gfxclk")),
        memory_clock_mhz=_first([metrics.get("current_uclk")]),
        temperature_c=_first([metrics.get("temperature_hotspot"), metrics.get("temperature_edge")]),
        utilisation=_part(metrics.get("average_gfx_activity")),
        power_w=_first(
            [
                power.get("socket_power"),
                power.get("current_socket_power"),
                power.get("average_socket_power"),
            ]
        ),
        energy_j=_energy(_table(ask("amdsmi_get_energy_count"))),
        memory_used_bytes=whole(ask("amdsmi_get_gpu_memory_usage", library.AmdSmiMemoryType.VRAM)),
        processes=_pids(running),
        at_ns=at_ns,
    )


def _capped(now: Counts, before: Counts, bits: int | None) -> bool | None:
    by_counts = capped_by_counts(now, before)
    return capped_by_bits(bits) if by_counts is None and bits is not None else by_counts


def _energy(count: Mapping[str, Any]) -> float | None:
    # Called "power" before ROCm 6.2.
    ticks = number(count.get("energy_accumulator", count.get("power")))
    resolution = number(count.get("counter_resolution"))
    return ticks * resolution / 1e6 if ticks and resolution else None


def _pids(running: object) -> tuple[int, ...] | None:
    if not isinstance(running, list):
        return None
    found = (whole(_table(one).get("pid")) for one in running)
    return tuple(pid for pid in found if pid)


def _table(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else []


def _first(values: Iterable[object], *more: object) -> float | None:
    """The first that is a number and none of the ways to say "unknown"."""
    known = (number(value) for value in (*values, *more))
    return next((value for value in known if value is not None and value < _UNKNOWN), None)


def _part(percent: object) -> float | None:
    value = number(percent)
    return None if value is None or not 0 <= value <= 100 else value / 100


# --- sysfs -----------------------------------------------------------------------------------


def without_library(
    run: RunTool, kfd: Path, pci: Path, devices: Sequence[Device]
) -> Watcher | None:
    look = within(READ_S, lambda: by_sysfs(kfd, pci, devices))
    if look and within(READ_S, lambda: any(one.power_w is not None for one in look())):
        return Watcher(
            look=look,
            period_s=SYSFS_S,
            source="sysfs",
            advice="pip install 'pytest-llmperf[amd]', amdsmi in the version of the installed "
            "ROCm: only that library counts energy, and tells why an Instinct card is slow",
        )
    asked = within(WATCH_S, lambda: by_tool(run, devices))
    return None if asked is None else Watcher(look=asked, period_s=TOOL_S, source="amd-smi")


def by_sysfs(kfd: Path, pci: Path, devices: Sequence[Device]) -> Callable[[], list[Condition]]:
    """Reads what the kernel shows of these devices."""
    # Looked up once: these do not change as long as the driver is loaded.
    places = [
        (device.uuid, pci / bus, amd_sysfs.hwmon(pci, bus), amd_sysfs.kfd_number(kfd, bus))
        for device in devices
        if (bus := str(device.details.get("bus")))
    ]
    return lambda: [
        _by_sysfs(uuid, place, sensors, amd_sysfs.processes(kfd, number))
        for uuid, place, sensors, number in places
    ]


def _by_sysfs(
    uuid: str, place: Path, sensors: Path | None, processes: tuple[int, ...] | None
) -> Condition:
    at_ns = clock.now_ns()

    def sensor(*names: str, scale: float) -> float | None:
        found = (read_number(sensors / name) if sensors else None for name in names)
        return next((value / scale for value in found if value is not None), None)

    bits = throttle_bits(_bytes(place / "gpu_metrics"))
    return Condition(
        uuid=uuid,
        slowed=slowed_by_bits(bits or 0),
        power_capped=None if bits is None else capped_by_bits(bits),
        power_w=sensor("power1_average", "power1_input", scale=1e6),
        clock_mhz=sensor("freq1_input", scale=1e6),
        memory_clock_mhz=sensor("freq2_input", scale=1e6),
        temperature_c=_hottest(sensors),
        memory_used_bytes=read_number(place / "mem_info_vram_used"),
        utilisation=_part(read_text(place / "gpu_busy_percent")),
        processes=processes,
        at_ns=at_ns,
    )


def throttle_bits(metrics: bytes) -> int | None:
    """``indep_throttle_status`` of a ``gpu_metrics`` table; ``None`` of one without it.

    Only format 1.3 is read, that of RDNA3: 120 bytes, of which the last eight (Linux,
    ``struct gpu_metrics_v1_3``). In all of them a size and two bytes of version go first.
    """
    if len(metrics) < 120 or struct.unpack_from("<HBB", metrics) != (120, 1, 3):
        return None
    bits: int = struct.unpack_from("<Q", metrics, 112)[0]
    return None if bits == 2**64 - 1 else bits


def _hottest(sensors: Path | None) -> float | None:
    """Of the junction where there is one, as the library's "hotspot"."""
    if sensors is None:
        return None
    labels = {read_text(file): file for file in sensors.glob("temp*_label")}
    file = labels.get("junction") or labels.get("edge")
    value = None if file is None else read_number(file.with_name(f"{file.name[:5]}_input"))
    return None if value is None else value / 1000


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


# --- amd-smi ---------------------------------------------------------------------------------

_WORDS = ("metric", "--power", "--clock", "--temperature", "--usage", "--energy", "--mem-usage")


def by_tool(run: RunTool, devices: Sequence[Device]) -> Callable[[], list[Condition]] | None:
    """Asks ``amd-smi`` of these devices; ``None`` where it does not answer."""
    words = [["amd-smi", *_WORDS, *more, "--json"] for more in (["--throttle"], [])]
    argv = next((each for each in words if _rows(run(each) or "")), None)
    if argv is None:
        return None
    before: dict[str, Counts] = {}

    def look() -> list[Condition]:
        at_ns = clock.now_ns()
        rows = _rows(run(argv) or "")
        return [
            _by_row(device.uuid, rows[position], before, at_ns)
            for device in devices
            if (position := whole(device.details.get("smi_index"))) in rows
        ]

    return look


def _rows(text: str) -> dict[int | None, Mapping[str, Any]]:
    try:
        document = json.loads(text)
    except ValueError:
        return {}
    # Since ROCm 7 the list is under a name.
    rows = document.get("gpu_data") if isinstance(document, dict) else document
    found = [row for row in _listed(rows) if isinstance(row, dict)]
    return {position: row for row in found if (position := whole(row.get("gpu"))) is not None}


def _by_row(uuid: str, row: Mapping[str, Any], before: dict[str, Counts], at_ns: int) -> Condition:
    def told(*path: str) -> float | None:
        value: Any = row
        for name in path:
            value = _table(value).get(name)
        return number(_table(value).get("value"))

    counts = _counts(row.get("throttle"), 1)
    earlier, before[uuid] = before.get(uuid, counts), counts
    used, busy = told("mem_usage", "used_vram"), told("usage", "gfx_activity")
    hot = told("temperature", "hotspot")
    return Condition(
        uuid=uuid,
        slowed=slowed_by_counts(counts, earlier),
        power_capped=capped_by_counts(counts, earlier),
        power_w=told("power", "socket_power"),
        energy_j=told("energy", "total_energy_consumption") or None,
        clock_mhz=_running([told("clock", f"gfx_{index}", "clk") for index in range(8)]),
        memory_clock_mhz=told("clock", "mem_0", "clk"),
        temperature_c=told("temperature", "edge") if hot is None else hot,
        memory_used_bytes=None if used is None else round(used * MIB),
        utilisation=_part(busy),
        at_ns=at_ns,
    )


def _running(clocks: Sequence[float | None]) -> float | None:
    return next((value for value in clocks if value is not None), None)
