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


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerator:
    """What a server runs on: one or more devices of one vendor and product.

    ``source`` says which probe answered ("nvml", "nvidia-smi", "sysfs", "cpuinfo", "override").
    """

    devices: tuple[Device, ...]
    source: str

    @property
    def vendor(self) -> Vendor:
        return self.devices[0].vendor

    @property
    def product(self) -> str:
        return self.devices[0].product

    @property
    def count(self) -> int:
        return len(self.devices)
