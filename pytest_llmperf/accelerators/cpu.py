"""The host's processor, for when there is no accelerator or none is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

from pytest_llmperf.records import Accelerator, Device, Vendor

from . import cpu_conditions, host
from .base import RunTool, run_tool
from .conditions import Watcher


@dataclass(frozen=True, slots=True)
class CpuProbe:
    run: RunTool = run_tool
    vendor: Vendor = "cpu"

    def find(self, env: Mapping[str, str]) -> Accelerator | None:  # noqa: ARG002 - see Probe
        """The processor as one device; its memory is what this process may use of the host's."""
        bounds = host.limits()
        total = host.memory_total()
        device = Device(
            vendor="cpu",
            product=host.cpu_model(self.run),
            index=0,
            uuid="CPU-" + hashlib.sha256(f"{host.machine_id()} cpu".encode()).hexdigest()[:16],
            memory_bytes=bounds.memory_bytes or total,
            details={
                "cores_allowed": len(host.cores_allowed()),
                "cpu_limit": bounds.cpus,
                "threads_per_core": host.threads_per_core(),
                "governor": host.governor(),
            },
        )
        return Accelerator(devices=(device,), source="cpuinfo")

    def watching(self, accelerator: Accelerator) -> AbstractContextManager[Watcher | None]:
        look = cpu_conditions.looker(accelerator.devices[0].uuid)
        if look is None:
            return nullcontext()
        return nullcontext(Watcher(look=look, period_s=cpu_conditions.PERIOD_S, source="sysfs"))

    def memory_in_use(self, accelerator: Accelerator) -> int | None:  # noqa: ARG002 - see Probe
        """Never known: the host's memory is everybody's."""
        return None
