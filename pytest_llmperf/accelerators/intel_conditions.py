"""What Intel's GPUs say of themselves under load: through sysfs, else ``xpu-smi stats``.

The drivers count energy and tell why a clock is held down, and reading that costs next to nothing;
starting ``xpu-smi`` takes a second or two each time, and it tells no reasons. It alone tells memory
in use.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.records import Device

from . import cards
from .base import MIB, READ_S, WATCH_S, RunTool, number, read_number, read_text, whole, within
from .conditions import Condition, Watcher

SYSFS_S, TOOL_S = 1.0, 2.5
#: What the drivers call the reasons: i915 with "throttle_reason_" before, xe with "reason_".
_REASONS = {
    "thermal": "thermal slowdown",
    "prochot": "processor hot",
    "ratl": "running average thermal limit",
    "vr_thermalert": "regulator thermal slowdown",
    "vr_tdc": "regulator current limit",
}
_CAPS = ("pl1", "pl2", "pl4")
#: ``xpu-smi`` 1.x names each figure; the device's own list has it, else those of its tiles, of
#: which power and memory are added up and of all else the first one counts.
_POWER, _CLOCK = "XPUM_STATS_POWER", "XPUM_STATS_GPU_FREQUENCY"
_HEAT, _MEMORY = "XPUM_STATS_GPU_CORE_TEMPERATURE", "XPUM_STATS_MEMORY_USED"
_BUSY = "XPUM_STATS_GPU_UTILIZATION"
_ADDED = (_POWER, _MEMORY)

Look = Callable[[], Sequence[Condition]]


def watcher(run: RunTool, pci: Path, devices: Sequence[Device]) -> Watcher | None:
    look = by_sysfs(pci, devices)
    if within(READ_S, lambda: any(one.energy_j is not None for one in look())):
        return Watcher(look=_once(look, devices), period_s=SYSFS_S, source="sysfs")
    asked = by_tool(run, devices)
    told = within(WATCH_S, asked)
    return Watcher(look=asked, period_s=TOOL_S, source="xpu-smi") if told else None


def part_of(device: Device) -> cards.Part | None:
    """A device of which only some tiles were given: the card's figures are not theirs."""
    of, here = whole(device.details.get("tiles_of_card")), whole(device.details.get("tiles"))
    return cards.Part(card=device.uuid, here=here, of=of) if of and here else None


def _once(look: Look, devices: Sequence[Device]) -> Look:
    return cards.counted_once(look, devices, part_of, cards.POWER_AND_MEMORY)


def sensors_of(place: Path) -> Path | None:
    """The sensors of the card. i915 shows some of each tile beside them, as "i915_gt0" (Linux,
    ``drivers/gpu/drm/i915/i915_hwmon.c``)."""
    found = sorted((place / "hwmon").glob("hwmon*"))
    return next((each for each in found if read_text(each / "name") in ("i915", "xe")), None)


# --- sysfs -----------------------------------------------------------------------------------


def by_sysfs(pci: Path, devices: Sequence[Device]) -> Look:
    """Reads what the drivers i915 and xe show; power is the energy since the look before."""
    before: dict[str, tuple[int, float]] = {}
    return lambda: [_by_sysfs(pci / str(each.details.get("bus")), each, before) for each in devices]


def _by_sysfs(place: Path, device: Device, before: dict[str, tuple[int, float]]) -> Condition:
    sensors = sensors_of(place)

    def sensor(name: str) -> int | None:
        return read_number(sensors / name) if sensors else None

    at_ns, microjoules = clock.now_ns(), sensor("energy1_input")
    energy_j = None if microjoules is None else microjoules / 1e6
    spent_s, power_w = 0.0, None
    if energy_j is not None:
        then_ns, then_j = before.get(device.uuid, (at_ns, energy_j))
        before[device.uuid] = at_ns, energy_j
        spent_s = (at_ns - then_ns) / 1e9
        power_w = (energy_j - then_j) / spent_s if spent_s > 0 and energy_j >= then_j else None
    # Of a card under xe the second is the package's; i915 has one.
    heat = next((t for name in ("temp2", "temp1") if (t := sensor(f"{name}_input"))), None)
    clocks = _files(place, "rps_act_freq_mhz", "freq0/act_freq")
    return Condition(
        uuid=device.uuid,
        slowed=tuple(word for name, word in _REASONS.items() if _is_on(place, name)),
        power_capped=_capped(place),
        power_w=power_w,
        power_over_s=spent_s if power_w is not None else 0.0,
        power_derived=power_w is not None,
        energy_j=energy_j,
        temperature_c=None if heat is None else heat / 1000,
        clock_mhz=next((float(mhz) for file in clocks if (mhz := read_number(file))), None),
        at_ns=at_ns,
    )


def _files(place: Path, old: str, new: str) -> list[Path]:
    """Of each part of the card: i915 keeps them with the DRM device, xe with the tiles."""
    return [*sorted(place.glob(f"drm/card*/gt/gt*/{old}")), *sorted(place.glob(f"tile*/gt*/{new}"))]


def _is_on(place: Path, reason: str) -> bool:
    files = _files(place, f"throttle_reason_{reason}", f"freq0/throttle/reason_{reason}")
    return any(read_number(file) for file in files)


def _capped(place: Path) -> bool | None:
    known = [
        read_number(file)
        for cap in _CAPS
        for file in _files(place, f"throttle_reason_{cap}", f"freq0/throttle/reason_{cap}")
    ]
    return any(known) if known else None


# --- xpu-smi ---------------------------------------------------------------------------------


def by_tool(run: RunTool, devices: Sequence[Device]) -> Look:
    """Asks ``xpu-smi`` card by card."""

    def look() -> list[Condition]:
        asked = ((device, _stats(run, device)) for device in devices)
        return [_by_tool(device.uuid, stats) for device, stats in asked if stats]

    return _once(look, devices)


def _stats(run: RunTool, device: Device) -> Mapping[str, object]:
    index = whole(device.details.get("smi_index"))
    if index is None:
        return {}
    try:
        document = json.loads(run(["xpu-smi", "stats", "-d", str(index), "-j"]) or "")
    except ValueError:
        return {}
    if isinstance(document, list) and document:
        document = document[0]
    return document if isinstance(document, dict) and "error" not in document else {}


def _by_tool(uuid: str, stats: Mapping[str, object]) -> Condition:
    named = _named(stats)
    used = _figure(named, _MEMORY, stats, "memory", "used_mib")
    busy = _figure(named, _BUSY, stats, "utilization", "gpu_percent")
    return Condition(
        uuid=uuid,
        power_w=_figure(named, _POWER, stats, "power", "gpu_power_w"),
        clock_mhz=_figure(named, _CLOCK, stats, "frequency", "gpu_frequency_mhz"),
        temperature_c=_figure(named, _HEAT, stats, "temperature", "gpu_core_celsius"),
        memory_used_bytes=None if used is None else round(used * MIB),
        utilisation=None if busy is None or not 0 <= busy <= 100 else busy / 100,
        at_ns=clock.now_ns(),
    )


def _figure(
    named: Mapping[str, float], name: str, stats: Mapping[str, object], group: str, key: str
) -> float | None:
    """From the names of 1.x, else from the tree of 2.x, of whose tiles the first one counts; power
    and memory of all of them are added up."""
    if name in named:
        return named[name]
    table = stats.get(group)
    tiles = table.get(key) if isinstance(table, dict) else None
    if not isinstance(tiles, dict):
        return None
    values = [value for tile in tiles.values() if (value := _current(tile)) is not None]
    if not values:
        return None
    return sum(values) if group in ("power", "memory") else values[0]


def _current(tile: object) -> float | None:
    return number(tile.get("current")) if isinstance(tile, dict) else number(tile)


def _named(stats: Mapping[str, object]) -> dict[str, float]:
    listed = stats.get("tile_level")
    rows = listed if isinstance(listed, list) else []
    tiles = [_figures(tile.get("data_list")) for tile in rows if isinstance(tile, dict)]
    found = dict(tiles[0]) if tiles else {}
    for name in _ADDED:
        told = [tile[name] for tile in tiles if name in tile]
        found.pop(name, None)
        # A sum without one of them would be no sum.
        if told and len(told) == len(tiles):
            found[name] = sum(told)
    return {**found, **_figures(stats.get("device_level"))}


def _figures(rows: object) -> dict[str, float]:
    found: dict[str, float] = {}
    for row in rows if isinstance(rows, list) else ():
        value = number(row.get("value")) if isinstance(row, dict) else None
        if value is not None:
            found.setdefault(str(row.get("metrics_type")), value)
    return found
