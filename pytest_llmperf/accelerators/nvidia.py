"""NVIDIA: through NVML where its Python binding is installed, else through ``nvidia-smi``."""

from __future__ import annotations

import contextlib
import csv
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from pytest_llmperf.records import Accelerator, Device, Scalar, Vendor

from .base import MIB, RunTool, alike, mebibytes, number, run_tool, visible
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
#: Asking the library takes a millisecond; the tool starts a process each time.
_NVML_S, _TOOL_S = 1.0, 5.0
_VISIBLE = "CUDA_VISIBLE_DEVICES"


@dataclass(frozen=True, slots=True)
class NvidiaProbe:
    """``load`` imports NVML's binding; both parameters are replaced in tests."""

    run: RunTool = run_tool
    load: Callable[[str], ModuleType] = importlib.import_module
    vendor: Vendor = "nvidia"

    def find(self, env: Mapping[str, str]) -> Accelerator | None:
        chosen = env.get(_VISIBLE)
        with _nvml(self.load) as nvml:
            if nvml is not None:
                devices = devices_from_rows(_nvml_rows(nvml))
                devices += _slices(nvml, chosen)
                return alike(visible(devices, chosen), "nvml")
        query = ["nvidia-smi", f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits"]
        devices = devices_from_rows(parse_csv(self.run(query) or ""))
        return alike(visible(devices, chosen), "nvidia-smi")

    @contextlib.contextmanager
    def watching(self, accelerator: Accelerator) -> Iterator[Watcher | None]:
        uuids = [device.uuid for device in accelerator.devices]
        with _nvml(self.load) as nvml:
            if nvml is not None:
                yield Watcher(look=by_nvml(nvml, uuids), period_s=_NVML_S)
                return
        look = by_tool(self.run, uuids)
        yield None if look is None else Watcher(look=look, period_s=_TOOL_S)

    def memory_in_use(self, accelerator: Accelerator) -> int | None:
        uuids = [device.uuid for device in accelerator.devices]
        with _nvml(self.load) as nvml:
            if nvml is not None:
                handles = map(nvml.nvmlDeviceGetHandleByUUID, uuids)
                return sum(int(nvml.nvmlDeviceGetMemoryInfo(handle).used) for handle in handles)
        query = ["nvidia-smi", "--query-gpu=uuid,memory.used", "--format=csv,noheader,nounits"]
        return parse_memory_used(self.run(query) or "", uuids)


# --- nvidia-smi ------------------------------------------------------------------------------


def parse_csv(text: str) -> list[dict[str, str]]:
    """The rows of ``nvidia-smi --query-gpu``; lines of another length (warnings) are left out."""
    rows = csv.reader(text.splitlines(), skipinitialspace=True)
    return [dict(zip(FIELDS, row, strict=True)) for row in rows if len(row) == len(FIELDS)]


def parse_memory_used(text: str, uuids: Iterable[str]) -> int | None:
    """Bytes in use on these devices; ``None`` when one of them is not in the table."""
    rows = (row for row in csv.reader(text.splitlines(), skipinitialspace=True) if len(row) == 2)
    used = {uuid: mebibytes(amount) for uuid, amount in rows}
    amounts = [used.get(uuid) for uuid in uuids]
    known = [amount for amount in amounts if amount is not None]
    return sum(known) if len(known) == len(amounts) else None


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
    }


def _state(text: str) -> bool | None:
    return {"enabled": True, "disabled": False}.get(text.strip().lower())


# --- NVML ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _nvml(load: Callable[[str], ModuleType]) -> Iterator[Any]:
    """NVML, started; ``None`` without its binding, its library or a driver."""
    try:
        nvml: Any = load("pynvml")
    except ImportError:
        yield None
        return
    try:
        nvml.nvmlInit()
    except nvml.NVMLError:
        yield None
        return
    try:
        yield nvml
    finally:
        nvml.nvmlShutdown()


def _nvml_rows(nvml: Any) -> list[dict[str, str]]:
    handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
    return [_nvml_row(nvml, index, handle) for index, handle in enumerate(handles)]


def _nvml_row(nvml: Any, index: int, handle: Any) -> dict[str, str]:
    def ask(read: Callable[[], object]) -> str:
        # Each card knows only some of these, as nvidia-smi says too.
        try:
            value = read()
        except nvml.NVMLError:
            return "[N/A]"
        return value.decode() if isinstance(value, bytes) else str(value)

    def switch(read: Callable[[], Any]) -> Callable[[], object]:
        return lambda: "Enabled" if read()[0] else "Disabled"

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
