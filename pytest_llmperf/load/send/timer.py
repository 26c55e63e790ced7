"""An alarm on the monotonic clock that is precise to some microseconds.

Event loops round their timers to milliseconds, which is several requests late at a thousand a
second. Linux has timers that are files; elsewhere the loop's own timer has to do.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Protocol

from pytest_llmperf import clock

_CLOCK_MONOTONIC = 1
_ABSOLUTE = 1
_SECOND_NS = 1_000_000_000


class Alarm(Protocol):
    """Calls back once for each :meth:`set`; a later one replaces it."""

    def set(self, at_ns: int) -> None:
        """Call back at ``at_ns`` of :mod:`pytest_llmperf.clock`, or at once if it has passed."""

    def close(self) -> None:
        """Never call back again."""


def alarm(loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Alarm:
    """The best alarm that this platform has."""
    if sys.platform == "linux":
        return FileAlarm(loop, callback)
    return LoopAlarm(loop, callback)


class LoopAlarm:
    """The event loop's own timer."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._handle: asyncio.TimerHandle | None = None

    def set(self, at_ns: int) -> None:
        """See :meth:`Alarm.set`."""
        self.close()
        seconds = max(0, at_ns - clock.now_ns()) / _SECOND_NS
        self._handle = self._loop.call_later(seconds, self._callback)

    def close(self) -> None:
        """See :meth:`Alarm.close`."""
        if self._handle is not None:
            self._handle.cancel()


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Setting(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


class FileAlarm:
    """A ``timerfd``; Python's own binding of it is younger than the Pythons we support."""

    def __init__(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._loop = loop
        self._callback = callback
        flags = os.O_NONBLOCK | os.O_CLOEXEC
        self._fd: int = self._libc.timerfd_create(_CLOCK_MONOTONIC, flags)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._ring)

    def _ring(self) -> None:
        try:
            os.read(self._fd, 8)
        except BlockingIOError:
            return  # set again between ringing and our hearing it
        self._callback()

    def set(self, at_ns: int) -> None:
        """See :meth:`Alarm.set`."""
        seconds, nanoseconds = divmod(max(1, at_ns), _SECOND_NS)  # zero would disarm it
        setting = _Setting(value=_Timespec(seconds, nanoseconds))
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(setting), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        """See :meth:`Alarm.close`."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1
