"""Intel's discrete GPUs: through ``xpu-smi``, else what their drivers (i915, xe) show in sysfs.

A device is a card; a Data Center GPU Max 1550 has two tiles, and a server may be given one of them.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pytest_llmperf.records import Accelerator, Device, Scalar, Vendor

from . import intel_conditions
from .base import (
    STEP_S,
    RunTool,
    first_answer,
    number,
    read_number,
    read_text,
    run_tool,
    together,
    whole,
    within,
)
from .conditions import Watcher
from .host import machine_id

_DRM, _PCI = Path("/sys/class/drm"), Path("/sys/bus/pci/devices")
_INTEL = "0x8086"
#: Graphics built into a processor are always here, and are no place for a model.
_BUILT_IN = "0000:00:02.0"
#: Where the tool shows a number for a name, as older drivers do.
PRODUCTS: Mapping[str, str] = {
    "0x0bd5": "Intel(R) Data Center GPU Max 1550",
    "0x0bda": "Intel(R) Data Center GPU Max 1100",
    "0x56a0": "Intel(R) Arc(TM) A770 Graphics",
    "0x56a1": "Intel(R) Arc(TM) A750 Graphics",
    "0x56c0": "Intel(R) Data Center GPU Flex 170",
    "0x56c1": "Intel(R) Data Center GPU Flex 140",
    "0xe20b": "Intel(R) Arc(TM) B580 Graphics",
    "0xe20c": "Intel(R) Arc(TM) B570 Graphics",
    "0xe211": "Intel(R) Arc(TM) Pro B60 Graphics",
    "0xe212": "Intel(R) Arc(TM) Pro B50 Graphics",
}
_NUMBER = re.compile(r"\d+(?:\.\d+)?")


@dataclass(frozen=True, slots=True)
class IntelProbe:
    """``run`` runs a tool; the parameters are replaced in tests."""

    run: RunTool = run_tool
    vendor: Vendor = "intel"
    limit_s: float = STEP_S
    drm: Path = _DRM
    pci: Path = _PCI

    def find(self, env: Mapping[str, str]) -> Accelerator | None:
        def shown(devices: Sequence[Device]) -> list[Device] | None:
            return level_zero(devices, env) if devices else None

        return first_answer(
            self.limit_s,
            (
                ("xpu-smi", lambda: shown(self._by_tool())),
                ("sysfs", lambda: shown(devices_from_drm(self.drm, self.pci, machine_id()))),
            ),
        )

    def watching(self, accelerator: Accelerator) -> AbstractContextManager[Watcher | None]:
        devices = accelerator.devices
        return contextlib.nullcontext(intel_conditions.watcher(self.run, self.pci, devices))

    def memory_in_use(self, accelerator: Accelerator) -> int | None:
        if accelerator.source != "xpu-smi":
            return None
        asked = within(self.limit_s, intel_conditions.by_tool(self.run, accelerator.devices)) or []
        used = {one.uuid: one.memory_used_bytes for one in asked}
        return together([used.get(device.uuid) for device in accelerator.devices])

    def _by_tool(self) -> list[Device]:
        # The list tells names and places; a card's own page tells its memory. Every start of the
        # tool takes a second or two, so that of cards of one kind the first is asked.
        pages: dict[str, Mapping[str, Any]] = {}
        found = []
        for row in parse_list(self.run(["xpu-smi", "discovery", "-j"]) or ""):
            kind = str(row.get("pci_device_id") or row.get("device_name"))
            if kind not in pages:
                number = str(row["device_id"])
                pages[kind] = parse_page(
                    self.run(["xpu-smi", "discovery", "-d", number, "-j"]) or ""
                )
            found.append(_device({**pages[kind], **row}, machine_id(), self.pci))
        return sorted(found, key=lambda device: str(device.details["bus"]))


def parse_list(text: str) -> list[dict[str, Any]]:
    """The cards of ``xpu-smi discovery -j``, 1.x and 2.x; none of a text that is not such JSON."""
    document = parse_json(text)
    rows = document.get("device_list") if isinstance(document, dict) else None
    found = [row for row in rows if isinstance(row, dict)] if isinstance(rows, list) else []
    return [
        row
        for row in found
        if whole(row.get("device_id")) is not None
        and isinstance(row.get("device_name"), str)
        and str(row.get("pci_bdf_address")) != _BUILT_IN
    ]


def parse_page(text: str) -> Mapping[str, Any]:
    """The page of ``xpu-smi discovery -d <id> -j``; 1.x may put it in a list of one."""
    document = parse_json(text)
    rows = document.get("device_list") if isinstance(document, dict) else None
    if isinstance(rows, list) and rows and isinstance(rows[0], dict):
        return rows[0]
    return document if isinstance(document, dict) else {}


def parse_json(text: str) -> object:
    try:
        document: object = json.loads(text)
    except ValueError:
        return None
    return document


def _device(row: Mapping[str, Any], host: str, pci: Path) -> Device:
    bus = str(row.get("pci_bdf_address"))
    details: dict[str, Scalar] = {
        "smi_index": whole(row.get("device_id")),
        "driver": _text(row.get("driver_version")),
        "ecc": {"enabled": True, "disabled": False}.get(str(row.get("memory_ecc_state")).lower()),
        "tiles": whole(row.get("number_of_tiles")) or 1,
        "max_sm_clock_mhz": _figure(row.get("core_clock_rate_mhz", row.get("core_clock_rate"))),
        "smi_uuid": _text(row.get("uuid")),
        **_limits(pci / bus),
        "bus": bus,
    }
    return Device(
        vendor="intel",
        product=product_name(str(row.get("device_name")), str(row.get("pci_device_id"))),
        index=details["smi_index"] if isinstance(details["smi_index"], int) else 0,
        # The tool's own is made of place and kind, so that two machines may share it.
        uuid=f"XPU-{host}-{bus}",
        memory_bytes=whole(row.get("memory_physical_size_byte")) or None,
        details=details,
    )


def product_name(name: str, device: str) -> str:
    """The name, or where it is only a number ("Intel(R) Graphics [0xe211]") what it stands for."""
    if "[0x" in name or name in ("", "None", "N/A"):
        return PRODUCTS.get(device.lower(), f"Intel unknown ({device})")
    return name


def level_zero(devices: Sequence[Device], env: Mapping[str, str]) -> list[Device]:
    """What a server with this environment finds of ``devices``.

    ``ZE_AFFINITY_MASK`` counts tiles, but cards with ``ZE_FLAT_DEVICE_HIERARCHY=COMPOSITE``, whose
    tiles are "card.tile" then. It filters and does not reorder, what names nothing is passed over,
    and an empty one is none (intel/compute-runtime, ``execution_environment.cpp``). A card of which
    some tiles are left has as many "tiles" and that part of its memory.
    """
    whole_cards = env.get("ZE_FLAT_DEVICE_HIERARCHY") == "COMPOSITE"
    names: dict[str, list[tuple[int, int]]] = {}
    flat = 0
    for at, device in enumerate(devices):
        for tile in range(_tiles(device)):
            if whole_cards:
                names.setdefault(str(at), []).append((at, tile))
                names[f"{at}.{tile}"] = [(at, tile)]
            else:
                names[str(flat)] = [(at, tile)]
                flat += 1
    mask = env.get("ZE_AFFINITY_MASK", "")
    entries = list(names) if mask in ("", "default") else mask.split(",")
    left = {piece: entry for entry in entries for piece in names.get(entry, ())}
    return [
        _part(device, sorted({entry for (card, _), entry in left.items() if card == at}), count)
        for at, device in enumerate(devices)
        if (count := sum(card == at for card, _ in left))
    ]


def _part(device: Device, entries: Sequence[str], count: int) -> Device:
    memory, of = device.memory_bytes, _tiles(device)
    part: dict[str, Scalar] = {} if count == of else {"tiles_of_card": of}
    return replace(
        device,
        memory_bytes=None if memory is None else memory * count // of,
        details={**device.details, "tiles": count, **part},
        visible_as=",".join(entries),
    )


def _tiles(device: Device) -> int:
    return max(1, whole(device.details.get("tiles")) or 1)


def devices_from_drm(drm: Path, pci: Path, host: str) -> list[Device]:
    """The cards of the drivers i915 and xe, in the order of the bus."""
    found = []
    for card in drm.glob("card[0-9]*"):
        device = card / "device"
        if "-" in card.name or read_text(device / "vendor") != _INTEL:
            continue
        bus = device.resolve().name
        if bus == _BUILT_IN or (device / "driver").resolve().name not in ("i915", "xe"):
            continue
        found.append(_from_drm(card, bus, pci, host))
    found.sort(key=lambda each: str(each.details["bus"]))
    return [replace(each, index=index) for index, each in enumerate(found)]


def _from_drm(card: Path, bus: str, pci: Path, host: str) -> Device:
    kind = read_text(card / "device" / "device") or ""
    files = sorted((card / "device").glob("tile*/**/physical_vram_size_bytes"))
    files = files or [card / "lmem_total_bytes"]
    return Device(
        vendor="intel",
        product=product_name("", kind),
        index=0,
        uuid=f"XPU-{host}-{bus}",
        memory_bytes=together([read_number(file) for file in files]),
        details={
            "tiles": len(list((card / "device").glob("tile[0-9]*"))) or 1,
            **_limits(pci / bus),
            "bus": bus,
        },
    )


def _limits(place: Path) -> dict[str, Scalar]:
    """The power cap and that of the factory, from the driver's sensors, in microwatts there."""
    sensors = intel_conditions.sensors_of(place)
    names = {"power_limit_w": "power1_max", "power_default_w": "power1_rated_max"}
    found = {name: read_number(sensors / file) if sensors else None for name, file in names.items()}
    return {name: value / 1e6 if value else None for name, value in found.items()}


def _figure(value: object) -> float | None:
    """The number that a text such as "2400 MHz" begins with."""
    match = _NUMBER.match(str(value))
    return None if match is None else number(match[0])


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value not in ("", "N/A") else None
