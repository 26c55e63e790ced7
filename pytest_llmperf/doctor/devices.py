"""What of the accelerator's devices would spoil a measurement."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from pytest_llmperf.accelerators.conditions import Condition
from pytest_llmperf.records import Accelerator, Device

from .findings import Finding

#: A cap this far below the default is meant, and no rounding of the tool's.
_LEAST_CUT_W = 5
#: Above this part of its highest clock a resting device is held at a clock.
_LOCKED = 0.95
#: More memory than this in use, by nobody known, is no driver's.
_LEAST_SHARE = 0.05
_CAP_BACK = {
    "nvidia": "nvidia-smi -i {index} -pl {watts:.0f} as root gives it back",
    "amd": "amd-smi set --gpu {index} --power-cap {watts:.0f} as root gives it back",
    "intel": "xpu-smi config -d {index} --powerlimit {watts:.0f} as root gives it back",
}
#: Where the driver's own tools did not answer, and files of the kernel had to do.
_MAKESHIFT = frozenset({"procfs", "devfs"})
#: Details that devices of one server should have in common, and what they are called.
_COMMON = {
    "ecc": "ECC",
    "driver": "driver version",
    "power_limit_w": "power cap",
    "compute_partition": "partition mode",
    "vbios": "firmware",
}


#: The tools that come with a vendor's driver.
_TOOLS = {"nvidia": "nvidia-smi", "amd": "amd-smi", "ascend": "npu-smi", "intel": "xpu-smi"}


def check(
    accelerator: Accelerator, looks: Sequence[Sequence[Condition]], proc: Path = Path("/proc")
) -> Iterator[Finding]:
    """Findings about the devices; ``looks`` are what they said of themselves a moment ago."""
    yield from _silent(accelerator)
    yield from _unknown(accelerator)
    yield from _unlike(accelerator)
    for device in accelerator.devices:
        seen = [one for look in looks for one in look if one.uuid == device.uuid]
        yield from _settings(device)
        yield from _now(device, seen, proc)


def name_of(device: Device) -> str:
    return f"{device.product} {device.uuid[:12]}"


def _silent(accelerator: Accelerator) -> Iterator[Finding]:
    tools = [tool for tool in _TOOLS.values() if shutil.which(tool)]
    if accelerator.vendor == "cpu" and tools:
        yield Finding(
            level="warning",
            code="vendor-silent",
            what=f"{' and '.join(tools)} is installed, and no device of its vendor was found",
            why="servers would compute on the processor instead",
            remedy="see what it prints, and that no *_VISIBLE_DEVICES hides the devices",
        )


def _unknown(accelerator: Accelerator) -> Iterator[Finding]:
    if accelerator.source in _MAKESHIFT or "unknown" in accelerator.product:
        yield Finding(
            level="warning",
            code="device-half-known",
            what=f"{accelerator.product} is known from {accelerator.source} alone",
            why="its memory, power cap and condition are not, so that results have a key of their "
            "own and no throttling is seen",
            remedy=f"see that {_TOOLS.get(accelerator.vendor, 'its tool')} works here, and in time",
        )


def _unlike(accelerator: Accelerator) -> Iterator[Finding]:
    for name, word in _COMMON.items():
        values = {str(device.details.get(name)) for device in accelerator.devices}
        if len(values) > 1:
            yield Finding(
                level="warning",
                code="devices-differ",
                what=f"the devices differ in their {word} ({', '.join(sorted(values))})",
                why="the slowest one sets the pace of a server that uses all of them",
                remedy="set them alike, or choose alike ones with the visible-devices variable",
            )


def _settings(device: Device) -> Iterator[Finding]:
    details, name = device.details, name_of(device)
    limit, default = _number(details.get("power_limit_w")), _number(details.get("power_default_w"))
    if limit is not None and default is not None and limit < default - _LEAST_CUT_W:
        index = details.get("smi_index", device.index)
        remedy = _CAP_BACK.get(device.vendor, "set it back with the vendor's tool")
        yield Finding(
            level="warning",
            code="power-cap-below-default",
            what=f"the power cap of {name} is {limit:.0f} W of {default:.0f} W",
            why="figures are those of a weaker card, under a key of their own",
            remedy=remedy.format(index=index, watts=default),
        )
    if details.get("mig") is True or device.uuid.startswith("MIG-"):
        yield Finding(
            level="note",
            code="mig",
            what=f"{name} is a slice, or in MIG mode",
            why="power and clocks are the whole card's, and neighbours warm it",
            remedy="keep the other slices idle while you measure, or turn MIG off",
        )
    partition = details.get("compute_partition")
    if isinstance(partition, str) and partition.upper() != "SPX":
        yield Finding(
            level="note",
            code="partitioned",
            what=f"{name} is partitioned ({partition})",
            why="a device is a part of a card then, and parts share power and memory",
            remedy="amd-smi set --compute-partition SPX as root makes it whole",
        )
    if details.get("persistence") is False:
        yield Finding(
            level="note",
            code="persistence-off",
            what=f"the persistence mode of {name} is off",
            why="the driver starts anew for every server, forgets locked clocks, and costs seconds",
            remedy="nvidia-smi -pm 1 as root keeps it",
        )
    health = details.get("health")
    if isinstance(health, str) and health.upper() != "OK":
        yield Finding(
            level="warning",
            code="unhealthy",
            what=f"{name} calls its health {health}",
            why="a device in trouble may be slow, or stop",
            remedy="npu-smi info -t health and the driver's log tell more",
        )


def _now(device: Device, seen: Sequence[Condition], proc: Path) -> Iterator[Finding]:
    if not seen:
        return
    name = name_of(device)
    if reasons := sorted({reason for one in seen for reason in one.slowed}):
        yield Finding(
            level="warning",
            code="throttled",
            what=f"{name} is slowed now by {', '.join(reasons)}",
            why="it is slow before anything was asked of it, and runs on it would not count",
            remedy="cool it, or look at its power supply",
        )
    if pids := sorted({pid for one in seen for pid in one.processes or ()}):
        yield Finding(
            level="warning",
            code="in-use",
            what=f"{name} is in use by {', '.join(_process(pid, proc) for pid in pids)}",
            why="a server would share it, and runs on it would not count",
            remedy="end what is not yours to measure, or choose another device",
        )
    elif _memory_share(device, seen) > _LEAST_SHARE:
        yield Finding(
            level="warning",
            code="memory-in-use",
            what=f"{_memory_share(device, seen):.0%} of the memory of {name} is in use",
            why="somebody whom one cannot see from here holds it, in another container perhaps",
            remedy="look with the vendor's tool on the host",
        )
    yield from _clock(device, seen, idle=not pids)


def _clock(device: Device, seen: Sequence[Condition], *, idle: bool) -> Iterator[Finding]:
    most, now = _number(device.details.get("max_sm_clock_mhz")), seen[-1].clock_mhz
    if device.vendor == "nvidia" and idle and now and most and now < _LOCKED * most:
        yield Finding(
            level="note",
            code="clocks-not-locked",
            what=f"the clocks of {name_of(device)} are not locked: {now:.0f} of {most:.0f} MHz now",
            why="they follow load and heat, and launches differ by as much",
            remedy="nvidia-smi -lgc MHZ as root locks them at a clock it can keep, -rgc frees them",
        )


def _memory_share(device: Device, seen: Sequence[Condition]) -> float:
    used = seen[-1].memory_used_bytes
    return used / device.memory_bytes if used and device.memory_bytes else 0.0


def _process(pid: int, proc: Path) -> str:
    try:
        return f"process {pid} ({(proc / str(pid) / 'comm').read_text().strip()})"
    except OSError:
        return f"process {pid}"  # of another container


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None
