"""NVIDIA: through NVML where its Python binding is installed, else through ``nvidia-smi``, else
what the driver says of itself below ``/proc``."""

from __future__ import annotations

import contextlib
import csv
import importlib
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from pytest_llmperf import clock
from pytest_llmperf.records import Accelerator, Device, Scalar, Vendor

from .base import (
    CLOSE_S,
    MIB,
    STEP_S,
    RunTool,
    first_answer,
    mebibytes,
    number,
    read_text,
    run_tool,
    together,
    visible,
    within,
)
from .conditions import Watcher
from .nvidia_conditions import by_nvml, by_tool

#: The columns asked of nvidia-smi; NVML's answers are brought into the same shape.
FIELDS = (
    "index",
    "uuid",
    "name",
    "memory.total",
    "driver_version",
    "power.limit",
    "mig.mode.current",
    "ecc.mode.current",
    "clocks.max.sm",
    "vbios_version",
)
#: What else is good to know; not all drivers know these names, and one they do not know fails all.
MORE_FIELDS = (*FIELDS, "power.default_limit", "persistence_mode", "pci.bus_id")
#: Asking the library takes a millisecond; the tool starts a process each time.
_NVML_S, _TOOL_S = 1.0, 2.5
_VISIBLE = "CUDA_VISIBLE_DEVICES"
_PROC = Path("/proc/driver/nvidia/gpus")
#: The sources that answer when the library does not: it is not asked again then.
_WITHOUT_LIBRARY = frozenset({"nvidia-smi", "procfs"})
_SLICE = re.compile(r"^\s+MIG (?P<profile>\S+)\s+Device\s+\d+: \(UUID: (?P<uuid>MIG-[^)\s]+)\)")
_CARD = re.compile(r"^GPU \d+: .*\(UUID: (?P<uuid>GPU-[^)\s]+)\)")


@dataclass(frozen=True, slots=True)
class NvidiaProbe:
    """``load`` imports NVML's binding; the parameters are replaced in tests."""

    run: RunTool = run_tool
    load: Callable[[str], ModuleType] = importlib.import_module
    vendor: Vendor = "nvidia"
    limit_s: float = STEP_S
    proc: Path = _PROC

    def find(self, env: Mapping[str, str]) -> Accelerator | None:
        chosen = env.get(_VISIBLE)
        return first_answer(
            self.limit_s,
            (
                ("nvml", lambda: self._by_library(chosen)),
                ("nvidia-smi", lambda: self._by_tool(chosen)),
                ("procfs", lambda: self._by_proc(chosen)),
            ),
        )

    @contextlib.contextmanager
    def watching(self, accelerator: Accelerator) -> Iterator[Watcher | None]:
        uuids = [device.uuid for device in accelerator.devices]
        hangs = threading.Event()
        with self._library(accelerator, hangs) as nvml:
            if nvml is not None:
                look = by_nvml(nvml, uuids)
                yield Watcher(look=look, period_s=_NVML_S, source="nvml", hangs=hangs)
                return
        asked = within(self.limit_s, lambda: by_tool(self.run, uuids))
        yield None if asked is None else Watcher(look=asked, period_s=_TOOL_S, source="nvidia-smi")

    def memory_in_use(self, accelerator: Accelerator) -> int | None:
        uuids = [device.uuid for device in accelerator.devices]
        with self._library(accelerator) as nvml:
            if nvml is not None:
                return within(self.limit_s, lambda: _memory_in_use(nvml, uuids))
        query = ["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
        return within(self.limit_s, lambda: parse_memory_used(self.run(query) or "", uuids))

    @contextlib.contextmanager
    def _library(
        self, accelerator: Accelerator, hangs: threading.Event | None = None
    ) -> Iterator[Any]:
        if accelerator.source in _WITHOUT_LIBRARY:
            yield None
            return
        nvml = within(self.limit_s, lambda: _start(self.load))
        try:
            yield nvml
        finally:
            if nvml is not None and not (hangs and hangs.is_set()):
                within(min(self.limit_s, CLOSE_S), nvml.nvmlShutdown)

    def _by_library(self, chosen: str | None) -> list[Device] | None:
        nvml = _start(self.load)
        if nvml is None:
            return None
        try:
            cards = devices_from_rows(_nvml_rows(nvml))
            shown = visible([*cards, *_slices(nvml, chosen)], chosen)
            return as_cuda_sees(shown, lambda card: _first_slice(nvml, card))
        finally:
            nvml.nvmlShutdown()

    def _by_tool(self, chosen: str | None) -> list[Device] | None:
        asked = clock.Stopwatch()
        cards = self._table(MORE_FIELDS)
        # A tool that hung will hang again; one that did not know a column fails at once.
        if not cards and asked.elapsed < self.limit_s / 2:
            cards = self._table(FIELDS)
        if not cards:
            return None
        slices: Mapping[str, Sequence[Device]] = {}
        if any(card.details["mig"] for card in cards):
            slices = parse_slices(self.run(["nvidia-smi", "-L"]) or "", cards)
        pieces = [piece for of_card in slices.values() for piece in of_card]
        by_name = chosen is not None and "MIG-" in chosen
        shown = visible([*cards, *pieces] if by_name else cards, chosen)
        return as_cuda_sees(shown, lambda card: next(iter(slices.get(card.uuid, ())), None))

    def _table(self, fields: Sequence[str]) -> list[Device]:
        query = ["nvidia-smi", f"--query-gpu={','.join(fields)}", "--format=csv,noheader,nounits"]
        return devices_from_rows(parse_csv(self.run(query) or "", fields))

    def _by_proc(self, chosen: str | None) -> list[Device] | None:
        cards = devices_from_proc(self.proc)
        return list(visible(cards, chosen)) if cards else None


def as_cuda_sees(
    shown: Iterable[Device], first_slice: Callable[[Device], Device | None]
) -> list[Device]:
    """The devices with each card in MIG mode replaced by its first slice, or gone without one.

    A process of CUDA sees a single slice, however many there are (NVIDIA's MIG User Guide, "Device
    Enumeration").
    """
    seen: list[Device] = []
    for device in shown:
        if not device.details.get("mig"):
            seen.append(device)
        elif piece := first_slice(device):
            seen.append(replace(piece, visible_as=piece.uuid))
    whole_cards = [device for device in seen if not device.uuid.startswith("MIG-")]
    return whole_cards or seen[:1]


# --- nvidia-smi ------------------------------------------------------------------------------


def parse_csv(text: str, fields: Sequence[str] = FIELDS) -> list[dict[str, str]]:
    """The rows of ``nvidia-smi --query-gpu``; what is no device (warnings) is left out."""
    rows = (dict(zip(fields, row, strict=True)) for row in _csv(text) if len(row) == len(fields))
    return [row for row in rows if row["uuid"].startswith("GPU-") and row["index"].isdecimal()]


def parse_slices(text: str, cards: Sequence[Device]) -> dict[str, list[Device]]:
    """The MIG slices of ``nvidia-smi -L`` by the UUID of their card; it tells no memory."""
    by_uuid = {card.uuid: card for card in cards}
    found: dict[str, list[Device]] = {}
    card: Device | None = None
    for line in text.splitlines():
        if match := _CARD.match(line):
            card = by_uuid.get(match["uuid"])
        elif card is not None and (match := _SLICE.match(line)):
            piece = replace(
                card,
                product=f"{card.product} MIG {match['profile']}",
                uuid=match["uuid"],
                memory_bytes=None,
                details={**card.details, "mig": None},
            )
            found.setdefault(card.uuid, []).append(piece)
    return found


def parse_memory_used(text: str, uuids: Iterable[str]) -> int | None:
    """Bytes in use on these devices; ``None`` when one of them is not in the table."""
    used = {row[0]: mebibytes(row[1]) for row in _csv(text) if len(row) == 2}
    return together([used.get(uuid) for uuid in uuids])


def _csv(text: str) -> Iterator[list[str]]:
    try:
        yield from csv.reader(text.splitlines(), skipinitialspace=True)
    except csv.Error:
        return  # not what this tool prints: what came before it may still be


def devices_from_rows(rows: Iterable[Mapping[str, str]]) -> list[Device]:
    """One device a row, in the order of NVML, which is that of the PCI bus."""
    return [
        Device(
            vendor="nvidia",
            product=row["name"],
            index=int(row["index"]),
            uuid=row["uuid"],
            memory_bytes=mebibytes(row["memory.total"]),
            details=_details(row),
        )
        for row in rows
    ]


def _details(row: Mapping[str, str]) -> dict[str, Scalar]:
    return {
        "driver": row["driver_version"],
        "power_limit_w": number(row["power.limit"]),
        "mig": _state(row["mig.mode.current"]),
        "ecc": _state(row["ecc.mode.current"]),
        "max_sm_clock_mhz": number(row["clocks.max.sm"]),
        "vbios": row["vbios_version"],
        "power_default_w": number(row.get("power.default_limit")),
        "persistence": _state(row.get("persistence_mode", "")),
        "bus": row.get("pci.bus_id"),
    }


def _state(text: str) -> bool | None:
    return {"enabled": True, "disabled": False}.get(text.strip().lower())


# --- /proc -----------------------------------------------------------------------------------


def devices_from_proc(directory: Path) -> list[Device]:
    """The cards that the driver names without being asked for more: no memory, no limits.

    Each has a file ``<bus>/information`` of "Model: …", "GPU UUID: …", "Video BIOS: …".
    """
    texts = [read_text(card / "information") or "" for card in sorted(directory.glob("*:*"))]
    tables = [dict(_pairs(text)) for text in texts]
    cards = [table for table in tables if table.get("GPU UUID", "").startswith("GPU-")]
    return [
        Device(
            vendor="nvidia",
            product=table.get("Model") or "NVIDIA unknown",
            index=index,
            uuid=table["GPU UUID"],
            details={"vbios": table.get("Video BIOS"), "bus": table.get("Bus Location")},
        )
        for index, table in enumerate(cards)
    ]


def _pairs(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            yield name.strip(), value.strip()


# --- NVML ------------------------------------------------------------------------------------


def _start(load: Callable[[str], ModuleType]) -> Any:
    """NVML, started; ``None`` without its binding, its library or a driver."""
    try:
        nvml: Any = load("pynvml")
    except ImportError:
        return None
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        return None
    return nvml


def _memory_in_use(nvml: Any, uuids: Iterable[str]) -> int | None:
    try:
        handles = [nvml.nvmlDeviceGetHandleByUUID(uuid) for uuid in uuids]
        return sum(int(nvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles)
    except nvml.NVMLError:
        return None


def _nvml_rows(nvml: Any) -> Iterator[dict[str, str]]:
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            handle = nvml.nvmlDeviceGetHandleByIndex(index)
        except nvml.NVMLError:
            continue  # lost from the bus, or not this container's
        yield _nvml_row(nvml, index, handle)


def _nvml_row(nvml: Any, index: int, handle: Any) -> dict[str, str]:
    def ask(read: Callable[[], object]) -> str:
        # Each card knows only some of these, as nvidia-smi says too; a binding may be older.
        try:
            value = read()
        except (nvml.NVMLError, AttributeError):
            return "[N/A]"
        return value.decode() if isinstance(value, bytes) else str(value)

    def switch(read: Callable[[], Any]) -> Callable[[], object]:
        def state() -> str:
            found = read()
            # A mode now and one pending, or the mode alone.
            now = found[0] if isinstance(found, list | tuple) else found
            return "Enabled" if now else "Disabled"

        return state

    return {
        "index": str(index),
        "uuid": ask(lambda: nvml.nvmlDeviceGetUUID(handle)),
        "name": ask(lambda: nvml.nvmlDeviceGetName(handle)),
        "memory.total": ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).total // MIB),
        "driver_version": ask(nvml.nvmlSystemGetDriverVersion),
        "power.limit": ask(lambda: nvml.nvmlDeviceGetPowerManagementLimit(handle) / 1000),
        "mig.mode.current": ask(switch(lambda: nvml.nvmlDeviceGetMigMode(handle))),
        "ecc.mode.current": ask(switch(lambda: nvml.nvmlDeviceGetEccMode(handle))),
        "clocks.max.sm": ask(lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)),
        "vbios_version": ask(lambda: nvml.nvmlDeviceGetVbiosVersion(handle)),
        "power.default_limit": ask(
            lambda: nvml.nvmlDeviceGetPowerManagementDefaultLimit(handle) / 1000
        ),
        "persistence_mode": ask(switch(lambda: nvml.nvmlDeviceGetPersistenceMode(handle))),
        "pci.bus_id": ask(lambda: nvml.nvmlDeviceGetPciInfo(handle).busId),
    }


def _slices(nvml: Any, chosen: str | None) -> list[Device]:
    """MIG slices that were chosen by UUID; they are devices of their own."""
    wanted = [entry.strip() for entry in (chosen or "").split(",")]
    handles = []
    for uuid in wanted:
        # One that does not exist hides itself and all after it, as it does from CUDA.
        with contextlib.suppress(nvml.NVMLError):
            if uuid.startswith("MIG-"):
                handles.append(nvml.nvmlDeviceGetHandleByUUID(uuid))
    return devices_from_rows(_nvml_row(nvml, i, handle) for i, handle in enumerate(handles))


def _first_slice(nvml: Any, card: Device) -> Device | None:
    try:
        handle = nvml.nvmlDeviceGetHandleByUUID(card.uuid)
        most = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
    except nvml.NVMLError:
        return None
    for index in range(most):
        # The places of slices that were not made are empty.
        with contextlib.suppress(nvml.NVMLError):
            piece = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            return devices_from_rows([_nvml_row(nvml, card.index, piece)])[0]
    return None
