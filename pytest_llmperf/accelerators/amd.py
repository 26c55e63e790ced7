"""AMD: through the ``amdsmi`` library, else ``amd-smi``, else what the kernel says in sysfs.

Devices are put in the order of the HIP runtime, which is not that of ``amd-smi``: only that order
gives ``HIP_VISIBLE_DEVICES`` its meaning.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_llmperf.records import Accelerator, Device, Json, Scalar, Vendor

from . import amd_conditions, amd_sysfs, cards
from .base import (
    CLOSE_S,
    MIB,
    STEP_S,
    RunTool,
    first_answer,
    number,
    run_tool,
    together,
    visible,
    whole,
    within,
)
from .conditions import Watcher

_KFD = Path("/sys/class/kfd/kfd/topology/nodes")
_PCI = Path("/sys/bus/pci/devices")
_LAST = 1 << 30
#: Graphics built into a processor have less of their own, and are no place for a model.
_LEAST_MEMORY = 2 << 30


@dataclass(frozen=True, slots=True)
class AmdProbe:
    """``load`` imports the library; the parameters are replaced in tests."""

    run: RunTool = run_tool
    load: Callable[[str], ModuleType] = importlib.import_module
    kfd: Path = _KFD
    pci: Path = _PCI
    vendor: Vendor = "amd"
    limit_s: float = STEP_S

    def find(self, env: Mapping[str, str]) -> Accelerator | None:
        def shown(devices: Sequence[Device] | None) -> list[Device] | None:
            if devices is None:
                return None
            left = visible(devices, env.get("ROCR_VISIBLE_DEVICES"))
            # HIP looks at the first of these that is set, and counts in what ROCr has left.
            chosen = env.get("HIP_VISIBLE_DEVICES", env.get("CUDA_VISIBLE_DEVICES"))
            serving = [gpu for gpu in visible(left, chosen) if _serves(gpu)]
            return amd_sysfs.with_own_memory(serving, self.kfd)

        return first_answer(
            self.limit_s,
            (
                ("amdsmi", lambda: shown(self._by_library())),
                ("amd-smi", lambda: shown(self._by_tool())),
                ("sysfs", lambda: shown(amd_sysfs.devices_from_kfd(self.kfd, self.pci))),
            ),
        )

    def _by_library(self) -> list[Device] | None:
        with _library(self.load) as library:
            return None if library is None else parse_static(_library_rows(library))

    def _by_tool(self) -> list[Device] | None:
        static = self._json("static")
        if not static:
            return None
        listed = self._json("list", "-e") or self._json("list")
        return parse_static(_joined(static, listed))

    @contextlib.contextmanager
    def watching(self, accelerator: Accelerator) -> Iterator[Watcher | None]:
        """Through the library; else through sysfs, which costs next to nothing; else the tool."""
        devices, hangs = accelerator.devices, threading.Event()
        if accelerator.source == "amdsmi":
            start = _Held(self.load)
            library = within(self.limit_s, start.take)
            if library is not None:
                try:
                    look = amd_conditions.by_library(library, devices)
                    yield Watcher(
                        look=_once(look, devices),
                        period_s=amd_conditions.LIBRARY_S,
                        source="amdsmi",
                        hangs=hangs,
                    )
                finally:
                    if not hangs.is_set():
                        within(min(self.limit_s, CLOSE_S), start.give_back)
                return
        found = amd_conditions.without_library(self.run, self.kfd, self.pci, devices)
        yield None if found is None else replace(found, look=_once(found.look, devices))

    def memory_in_use(self, accelerator: Accelerator) -> int | None:
        devices = cards.one_each(accelerator.devices, amd_sysfs.part_of)
        if devices is None:
            return None
        numbers = [device.details.get("smi_index") for device in devices]
        asked: dict[str, Callable[[], int | None]] = {
            "amdsmi": lambda: self._library_memory(numbers),
            "amd-smi": lambda: parse_memory_used(self._json("metric", "--mem-usage"), numbers),
        }

        def kernel() -> int | None:
            return amd_sysfs.memory_in_use(self.pci, devices)

        return within(self.limit_s, asked.get(accelerator.source, kernel))

    def _library_memory(self, numbers: Sequence[Scalar]) -> int | None:
        with _library(self.load) as library:
            if library is None:
                return None
            handles = library.amdsmi_get_processor_handles()
            vram = library.AmdSmiMemoryType.VRAM
            try:
                return sum(
                    int(library.amdsmi_get_gpu_memory_usage(handles[number], vram))
                    for number in numbers
                )
            except library.AmdSmiException:
                return None

    def _json(self, *words: str) -> list[dict[str, Any]]:
        return parse_rows(self.run(["amd-smi", *words, "--json"]) or "")


def _once(look: cards.Look, devices: Sequence[Device]) -> cards.Look:
    return cards.counted_once(look, devices, amd_sysfs.part_of, cards.POWER_AND_MEMORY)


# --- amd-smi ---------------------------------------------------------------------------------


def parse_rows(text: str) -> list[dict[str, Any]]:
    """The entries of an ``amd-smi … --json`` answer: a list, or since ROCm 7 under "gpu_data".

    Nothing when the text is not JSON: some versions print a warning instead.
    """
    try:
        document = json.loads(text)
    except ValueError:
        return []
    rows = document.get("gpu_data") if isinstance(document, dict) else document
    if not isinstance(rows, list):
        return []
    return [row for row in rows if isinstance(row, dict) and whole(row.get("gpu")) is not None]


def parse_static(rows: Sequence[Mapping[str, Any]]) -> list[Device]:
    """Devices in the order of HIP from ``amd-smi static`` rows, joined with those of ``list``."""
    ordered = sorted(rows, key=_hip_order)
    return [_device(row, position) for position, row in enumerate(ordered)]


def parse_memory_used(rows: Sequence[Mapping[str, Any]], numbers: Sequence[Scalar]) -> int | None:
    """Bytes in use on the devices of these ``amd-smi`` numbers; ``None`` if one is not told."""
    used = {whole(row["gpu"]): bytes_of(dig(row, "mem_usage", "used_vram")) for row in rows}
    return together([used.get(whole(wanted)) for wanted in numbers])


def _joined(
    static: Sequence[dict[str, Any]], listed: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    by_number = {whole(row["gpu"]): row for row in listed}
    return [row | {"listed": by_number.get(whole(row["gpu"]), {})} for row in static]


def _hip_order(row: Mapping[str, Any]) -> tuple[float, float, int]:
    def rank(name: str) -> float:
        value = number(dig(row, "listed", name))
        return _LAST if value is None else value

    # HIP numbers devices as the kernel numbers its nodes; older tools tell only the latter.
    return rank("hip_id"), rank("node_id"), int(row["gpu"])


def _device(row: Mapping[str, Any], position: int) -> Device:
    asic = row.get("asic")
    asic = asic if isinstance(asic, Mapping) else {}
    bus = dig(row, "bus", "bdf") or dig(row, "listed", "bdf")
    hip_uuid = _known(dig(row, "listed", "hip_uuid"))
    uuid = hip_uuid or _known(dig(row, "listed", "uuid")) or f"amd-{bus}"
    return Device(
        vendor="amd",
        product=_product(asic),
        index=position,
        uuid=str(uuid),
        memory_bytes=bytes_of(dig(row, "vram", "size")),
        details={
            "smi_index": int(row["gpu"]),
            "gfx": _known(asic.get("target_graphics_version")),
            "driver": _known(dig(row, "driver", "version") or dig(row, "driver", "driver_version")),
            "power_limit_w": _power_limit(row.get("limit")),
            "power_default_w": number(dig(row, "limit", "default_power", "value")),
            "compute_partition": _known(dig(row, "partition", "compute_partition")),
            "memory_partition": _known(dig(row, "partition", "memory_partition")),
            "bus": _known(bus),
        },
    )


def _product(asic: Mapping[str, Any]) -> str:
    device, revision = str(asic.get("device_id", "")).lower(), str(asic.get("rev_id", "")).lower()
    name = str(asic.get("market_name", "N/A"))
    # Without its own name table the tool shows a number, or all names of a chip in brackets.
    if name == "N/A" or name.startswith("0x") or "[" in name:
        return amd_sysfs.product_name(
            device, revision, str(asic.get("target_graphics_version", ""))
        )
    return name


def _power_limit(limit: object) -> float | None:
    """The limit in force, in watts; its place has moved from version to version."""
    places = (
        ("ppt0", "socket_power_limit"),
        ("socket_power_limit",),
        ("current_power",),
        ("socket_power",),
        ("max_power",),
    )
    values = (number(dig(limit, *place, "value")) for place in places)
    return next((value for value in values if value), None)


def bytes_of(size: object) -> int | None:
    """``{"value": 24560, "unit": "MB"}`` or a bare number of MB, which are MiB in fact."""
    value, unit = size, "MB"
    if isinstance(size, dict):
        value, unit = size.get("value"), str(size.get("unit", "MB"))
    amount = number(value)
    scale = {"B": 1, "KB": 1024, "MB": MIB, "GB": 1024 * MIB}.get(unit.upper())
    return None if amount is None or scale is None else round(amount * scale)


def _serves(device: Device) -> bool:
    return device.memory_bytes is None or device.memory_bytes >= _LEAST_MEMORY


def dig(row: object, *path: str) -> Any:
    """What lies at a path of an answer, ``None`` where nothing does."""
    value: Any = row
    for name in path:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value


def _known(value: object) -> Scalar:
    if not isinstance(value, str | int | float) or value in ("N/A", ""):
        return None
    return value


# --- the library -----------------------------------------------------------------------------


@dataclass(slots=True)
class _Held:
    """The ``amdsmi`` library, started by ``take`` and ended by ``give_back``."""

    load: Callable[[str], ModuleType]
    library: Any = None

    def take(self) -> Any:
        """``None`` without it or without a driver."""
        try:
            library: Any = self.load("amdsmi")
        except (ImportError, OSError, KeyError, AttributeError, RuntimeError):
            return None  # the binding needs the library of the ROCm it was made for
        try:
            library.amdsmi_init()
        except library.AmdSmiException:
            return None
        self.library = library
        return library

    def give_back(self) -> None:
        with contextlib.suppress(self.library.AmdSmiException):
            self.library.amdsmi_shut_down()


@contextlib.contextmanager
def _library(load: Callable[[str], ModuleType]) -> Iterator[Any]:
    held = _Held(load)
    library = held.take()
    try:
        yield library
    finally:
        if library is not None:
            held.give_back()


def _library_rows(library: Any) -> list[dict[str, Any]]:
    handles = library.amdsmi_get_processor_handles()
    return [_library_row(library, position, handle) for position, handle in enumerate(handles)]


def _library_row(library: Any, position: int, handle: Any) -> dict[str, Any]:
    def ask(name: str, *extra: object) -> Any:
        # A function may be younger than the library, and a card may not know the answer.
        try:
            return getattr(library, name)(handle, *extra)
        except (AttributeError, library.AmdSmiException):
            return None

    total = ask("amdsmi_get_gpu_memory_total", library.AmdSmiMemoryType.VRAM)
    caps = ask("amdsmi_get_power_cap_info")
    listed: dict[str, Json] = dict(ask("amdsmi_get_gpu_enumeration_info") or {})
    return {
        "gpu": position,
        "asic": ask("amdsmi_get_gpu_asic_info") or {},
        "bus": {"bdf": ask("amdsmi_get_gpu_device_bdf")},
        "driver": ask("amdsmi_get_gpu_driver_info") or {},
        "vram": {"size": {"value": total, "unit": "B"}},
        "limit": {
            "socket_power": {"value": _watts(dig(caps, "power_cap"))},
            "default_power": {"value": _watts(dig(caps, "default_power_cap"))},
        },
        "partition": {
            "compute_partition": ask("amdsmi_get_gpu_compute_partition"),
            "memory_partition": ask("amdsmi_get_gpu_memory_partition"),
        },
        "listed": {"uuid": ask("amdsmi_get_gpu_device_uuid"), **listed},
    }


def _watts(microwatts: object) -> float | None:
    value = number(microwatts)
    return None if value is None else value / 1e6
