"""What NVIDIA's devices say of themselves under load: through NVML, else ``nvidia-smi``."""

from __future__ import annotations

import contextlib
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from pytest_llmperf import clock

from .base import RunTool, mebibytes, number
from .conditions import Condition

#: Bits of the clocks' event reasons. The power cap, 0x4, is where a card is meant to run under
#: load, and the others are idling, settings and synchronisation.
SLOWED = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_POWER_CAP = 0x04
_ASKED = (
    "uuid",
    "clocks_event_reasons.active",
    "clocks.sm",
    "clocks.mem",
    "power.draw",
    "temperature.gpu",
    "memory.used",
    "utilization.gpu",
)
#: What drivers before 535 call it.
_ASKED_BEFORE = (_ASKED[0], "clocks_throttle_reasons.active", *_ASKED[2:])
#: ``NVML_FI_DEV_POWER_AVERAGE`` of nvml.h: power averaged over the last second, on Ampere (but for
#: GA100) and newer. Of such readings, one a second, none misses what happened between.
_POWER_AVERAGE, _AVERAGED_S = 185, 1.0


def slowed(reasons: int) -> tuple[str, ...]:
    """The names of those reasons that spoil a measurement."""
    return tuple(name for bit, name in SLOWED.items() if reasons & bit)


# --- NVML ------------------------------------------------------------------------------------


def by_nvml(nvml: Any, uuids: Iterable[str]) -> Callable[[], list[Condition]]:
    """Asks NVML, which must stay open, of these devices."""
    handles = []
    for uuid in uuids:
        with contextlib.suppress(nvml.NVMLError):
            handles.append((uuid, nvml.nvmlDeviceGetHandleByUUID(uuid)))
    return lambda: [_by_nvml(nvml, uuid, handle) for uuid, handle in handles]


def _by_nvml(nvml: Any, uuid: str, handle: Any) -> Condition:
    def ask(read: Callable[[], Any]) -> Any:
        # A slice of a card knows none of these, a container may hide the processes, and a binding
        # may be older.
        try:
            return read()
        except (nvml.NVMLError, AttributeError):
            return None

    def number(read: Callable[[], Any], per: float = 1.0) -> float | None:
        value = ask(read)
        return None if value is None else float(value) / per

    reasons = ask(lambda: _reasons(nvml)(handle))
    running = ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used)
    averaged = ask(lambda: _averaged_power(nvml, handle))
    now = (
        None if averaged is not None else number(lambda: nvml.nvmlDeviceGetPowerUsage(handle), 1e3)
    )
    return Condition(
        uuid=uuid,
        slowed=slowed(reasons or 0),
        power_capped=None if reasons is None else bool(reasons & _POWER_CAP),
        clock_mhz=number(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
        memory_clock_mhz=number(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
        temperature_c=number(
            lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)
        ),
        memory_used_bytes=None if memory is None else int(memory),
        utilisation=number(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu, 1e2),
        processes=None if running is None else tuple(int(one.pid) for one in running),
        power_w=now if averaged is None else averaged,
        power_over_s=0.0 if averaged is None else _AVERAGED_S,
        # Last of all, right before the stamp: it changes fastest.
        energy_j=number(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle), 1e3),
        at_ns=clock.now_ns(),
    )


def _averaged_power(nvml: Any, handle: Any) -> float | None:
    """Watts over the last second; ``None`` from cards that do not know the field."""
    (field,) = nvml.nvmlDeviceGetFieldValues(handle, [_POWER_AVERAGE])
    return float(field.value.uiVal) / 1e3 if field.nvmlReturn == nvml.NVML_SUCCESS else None


def _reasons(nvml: Any) -> Callable[[Any], int]:
    """Under its name of today, or under that of bindings before 12.535."""
    today = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    found: Callable[[Any], int] = today or nvml.nvmlDeviceGetCurrentClocksThrottleReasons
    return found


# --- nvidia-smi ------------------------------------------------------------------------------


def by_tool(run: RunTool, uuids: Sequence[str]) -> Callable[[], list[Condition]] | None:
    """Asks ``nvidia-smi`` of these devices; ``None`` where it does not answer."""
    asked = next((names for names in (_ASKED, _ASKED_BEFORE) if _answers(run, names)), None)
    if asked is None:
        return None

    def look() -> list[Condition]:
        processes = dict(_processes(_table(run, "compute-apps", ("gpu_uuid", "pid"))))
        rows = [dict(zip(_ASKED, row, strict=False)) for row in _table(run, "gpu", asked)]
        full = (row for row in rows if len(row) == len(_ASKED))
        return [_by_tool(row, processes) for row in full if row["uuid"] in uuids]

    return look


def _answers(run: RunTool, names: Sequence[str]) -> bool:
    return bool(_table(run, "gpu", names))


def _table(run: RunTool, what: str, names: Sequence[str]) -> list[list[str]]:
    query = f"--query-{what}={','.join(names)}"
    text = run(["nvidia-smi", query, "--format=csv,noheader,nounits"]) or ""
    return list(csv.reader(text.splitlines(), skipinitialspace=True))


def _processes(rows: Iterable[Sequence[str]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    found: dict[str, tuple[int, ...]] = {}
    for row in rows:
        if len(row) == 2 and row[1].isdecimal():
            found[row[0]] = (*found.get(row[0], ()), int(row[1]))
    yield from found.items()


def _by_tool(row: Mapping[str, str], processes: Mapping[str, tuple[int, ...]]) -> Condition:
    reasons = _bits(row["clocks_event_reasons.active"])
    busy = number(row["utilization.gpu"])
    return Condition(
        uuid=row["uuid"],
        slowed=slowed(reasons or 0),
        power_capped=None if reasons is None else bool(reasons & _POWER_CAP),
        clock_mhz=number(row["clocks.sm"]),
        memory_clock_mhz=number(row["clocks.mem"]),
        temperature_c=number(row["temperature.gpu"]),
        memory_used_bytes=mebibytes(row["memory.used"]),
        utilisation=None if busy is None else busy / 100,
        processes=processes.get(row["uuid"]),
        power_w=number(row["power.draw"]),
    )


def _bits(text: str) -> int | None:
    return int(text, 16) if re.fullmatch(r"0[xX][0-9a-fA-F]+", text) else None
