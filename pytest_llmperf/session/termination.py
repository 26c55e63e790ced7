"""SIGTERM, by which CI and batch systems end a job, ends a perf session as Ctrl-C does."""

from __future__ import annotations

import signal
import threading
from types import FrameType

import pytest


class Termination:
    """Registered in the process that writes the report: servers are stopped and what was measured
    until then is reported, where the system's own answer would be to die at once. A handler that
    somebody else has set stays."""

    def __init__(self) -> None:
        in_main_thread = threading.current_thread() is threading.main_thread()
        self._ours = in_main_thread and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        if self._ours:
            signal.signal(signal.SIGTERM, _interrupt)

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        if self._ours and signal.getsignal(signal.SIGTERM) is _interrupt:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt("SIGTERM")
