"""A device that is ours from before a launch until nothing of its server is left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.accelerators.detect import memory_in_use
from pytest_llmperf.errors import ServerError, UsageMistake
from pytest_llmperf.launch.locks import DeviceLock, lock_one_of, subdirectory
from pytest_llmperf.launch.memory import wait_released
from pytest_llmperf.records import Accelerator, Device

from .devices import Allotment

RELEASE_TIMEOUT_S = 120.0
RELEASE_SLACK_BYTES = 512 * 2**20


@dataclass(slots=True, kw_only=True)
class DeviceHold:
    """The lock on the devices of ``accelerator``, and the memory that was in use before a launch.

    Where ``allotment`` leaves a choice it is made when they are taken first, and holds from then
    on: launches of one server share the luck of their devices. ``like`` is another one whose choice
    is followed as far as it goes. With ``beside`` another one holds the same devices at the same
    time, under one lock.
    """

    accelerator: Accelerator
    lock_dir: Path | None
    allotment: Allotment | None = None
    like: DeviceHold | None = None
    beside: DeviceHold | None = None
    _chosen: bool = False
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
            groups = self._groups()
            uuids = [[device.uuid for device in self._held(group).devices] for group in groups]
            directory = self.lock_dir or subdirectory("devices")
            place, self._lock = lock_one_of(uuids, directory, holder=holder, on_wait=on_wait)
            self.accelerator, self._chosen = groups[place], True
        elif self.beside is not None:
            self.accelerator, self._chosen = self.beside.accelerator, True
        self._before = memory_in_use(self._held(self.accelerator))

    def _held(self, chosen: Accelerator) -> Accelerator:
        return chosen if self.allotment is None else self.allotment.held(chosen)

    def _groups(self) -> list[Accelerator]:
        if self.allotment is None or self._chosen:
            return [self.accelerator]
        groups = self.allotment.groups(self._followed)
        # What is compared runs on the same devices, and waits for them.
        return groups[:1] if self._followed else groups

    @property
    def _followed(self) -> tuple[Device, ...]:
        other = self.like
        return other.accelerator.devices if other is not None and other._chosen else ()

    def give_back(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def wait_for_memory(self) -> None:
        """Until as much is free as was before. Raises
        :class:`~pytest_llmperf.errors.ServerError`."""
        released = wait_released(
            lambda: memory_in_use(self._held(self.accelerator)),
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


def check_as_many(one: Allotment | None, other: Allotment | None) -> None:
    """Raise UsageMistake for servers that cannot be up beside each other: their one lock has to be
    on all devices of each."""
    if one is None or other is None:
        return
    ours, theirs = len(one.usual.devices), len(other.usual.devices)
    if ours != theirs:
        raise UsageMistake(
            f"--llmperf-side-by-side: the server uses {ours} device{'s' * (ours > 1)} and its "
            f"reference {theirs}, and both have to be up on the same; give both as many, or leave "
            "the option out."
        )


def on_others(one: DeviceHold, other: DeviceHold) -> tuple[list[str], list[str]] | None:
    """The UUIDs of each, where as many devices that were taken are not the same ones; what they are
    told by may differ from side to side."""
    if not (one.allotment and other.allotment):
        return None
    ours, theirs = (sorted(each.uuid for each in hold.accelerator.devices) for hold in (one, other))
    return (ours, theirs) if len(ours) == len(theirs) and ours != theirs else None
