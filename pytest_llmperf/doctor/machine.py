"""What of the host would spoil a measurement: cores, limits, governor, others at work."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pytest_llmperf.accelerators import host

from .findings import Finding

#: More than this part of the cores at work for a minute is somebody's work.
_BUSY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """What matters of the machine; ``load`` is how many wanted a core in the last minute."""

    model: str
    cores: Sequence[int]
    cores_here: int
    limits: host.Limits
    memory_bytes: int
    governor: str | None
    load: float


def look() -> Host:
    return Host(
        model=host.cpu_model(),
        cores=host.cores_allowed(),
        cores_here=os.cpu_count() or 1,
        limits=host.limits(),
        memory_bytes=host.memory_total(),
        governor=host.governor(),
        load=os.getloadavg()[0],
    )


def fact(seen: Host) -> str:
    cores = f"{len(seen.cores)} of {seen.cores_here} cores allowed"
    return f"{seen.model}, {cores}, {seen.memory_bytes / 2**30:.0f} GiB"


def check(seen: Host, *, computes: bool) -> Iterator[Finding]:
    """Findings about the host; ``computes`` when servers run on its processor."""
    count, limits = len(seen.cores), seen.limits
    if count < 2:
        yield Finding(
            level="warning",
            code="one-core",
            what="only one core is allowed",
            why="the load client competes with the server for it, so figures tell of both",
            remedy="allow two or more (taskset, --cpus, a larger runner)",
        )
    elif computes:
        yield Finding(
            level="note",
            code="no-accelerator",
            what="no accelerator",
            why="servers compute on the processor, on all allowed cores but the last, which is the "
            "client's",
            remedy="on a machine with one, see that its driver's tool answers",
        )
    if limits.cpus is not None and limits.cpus < count:
        yield Finding(
            level="warning",
            code="cpu-quota",
            what=f"a control group allows {limits.cpus:g} CPUs' time on {count} cores",
            why="when it is used up, server and client are stopped for a part of every tenth of a "
            "second",
            remedy="give whole cores instead (--cpuset-cpus, a static CPU manager)",
        )
    if limits.memory_bytes is not None and limits.memory_bytes < seen.memory_bytes:
        yield Finding(
            level="note",
            code="memory-limit",
            what=f"a control group allows {limits.memory_bytes / 2**30:.1f} of "
            f"{seen.memory_bytes / 2**30:.0f} GiB",
            why="a server that needs more is killed, without a word in its log",
            remedy="raise it if a model that should fit does not start",
        )
    if seen.governor not in (None, "performance"):
        yield Finding(
            level="note",
            code="governor",
            what=f"the processor's governor is {seen.governor}",
            why="clocks follow the load, and short runs are slower than long ones",
            remedy="cpupower frequency-set -g performance as root",
        )
    if seen.load > _BUSY * seen.cores_here:
        yield Finding(
            level="warning",
            code="busy",
            what=f"{seen.load:.1f} tasks wanted {seen.cores_here} cores in the last minute",
            why="others at work slow server and client at times of their choosing",
            remedy="wait for them to end, or measure elsewhere",
        )
