"""AMD without any tool: the compute topology and the PCI devices that the kernel shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pytest_llmperf.records import Device, Scalar

from .base import read_number, read_text, together
from .cards import Part

_AMD_PCI = 0x1002
#: How many devices a card is in each mode of partitions; in CPX one a compute die (XCC):
#: torvalds/linux at 04141c0, ``drivers/gpu/drm/amd/amdgpu/aqua_vanjaram.c``, whose table of modes
#: knows cards with 8, 6 (MI300A, the one with TPX) and 4 of them.
_PARTS = {"DPX": 2, "TPX": 3, "QPX": 4, "CPX": 8}
_DIES = {"MI300A": 6, "MI308X": 4}
#: What a memory bank of a node is: the device's own, which processors see or do not (Linux,
#: ``amdkfd/kfd_topology.h``, ``HSA_MEM_HEAP_TYPE_FB_PUBLIC`` and ``_PRIVATE``).
_OWN_BANKS = (1, 2)

#: PCI device, and revision where one chip is sold under several names, to the product.
PRODUCTS: Mapping[str, str] = {
    "0x7408": "AMD Instinct MI250X",
    "0x740c": "AMD Instinct MI250X",
    "0x740f": "AMD Instinct MI210",
    "0x74a0": "AMD Instinct MI300A",
    "0x74a1": "AMD Instinct MI300X",
    "0x74a2": "AMD Instinct MI308X",
    "0x74a5": "AMD Instinct MI325X",
    "0x74b5": "AMD Instinct MI300X VF",
    "0x75a0": "AMD Instinct MI350X",
    "0x75a3": "AMD Instinct MI355X",
    "0x744c/0xc8": "AMD Radeon RX 7900 XTX",
    "0x744c/0xcc": "AMD Radeon RX 7900 XT",
    "0x744c/0xce": "AMD Radeon RX 7900 GRE",
    "0x7448": "AMD Radeon PRO W7900",
    "0x7551": "AMD Radeon AI PRO R9700",
}


def product_name(device: str, revision: str, gfx: str) -> str:
    """The product of a PCI device and revision ("0x744c", "0xc8"); else what is known of it."""
    known = PRODUCTS.get(f"{device}/{revision}") or PRODUCTS.get(device)
    return known or " ".join(part for part in ("AMD", gfx, f"({device})") if part)


def gfx_name(version: int) -> str:
    """The kernel's number for an architecture as it is written: 110000 is gfx1100, 90402 gfx942."""
    major, minor, stepping = version // 10000, version // 100 % 100, version % 100
    return f"gfx{major}{minor:x}{stepping:x}"


def devices_from_kfd(nodes: Path, pci: Path) -> list[Device] | None:
    """The compute nodes that are AMD GPUs and may be opened, in the order of the HIP runtime;
    ``None`` without any."""
    found: list[Device] = []
    for node in sorted(nodes.glob("[0-9]*"), key=lambda path: (len(path.name), path.name)):
        # The kernel hides the nodes of GPUs that this container was not given.
        properties = _properties(node / "properties")
        if _is_gpu(properties):
            found.append(_device(properties, len(found), pci))
    return _told_apart(found) or None


def _is_gpu(properties: Mapping[str, int]) -> bool:
    return properties.get("simd_count", 0) > 0 and properties.get("vendor_id") == _AMD_PCI


def part_of(device: Device) -> Part | None:
    """A partition of a card: its sensors and its count of memory are those of the card."""
    mode = _mode(device)
    if mode not in _PARTS:
        return None
    dies = (count for name, count in _DIES.items() if mode == "CPX" and name in device.product)
    # The tools count partitions by the function, and the rest of the address is the card's.
    bus = device.details.get("bus")
    card = _card(str(bus)) if bus else device.uuid
    return Part(card=card, of=next(dies, _PARTS[mode]))


def with_own_memory(devices: Sequence[Device], nodes: Path) -> list[Device]:
    """``devices`` with the memory that each partition has: what the tools tell of the first one,
    and ``mem_info_vram_total`` of all, is the card's. Unknown where the compute driver does not
    tell."""
    return [
        replace(device, memory_bytes=_memory_of_parts(nodes, str(device.details.get("bus"))))
        if _mode(device) in _PARTS
        else device
        for device in devices
    ]


def _mode(device: Device) -> str:
    return str(device.details.get("compute_partition")).upper()


def _card(bus: str) -> str:
    return bus.rpartition(".")[0]


def _memory_of_parts(nodes: Path, bus: str) -> int | None:
    """What each partition of the card at this address has: its memory bank is that of its memory
    partition (NPS), shared among all that have the same one (Linux, ``amdgpu_amdkfd.c``,
    ``amdgpu_amdkfd_xcp_memory_size``); all are alike."""
    sizes = {
        _banks(node)
        for node in nodes.glob("[0-9]*")
        if _is_gpu(properties := _properties(node / "properties"))
        and _card(_bus(properties)) == _card(bus)
    }
    return sizes.pop() or None if len(sizes) == 1 else None


def _banks(node: Path) -> int:
    banks = [_properties(file) for file in node.glob("mem_banks/[0-9]*/properties")]
    own = (bank for bank in banks if bank.get("heap_type") in _OWN_BANKS)
    return sum(bank.get("size_in_bytes", 0) for bank in own)


def _told_apart(devices: Sequence[Device]) -> list[Device]:
    """Partitions may have the number of their card, all of them."""
    often = Counter(device.uuid for device in devices)
    return [
        replace(device, uuid=f"{device.uuid}-{device.index}") if often[device.uuid] > 1 else device
        for device in devices
    ]


def memory_in_use(pci: Path, devices: Sequence[Device]) -> int | None:
    """Bytes in use on these devices; ``None`` when the kernel does not tell for one of them."""
    files = [pci / str(device.details.get("bus")) / "mem_info_vram_used" for device in devices]
    return together([read_number(file) for file in files])


def kfd_number(nodes: Path, bus: str) -> str | None:
    """What the compute driver calls the device at this address; ``None`` where it does not."""
    found = (
        read_text(node / "gpu_id")
        for node in sorted(nodes.glob("[0-9]*"))
        if _bus(_properties(node / "properties")) == bus
    )
    return next(found, None)


def processes(nodes: Path, number: str | None) -> tuple[int, ...] | None:
    """The processes that hold memory of the device that the compute driver calls so; ``None`` where
    the kernel does not tell. ``/sys/class/kfd/kfd/proc/<pid>/vram_<gpu_id>`` is Linux' since 5.7.
    """
    told = nodes.parent.parent / "proc"
    if number is None or not told.is_dir():
        return None
    files = told.glob(f"[0-9]*/vram_{number}")
    holders = (file.parent.name for file in files if read_number(file))
    return tuple(sorted({int(pid) for pid in holders if pid.isdecimal()}))


def hwmon(pci: Path, bus: str) -> Path | None:
    """Where the kernel shows the sensors of the device at this address, by the names of Linux'
    ``drivers/gpu/drm/amd/pm/amdgpu_pm.c``."""
    return next(iter(sorted((pci / bus / "hwmon").glob("hwmon*"))), None)


def _properties(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in (read_text(path) or "").splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


def _device(properties: Mapping[str, int], position: int, pci: Path) -> Device:
    bus = _bus(properties)
    gfx = gfx_name(properties.get("gfx_target_version", 0))
    sensors = hwmon(pci, bus)
    unique = properties.get("unique_id", 0)
    details: dict[str, Scalar] = {
        "gfx": gfx,
        "driver": read_text(Path("/sys/module/amdgpu/version")),
        "compute_partition": read_text(pci / bus / "current_compute_partition"),
        "memory_partition": read_text(pci / bus / "current_memory_partition"),
        "power_limit_w": _watts(sensors, "power1_cap"),
        "power_default_w": _watts(sensors, "power1_cap_default"),
        "bus": bus,
    }
    return Device(
        vendor="amd",
        product=product_name(
            f"0x{properties.get('device_id', 0):04x}", read_text(pci / bus / "revision") or "", gfx
        ),
        index=position,
        uuid=f"GPU-{unique:016x}" if unique else f"amd-{bus}",
        memory_bytes=read_number(pci / bus / "mem_info_vram_total"),
        details=details,
    )


def _bus(properties: Mapping[str, int]) -> str:
    location = properties.get("location_id", 0)
    slot, function = (location >> 3) & 0x1F, location & 0x7
    return f"{properties.get('domain', 0):04x}:{location >> 8 & 0xFF:02x}:{slot:02x}.{function}"


def _watts(sensors: Path | None, name: str) -> float | None:
    microwatts = read_number(sensors / name) if sensors else None
    return None if microwatts is None else microwatts / 1e6
