"""What NVIDIA's devices say of themselves under load: through NVML, else ``nvidia-smi``."""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .base import RunTool, number
from .conditions import Condition

#: Bits of the clocks' event reasons. The power cap, 0x4, is where a card is meant to run under
#: load, and the others are idling, settings and synchronisation.
SLOWED = {
    0x08: "hardware slowdown",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "power brake",
}
_ASKED = "uuid,clocks_event_reasons.active,clocks.sm"
#: What drivers before 535 call it.
_ASKED_BEFORE = "uuid,clocks_throttle_reasons.active,clocks.sm"


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
        # A slice of a card knows none of these, and a container may hide the processes.
        try:
            return read()
        except nvml.NVMLError:
            return None

    reasons = ask(lambda: _reasons(nvml)(handle))
    clock = ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
    running = ask(lambda: nvml.nvmlDeviceGetComputeRunningProcesses(handle))
    return Condition(
        uuid=uuid,
        slowed=slowed(reasons or 0),
        clock_mhz=None if clock is None else float(clock),
        processes=None if running is None else tuple(int(one.pid) for one in running),
    )


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
        processes = dict(_processes(_table(run, "compute-apps", "gpu_uuid,pid")))
        rows = _table(run, "gpu", asked)
        return [_by_tool(row, processes) for row in rows if len(row) == 3 and row[0] in uuids]

    return look


def _answers(run: RunTool, names: str) -> bool:
    return bool(_table(run, "gpu", names))


def _table(run: RunTool, what: str, names: str) -> list[list[str]]:
    text = run(["nvidia-smi", f"--query-{what}={names}", "--format=csv,noheader,nounits"]) or ""
    return list(csv.reader(text.splitlines(), skipinitialspace=True))


def _processes(rows: Iterable[Sequence[str]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    found: dict[str, tuple[int, ...]] = {}
    for row in rows:
        if len(row) == 2 and row[1].isdecimal():
            found[row[0]] = (*found.get(row[0], ()), int(row[1]))
    yield from found.items()


def _by_tool(row: Sequence[str], processes: dict[str, tuple[int, ...]]) -> Condition:
    uuid, reasons, clock = row
    return Condition(
        uuid=uuid,
        slowed=slowed(int(reasons, 16)) if reasons.lower().startswith("0x") else (),
        clock_mhz=number(clock),
        processes=processes.get(uuid),
    )
