"""Telling a waiting person that work goes on: a live line on a terminal, a heartbeat elsewhere.

Pytest captures the file descriptors of tests, so output goes to a descriptor that the plugin
duplicated before capture began; capture itself is never suspended.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pytest_llmperf import clock
from pytest_llmperf.inert import inert_text
from pytest_llmperf.load.client import LoadProgress
from pytest_llmperf.records import Workload
from pytest_llmperf.report.columns import WIDTH, cells, clip, start

HEARTBEAT_S = 30.0
REDRAW_S = 0.2

# Draw on the line below the cursor and come back, so that pytest's own line stays as it is:
# make room below (index, then up), save the cursor, go down, clear, write, restore.
_BELOW = "\033D\033[A\0337\033[B\r\033[K"
_BACK = "\0338"


class Progress:
    """Where status lines of this process go. ``fd`` is ``None`` when nothing may be printed."""

    def __init__(self, fd: int | None, *, terminal: bool | None = None) -> None:
        self._fd = fd
        self._terminal = _can_draw(fd) if terminal is None and fd is not None else bool(terminal)
        self._last = float("-inf") if self._terminal else clock.now()
        self._drawn = False
        self.test = ""

    def update(self, text: Callable[[], str]) -> None:
        """Show ``text()`` if it is time to; call this as often as you like."""
        every = REDRAW_S if self._terminal else HEARTBEAT_S
        if self._fd is None or clock.now() - self._last < every:
            return
        self._last = clock.now()
        self._draw(text())

    def say(self, text: str) -> None:
        """Show ``text`` now: something that a waiting person must know, such as a held lock."""
        self._last = clock.now()
        self._draw(text)

    def clear(self) -> None:
        """Take the live line away, and start the heartbeat's interval anew."""
        if self._drawn:
            self._write(_BELOW + _BACK if self._terminal else "\n")
            self._drawn = False
        self._last = float("-inf") if self._terminal else clock.now()

    def _draw(self, text: str) -> None:
        if self._terminal:
            # One column stays free: a full line would wrap, and what wraps stays behind.
            self._write(_BELOW + _fitted(_one_line(text), self._width() - 1) + _BACK)
        else:
            # Pytest's line of dots may be unfinished: begin on a fresh one.
            self._write(f"\nllmperf: {_one_line(text)}")
        self._drawn = True

    def _width(self) -> int:
        """Asked for each time, since people change their windows."""
        try:
            return os.get_terminal_size(self._fd or 0).columns or WIDTH
        except OSError:
            return WIDTH

    def _write(self, text: str) -> None:
        if self._fd is None:
            return
        try:
            os.write(self._fd, text.encode("utf-8", "replace"))
        except OSError:
            # The reader of our output is gone; the measurement is worth more than its progress.
            self._fd = None


def _can_draw(fd: int) -> bool:
    """Whether what reads there is a terminal that can move its cursor."""
    return os.isatty(fd) and os.environ.get("TERM", "dumb") != "dumb"


def _one_line(text: str) -> str:
    """What servers log and people name their tests, safe to show on one line."""
    return " ".join(inert_text(text).split())


def _fitted(text: str, width: int) -> str:
    """``text`` in so many columns: a long test's name gives way to how far it has come."""
    name, dash, said = text.partition(" ── ")
    room = max(width // 6, width - cells(dash + said))
    return start(f"{clip(name, room)}{dash}{said}", width)


def which_run(workload: Workload, index: int | None, progress: LoadProgress | None) -> list[str]:
    """Which of its runs a workload is in and how far that has come, in a few words each; before
    the first it is warming up."""
    if index is None or progress is None:
        return [f"{workload.name}: warming up"]
    return [f"{workload.name} run {index + 1}/{workload.runs}", *how_far(progress)]


def how_far(progress: LoadProgress) -> list[str]:
    """How far a pass has come, in a few words each."""
    total = "" if progress.total is None else f"/{progress.total}"
    parts = [f"{progress.done}{total} requests"]
    if not progress.elapsed_s or not progress.done:
        return parts
    if progress.output_tokens_so_far:
        parts.append(f"{progress.output_tokens_so_far / progress.elapsed_s:,.0f} tok/s")
    left = _seconds_left(progress)
    return parts if left is None else [*parts, f"ETA {left // 60}:{left % 60:02d}"]


def _seconds_left(progress: LoadProgress) -> int | None:
    if progress.duration_s is not None:
        return max(0, round(progress.duration_s - progress.elapsed_s))
    if progress.total is None:
        return None
    return round(progress.elapsed_s / progress.done * (progress.total - progress.done))
