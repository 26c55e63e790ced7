"""What must match between two runs for their numbers to be compared, and what is good to know."""

from __future__ import annotations

import platform
import socket
import sys
from collections.abc import Sequence

from pytest_llmperf.records import Accelerator, Device, Scalar

from . import host as machine

#: Details of a device that change what it can do. A detail no probe gave is left out.
_MATCHED = ("power_limit_w", "mig", "ecc", "compute_partition", "memory_partition", "tiles")
#: Details of what lies between a device and a server: changed on purpose, now and then.
_BENEATH = ("driver", "vbios")
_POWER_CLASS_W = 10
_POWER_CLASS_FROM_W = 2


def environment(
    accelerator: Accelerator, *, pinned: Sequence[int] | None = None
) -> dict[str, Scalar]:
    """The facts that must be equal for two runs to be comparable; ``None`` where unknown.

    A product's name tells its form factor ("H100 PCIe") and a slice's its profile ("MIG 1g.10gb").
    Power caps are in classes of 10 W. ``pinned`` are the cores that a server on the processor is
    kept on: their number counts, not which they are. Where the devices of an accelerator differ in
    a fact, the values are joined.
    """
    facts: dict[str, Scalar] = {
        "vendor": accelerator.vendor,
        "product": accelerator.product,
        "count": accelerator.count,
        # Rounded: what the kernel keeps for itself changes from boot to boot.
        "memory_gib": _common([_gib(device.memory_bytes) for device in accelerator.devices]),
    }
    for name in _MATCHED:
        if any(name in device.details for device in accelerator.devices):
            facts[name] = _common([_fact(device, name) for device in accelerator.devices])
    facts |= {f"parallel_{name}": size for name, size in sorted(accelerator.parallel.items())}
    if accelerator.vendor == "cpu":
        facts["cpu_cores_pinned"] = None if pinned is None else len(pinned)
    if accelerator.vendor != "remote":
        facts |= _processor()
    return facts


def block(accelerator: Accelerator) -> dict[str, Scalar]:
    """This very machine and these very devices: launches in one block share their luck.

    Of an endpoint that runs elsewhere only that is known.
    """
    devices = ", ".join(sorted(device.uuid for device in accelerator.devices))
    remote = accelerator.vendor == "remote"
    return {"machine": None if remote else machine.machine_id(), "devices": devices}


def beneath(accelerator: Accelerator) -> dict[str, Scalar]:
    """What a server stands on and may change under it: driver, firmware, kernel, C library."""
    facts: dict[str, Scalar] = {}
    for name in _BENEATH:
        if any(device.details.get(name) is not None for device in accelerator.devices):
            facts[name] = _common([device.details.get(name) for device in accelerator.devices])
    if accelerator.vendor != "remote":
        facts |= {"kernel": platform.release(), "libc": " ".join(platform.libc_ver())}
    return facts


def host() -> dict[str, Scalar]:
    """The machine that the test run is on."""
    return {
        "hostname": socket.gethostname(),
        "machine": machine.machine_id(),
        "os": platform.platform(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_implementation": sys.implementation.name,
        "memory_gib": _gib(machine.memory_total()),
        **_processor(),
    }


def _processor() -> dict[str, Scalar]:
    bounds = machine.limits()
    return {
        "cpu_model": machine.cpu_model(),
        "cpu_cores_allowed": len(machine.cores_allowed()),
        "cpu_threads_per_core": machine.threads_per_core(),
        "cpu_governor": machine.governor(),
        "cpu_limit": bounds.cpus,
        "memory_limit_gib": _gib(bounds.memory_bytes),
    }


def _gib(amount: int | None) -> int | None:
    return None if amount is None else round(amount / 2**30)


def _fact(device: Device, name: str) -> Scalar:
    value = device.details.get(name)
    # Tools and drivers report the same cap with different fractions of a watt: no class may begin
    # at a cap that cards are sold with, and those are multiples of 5 W.
    if name == "power_limit_w" and isinstance(value, int | float):
        return int((value + _POWER_CLASS_FROM_W) // _POWER_CLASS_W) * _POWER_CLASS_W
    return value


def _common(values: Sequence[Scalar]) -> Scalar:
    """The value that all devices share, else all of them as text."""
    if all(value == values[0] for value in values):
        return values[0]
    return ", ".join(map(str, values))
