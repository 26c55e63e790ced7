"""What the devices of a server were like while a run was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

#: Whose memory ``Telemetry.peak_memory_bytes`` is.
MemoryOf = Literal["devices", "processes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Samples of one device as columns of equal length, for drawing.

    ``at_s`` counts from the first request written; the last sample before it and the first one
    after the last token are there too. A column that is unknown throughout is ``None``, a single
    unknown value in one as well. ``slowed`` and ``power_capped`` are shares of the samples that a
    row stands for: rows of a long run are several samples merged into one.
    """

    at_s: tuple[float, ...]
    power_w: tuple[float | None, ...] | None = None
    clock_mhz: tuple[float | None, ...] | None = None
    memory_clock_mhz: tuple[float | None, ...] | None = None
    temperature_c: tuple[float | None, ...] | None = None
    memory_used_bytes: tuple[int | None, ...] | None = None
    utilisation: tuple[float | None, ...] | None = None
    slowed: tuple[float | None, ...] | None = None
    power_capped: tuple[float | None, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceTelemetry:
    """One device in the window of one run, over its ``samples`` there.

    ``energy_j`` is what it drew from the first request written to the last token, ``energy_from``
    says by what; where it is ``None``, ``energy_missing`` says why. ``slowed`` are the shares of
    samples in which its clocks were held down, by reason; ``power_capped_share`` those at its power
    cap, which is no trouble.
    """

    uuid: str
    index: int
    product: str
    samples: int
    energy_j: float | None = None
    energy_from: Literal["counter", "power"] | None = None
    energy_missing: str = ""
    power_mean_w: float | None = None
    power_max_w: float | None = None
    clock_p50_mhz: float | None = None
    memory_clock_p50_mhz: float | None = None
    temperature_max_c: float | None = None
    memory_max_bytes: int | None = None
    utilisation_mean: float | None = None
    slowed: Mapping[str, float] = field(default_factory=dict)
    power_capped_share: float | None = None
    series: Series


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """What the devices cost, by the user's price file: ``per_device_hour`` in ``currency``, one of
    which was worth ``usd`` dollars on the day ``dated``. ``matched`` is the line of the file that
    holds; ``note`` says if it is old, in words."""

    per_device_hour: float
    currency: str
    usd: float
    devices: int
    dated: str
    source: str
    matched: str
    note: str = ""

    @property
    def usd_per_hour(self) -> float:
        """Of all devices together."""
        return self.per_device_hour * self.usd * self.devices


@dataclass(frozen=True, slots=True, kw_only=True)
class Telemetry:
    """What was seen of the devices during one run.

    ``source`` says who was asked ("" for nobody), every ``period_s``; ``cpu_share`` is what asking
    cost, of one core, tools that were started not included. ``energy_j`` is the sum over
    ``devices``, ``None`` with the reason in ``energy_missing`` where one of them does not know its
    own. ``peak_memory_bytes`` is the most that was in use on the devices together in any sample
    (``peak_memory_of`` "devices"), or the sum of the largest resident sets that the server's
    processes had since they began ("processes": a server on the processor; pages that they share
    count for each); ``peak_memory_missing`` says why it is not known. ``price`` is what cost was
    worked out by.
    """

    source: str = ""
    period_s: float | None = None
    cpu_share: float | None = None
    energy_j: float | None = None
    energy_missing: str = ""
    peak_memory_bytes: int | None = None
    peak_memory_of: MemoryOf | None = None
    peak_memory_missing: str = ""
    devices: tuple[DeviceTelemetry, ...] = ()
    price: Price | None = None
