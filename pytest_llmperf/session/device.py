"""A device that is ours from before a launch until nothing of its server is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.accelerators.detect import memory_in_use
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch.locks import DeviceLock, subdirectory
from pytest_llmperf.launch.memory import wait_released
from pytest_llmperf.records import Accelerator

RELEASE_TIMEOUT_S = 120.0
RELEASE_SLACK_BYTES = 512 * 2**20


@dataclass(slots=True, kw_only=True)
class DeviceHold:
    """The lock on the devices of ``accelerator``, and the memory that was in use before a launch.

    With ``beside`` another one holds the same devices at the same time, under one lock.
    """

    accelerator: Accelerator
    lock_dir: Path | None
    beside: DeviceHold | None = None
    _lock: DeviceLock | None = None
    _before: int | None = None

    @property
    def has_lock(self) -> bool:
        """Whether the lock is this one's, and not that of the one beside."""
        return self._lock is not None

    @property
    def descriptors(self) -> tuple[int, ...]:
        """To hand to a keeper, so that the lock outlives us until its server is gone."""
        for hold in (self, self.beside):
            if hold is not None and hold._lock is not None:
                return hold._lock.descriptors
        return ()

    def take(self, holder: str, on_wait: Callable[[str], None]) -> None:
        """Lock the devices, unless they are; ``on_wait`` is told who else has them."""
        if not self.descriptors:
            uuids = [device.uuid for device in self.accelerator.devices]
            lock = DeviceLock(uuids, self.lock_dir or subdirectory("devices"), holder=holder)
            self._lock = lock
            lock.acquire(on_wait=on_wait)
        self._before = memory_in_use(self.accelerator)

    def give_back(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def wait_for_memory(self) -> None:
        """Until as much is free as was before. Raises
        :class:`~pytest_llmperf.errors.ServerError`."""
        released = wait_released(
            lambda: memory_in_use(self.accelerator),
            self._before,
            timeout_s=RELEASE_TIMEOUT_S,
            slack_bytes=RELEASE_SLACK_BYTES,
        )
        if not released:
            raise ServerError(
                f"{self.accelerator.product} still holds its memory {RELEASE_TIMEOUT_S:.0f} s "
                "after the server ended",
                remedy="look for processes left on the device with the vendor's tool",
            )
