"""What devices say of themselves while a run is measured, and when that spoils the run."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from pytest_llmperf.records import Accelerator, Device

#: A single sample may catch the end of what happened before the run.
_SHARE_SLOWED = 0.05
#: Under load a clock this far below the highest one is held down, by whatever does not say so.
_LEAST_CLOCK = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One device at one moment; ``None`` wherever it cannot tell.

    ``slowed`` names why its clocks were held down other than by its power cap, which
    ``power_capped`` tells of: that is where a card is meant to run. ``clock_mhz`` is that of its
    cores; ``processes`` are those that use it. ``power_w`` is what the whole device draws now, or
    on the average of the ``power_over_s`` seconds before; ``energy_j`` a counter of the device's
    own, in joules from whenever it began, that only grows; it is not worked out from ``power_w``.
    ``power_derived`` says that ``power_w`` was worked out from ``energy_j``; ``untold`` why the
    device does not tell these, in words, where that is known. ``memory_used_bytes`` counts
    everybody's. ``utilisation`` is from 0 to 1. ``at_ns`` is when the
    device was read, on :mod:`pytest_llmperf.clock`; of one without, the middle of the look counts.
    """

    uuid: str
    slowed: tuple[str, ...] = ()
    clock_mhz: float | None = None
    processes: tuple[int, ...] | None = None
    power_w: float | None = None
    energy_j: float | None = None
    temperature_c: float | None = None
    memory_clock_mhz: float | None = None
    memory_used_bytes: int | None = None
    utilisation: float | None = None
    power_capped: bool | None = None
    power_over_s: float = 0.0
    power_derived: bool = False
    untold: str = ""
    at_ns: int | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watcher:
    """``look`` asks all devices once and raises nothing: what a device does not tell is ``None``
    there, and a device that does not answer is left out. It runs in a thread. ``period_s`` is how
    often that may be, by what it costs; energy needs samples at most 3 s apart, so 2.5 s leave
    room for a look that takes its time. ``source`` says who answers, as in
    :class:`~pytest_llmperf.records.Accelerator`; ``advice`` how to be told more, in words, "" where
    this is all there is. ``hangs`` is set by who gave up waiting for a look: a library that is
    still at work in its thread must not be closed."""

    look: Callable[[], Sequence[Condition]]
    period_s: float
    source: str = ""
    advice: str = ""
    hangs: threading.Event = field(default_factory=threading.Event, compare=False)


def troubles(
    accelerator: Accelerator, samples: Sequence[Sequence[Condition]], own: Collection[int]
) -> list[str]:
    """Why a run during which the devices gave these ``samples`` says little about the server, in
    words; ``own`` are the process ids of the server."""
    return [why for device in accelerator.devices for why in _of(device, samples, own)]


def _of(
    device: Device, samples: Sequence[Sequence[Condition]], own: Collection[int]
) -> Iterator[str]:
    seen = [one for sample in samples for one in sample if one.uuid == device.uuid]
    if not seen:
        return
    name = f"{device.product} {device.uuid[:12]}"
    if slowed := _slowed(seen):
        yield f"throttled: {name} by {slowed}; cool it, or look at its power supply and its limits"
    elif low := _low_clock(device, seen):
        yield f"throttled: {name} ran at {low}; see what holds its clocks down"
    if others := _others(seen, own):
        yield f"shared: {name} was used by {others} as well; end it, or measure elsewhere"


def _slowed(seen: Sequence[Condition]) -> str:
    counts = Counter(reason for one in seen for reason in one.slowed)
    often = [(n, reason) for reason, n in counts.items() if n > _SHARE_SLOWED * len(seen)]
    return ", ".join(f"{why} in {n} of {len(seen)} samples" for n, why in sorted(often)[::-1])


def _low_clock(device: Device, seen: Sequence[Condition]) -> str:
    most = device.details.get("max_sm_clock_mhz")
    clocks = sorted(one.clock_mhz for one in seen if one.clock_mhz is not None)
    if not clocks or not isinstance(most, int | float):
        return ""
    middle = clocks[len(clocks) // 2]
    return f"{middle:.0f} of {most:.0f} MHz" if middle < _LEAST_CLOCK * most else ""


def _others(seen: Sequence[Condition], own: Collection[int]) -> str:
    """Foreign processes; nobody's where ours are not among those told of, as in a container."""
    found = {pid for one in seen for pid in one.processes or ()}
    foreign = sorted(found - set(own))
    if not found & set(own) or not foreign:
        return ""
    return f"process{'es' if len(foreign) > 1 else ''} {', '.join(map(str, foreign))}"
