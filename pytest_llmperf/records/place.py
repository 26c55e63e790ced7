"""Where: accelerators and their devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .common import Scalar, Vendor


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One accelerator, or the host's processor when there is none.

    ``uuid`` is stable across processes and names the lock file; ``memory_bytes`` is the total.
    """

    vendor: Vendor
    product: str
    index: int
    uuid: str
    memory_bytes: int | None = None
    details: Mapping[str, Scalar] = field(default_factory=dict)
    #: What stands for it in its vendor's ``*_VISIBLE_DEVICES``, seen from where it was found.
    visible_as: str | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """What a server runs on: one or more devices of one vendor and product.

    ``source`` says which probe answered ("nvml", "nvidia-smi", "sysfs", "cpuinfo", "override").
    ``parallel`` says how a server is spread over them, where that is known: its sizes above 1 by
    their short names, such as ``{"tp": 8}``, and ``ray`` where a Ray cluster placed its ranks.
    ``nodes`` is how many machines have such devices for a server. ``devices`` are those of this one
    alone, or of ``covered`` of them.
    """

    devices: tuple[Device, ...]
    source: str
    parallel: Mapping[str, int] = field(default_factory=dict)
    nodes: int = 1
    covered: int = 1

    @property
    def vendor(self) -> Vendor:
        return self.devices[0].vendor

    @property
    def product(self) -> str:
        return self.devices[0].product

    @property
    def count(self) -> int:
        return len(self.devices) * self.nodes // self.covered
