"""What the vendors' probes share: running their tools, and choosing among the devices found."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from pytest_llmperf.records import Accelerator, Device, Vendor

from .conditions import Watcher

_TOOL_S = 10.0
MIB = 1024 * 1024

#: Runs a vendor's tool; its output, or ``None`` when it is absent, fails or hangs.
RunTool = Callable[[Sequence[str]], str | None]


class Probe(Protocol):
    """One vendor's way of finding out what is here.

    ``find`` gives the devices that a server started with ``env`` would see, ``None`` for none.
    ``memory_in_use`` gives the bytes in use on all devices together, ``None`` where unknown.
    ``watching`` gives what tells their condition under load, ``None`` where nothing does.
    """

    @property
    def vendor(self) -> Vendor: ...

    def find(self, env: Mapping[str, str]) -> Accelerator | None: ...

    def memory_in_use(self, accelerator: Accelerator) -> int | None: ...

    def watching(self, accelerator: Accelerator) -> AbstractContextManager[Watcher | None]: ...


def run_tool(argv: Sequence[str]) -> str | None:
    """The standard output of a vendor's tool, or ``None``."""
    if shutil.which(argv[0]) is None:
        return None
    try:
        done = subprocess.run(
            argv, capture_output=True, text=True, errors="replace", timeout=_TOOL_S, check=False
        )
    except (subprocess.TimeoutExpired, OSError):
        return None  # a driver that hangs is no reason to hang too: the next probe may answer
    return done.stdout if done.returncode == 0 else None


def visible(devices: Sequence[Device], chosen: str | None) -> tuple[Device, ...]:
    """The devices that a ``*_VISIBLE_DEVICES`` variable leaves, in its order.

    ``None`` leaves all. Entries are positions in ``devices`` or the beginning of a UUID. As in the
    vendors' own runtimes, the first entry that names nothing ends the list.
    """
    if chosen is None:
        return tuple(devices)
    left: list[Device] = []
    for entry in chosen.split(","):
        device = _named(devices, entry.strip())
        if device is None:
            break
        left.append(device)
    return tuple(left)


def _named(devices: Sequence[Device], entry: str) -> Device | None:
    if entry.isdecimal():
        position = int(entry)
        return devices[position] if position < len(devices) else None
    found = [device for device in devices if entry and device.uuid.startswith(entry)]
    return found[0] if len(found) == 1 else None


def alike(devices: Sequence[Device], source: str) -> Accelerator | None:
    """The devices as one accelerator, or ``None`` for none.

    Of several products the one with the most memory counts: the others are usually the graphics
    of the processor or a card for the display.
    """
    if not devices:
        return None
    product = max(devices, key=lambda device: device.memory_bytes or 0).product
    return Accelerator(
        devices=tuple(device for device in devices if device.product == product), source=source
    )


def number(text: object) -> float | None:
    """``text`` as a number; ``None`` for the tools' ways to say that they do not know."""
    try:
        return float(str(text).strip())
    except ValueError:
        return None


def mebibytes(text: object) -> int | None:
    """A number of MiB, in bytes."""
    value = number(text)
    return None if value is None else round(value * MIB)
