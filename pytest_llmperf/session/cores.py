"""Which CPU cores the server gets and which the load client gets."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_llmperf.load.client import processes_needed
from pytest_llmperf.records import Accelerator, Workload


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Disjoint sets where both can be given one; ``None`` leaves a side where it is."""

    server: tuple[int, ...] | None
    client: tuple[int, ...] | None


def split_cores(
    accelerator: Accelerator,
    workloads: Sequence[Workload] = (),
    *,
    processes: int | None = None,
    pin: bool = True,
) -> Cores:
    """The last allowed cores for the client, the others for a server that computes on the CPU.

    The client gets one for each of its ``processes``, by default as many as the largest load of
    ``workloads`` needs. Beside an accelerator these may be half of all; of those that a server
    computes on, nothing is taken beyond one unless it is asked for. Without pinning, launches of a
    CPU server differ by several times as much, and the client that times it competes with it. A
    server on an accelerator is left where the system puts it. Without ``pin`` all are.

    Sessions beside each other on different accelerators have clients on different cores, as far as
    there are so many: the first device's gets the last ones, the next one's those before.
    """
    allowed = _allowed()
    if len(allowed) < 2 or not pin:
        return Cores(server=None, client=None)
    on_cpu = accelerator.vendor == "cpu"
    half = len(allowed) // 2
    by_load = 1 if on_cpu else max((processes_needed(one, half) for one in workloads), default=1)
    count = min(processes or by_load, len(allowed) - 1)
    if on_cpu:
        return Cores(server=allowed[:-count], client=allowed[-count:])
    places = max(1, half // count)
    end = len(allowed) - accelerator.devices[0].index % places * count
    return Cores(server=None, client=allowed[end - count : end])


def _allowed() -> tuple[int, ...]:
    if not hasattr(os, "sched_getaffinity"):
        return ()
    return tuple(sorted(os.sched_getaffinity(0)))
