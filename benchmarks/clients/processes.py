"""Runs a program with all its child processes on one core, and says what they cost together.

CPU time comes from the kernel's own books when a process is waited for, which nothing escapes that
its parent waited for; orphans are taken over and waited for here; for what a parent never waited
for the last sample stands in. Linux only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pytest_llmperf import clock

_SAMPLE_S = 0.1
_SAMPLER_NICENESS = 10
_LEFTOVERS_S = 3.0
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SET_CHILD_SUBREAPER = 36  # of prctl(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended and what it and all its descendants cost.

    ``cpu_s`` is user and system time over their whole lives. ``peak_rss_bytes`` is the largest sum
    of resident sets in any sample; pages that processes share count once for each. ``samples`` are
    (monotonic ns, CPU seconds so far), for :meth:`cpu_between`.
    """

    returncode: int
    stdout: str
    stderr: str
    cpu_s: float
    peak_rss_bytes: int
    wall_s: float
    timed_out: bool = False
    samples: tuple[tuple[int, float], ...] = ()

    def cpu_between(self, start_ns: int, end_ns: int) -> float:
        """CPU seconds spent between two moments of the monotonic clock."""
        return _at(self.samples, end_ns) - _at(self.samples, start_ns)

    def check(self, name: str) -> None:
        """Raise :class:`RuntimeError`, quoting the program, unless it ended well."""
        if self.timed_out:
            raise RuntimeError(f"{name} did not end in {self.wall_s:.0f} s:\n{self.tail()}")
        if self.returncode:
            raise RuntimeError(f"{name} ended with status {self.returncode}:\n{self.tail()}")

    def tail(self, lines: int = 30) -> str:
        """The last lines of what the program said."""
        said = [*self.stdout.splitlines()[-lines:], *self.stderr.splitlines()[-lines:]]
        return "\n".join(f"  | {line}" for line in said) or "  | (nothing)"


_watchers: list[list[Finished]] = []


@contextlib.contextmanager
def watching() -> Iterator[list[Finished]]:
    """Gather what :func:`run_tree` returns to others meanwhile."""
    seen: list[Finished] = []
    _watchers.append(seen)
    try:
        yield seen
    finally:
        _watchers.remove(seen)


def run_tree(
    argv: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    core: int | None = None,
    timeout_s: float = 600.0,
    cwd: Path | None = None,
) -> Finished:
    """Run ``argv`` and its descendants on ``core`` until none of them is left.

    ``env`` is the whole environment, ``None`` for our own. Whatever still runs ``timeout_s`` after
    the start, or some seconds after the program itself has ended, is killed.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err, _adopting():
        others = _children()
        started = clock.now_ns()
        with pinned(core):
            process = subprocess.Popen(
                [str(each) for each in argv],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env=None if env is None else dict(env),
                cwd=cwd,
                start_new_session=True,
            )
        try:
            with _Meter(process.pid) as meter:
                timed_out = not _await(process.pid, timeout_s)
                wall_s = (clock.now_ns() - started) / 1e9
        finally:
            cpu_s = _end(process, others)
        finished = Finished(
            returncode=process.returncode,
            stdout=_text(out.fileno()),
            stderr=_text(err.fileno()),
            cpu_s=max(cpu_s, meter.cpu_s),
            peak_rss_bytes=meter.peak_rss_bytes,
            wall_s=wall_s,
            timed_out=timed_out,
            samples=tuple(meter.samples),
        )
    for seen in _watchers:
        seen.append(finished)
    return finished


@contextlib.contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """What is started in here runs on ``core`` alone, wherever this process itself is kept.

    Raises :class:`OSError` for a core that this machine or container does not have.
    """
    ours = os.sched_getaffinity(0)
    if core is not None:
        os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


# --- watching a tree


class _Meter:
    """CPU time and memory of a process and its descendants, sampled by a thread that gives way
    to whatever else wants its core."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._alive = {root}
        self._cpu_ns: dict[int, int] = {}
        self._newest = -1
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample_on, daemon=True)
        self.peak_rss_bytes = 0
        self.samples = [(clock.now_ns(), 0.0)]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu_ns.values()) / 1e9

    def _sample_on(self) -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))  # of this thread alone
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _SAMPLER_NICENESS)
        self._sample()
        while not self._ended.wait(_SAMPLE_S):
            self._sample()
        self._sample()

    def _sample(self) -> None:
        newest = _newest_pid()
        if newest != self._newest:
            self._alive = _descendants({self._root} | self._alive)
            self._newest = newest
        resident = 0
        for pid in self._alive:
            self._cpu_ns[pid] = _cpu_ns(pid) or self._cpu_ns.get(pid, 0)
            resident += _rss_bytes(pid)
        self.peak_rss_bytes = max(self.peak_rss_bytes, resident)
        self.samples.append((clock.now_ns(), self.cpu_s))


def _await(pid: int, timeout_s: float) -> bool:
    """Wait until the process has ended; false when time runs out first."""
    descriptor = os.pidfd_open(pid)
    ended = select.poll()  # select() cannot take descriptors past 1023
    ended.register(descriptor, select.POLLIN)
    try:
        return bool(ended.poll(timeout_s * 1e3))
    finally:
        os.close(descriptor)


def _end(process: subprocess.Popen[bytes], others: set[int]) -> float:
    """Wait for the program and what it left behind; the CPU seconds that the kernel booked.

    ``others`` are children of ours that have nothing to do with it. Orphans become ours too.
    """
    if _is_running(process.pid):
        _kill(_descendants({process.pid}))
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = used.ru_utime + used.ru_stime
    patience = clock.Deadline(_LEFTOVERS_S)
    while left := _children() - others:
        if patience.passed:
            _kill(_descendants(left))
        for pid in left:
            ended, _, used = os.wait4(pid, os.WNOHANG)
            cpu_s += used.ru_utime + used.ru_stime if ended else 0.0
        clock.sleep(_SAMPLE_S / 10)
    return cpu_s


def _kill(pids: set[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# --- what the kernel knows


def _stat(pid: int) -> list[str]:
    """The fields of ``/proc/PID/stat`` from the state on; empty when there is no such process."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return line[line.rindex(")") + 2 :].split()


def _is_running(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def _parents() -> dict[int, tuple[int, str]]:
    """Parent and state of every process there is."""
    found = {}
    for entry in os.listdir("/proc"):  # noqa: PTH208 - only the names are wanted
        if entry.isdigit() and (fields := _stat(int(entry))):
            found[int(entry)] = int(fields[1]), fields[0]
    return found


def _newest_pid() -> int:
    """The last process id given out: unless it changes there are no new processes to look for."""
    return int(Path("/proc/loadavg").read_text().split()[-1])


def _children() -> set[int]:
    """Our children, those that ended and were not waited for included."""
    ours = os.getpid()
    return {pid for pid, (parent, _) in _parents().items() if parent == ours}


def _descendants(roots: set[int]) -> set[int]:
    """Those of ``roots`` that run, with all their descendants."""
    running = {pid: parent for pid, (parent, state) in _parents().items() if state not in "ZX"}
    found = roots & set(running)
    while more := {pid for pid, parent in running.items() if parent in found} - found:
        found |= more
    return found


def _cpu_ns(pid: int) -> int:
    """CPU time of a process by its own clock, which is finer than the ticks in ``/proc``."""
    try:
        return time.clock_gettime_ns((~pid << 3) | 2)
    except OSError:
        return 0


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (FileNotFoundError, ProcessLookupError):
        return 0


@contextlib.contextmanager
def _adopting() -> Iterator[None]:
    """Orphans among our descendants become our children meanwhile, so that we can wait for them."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _text(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    return os.pread(descriptor, size, 0).decode("utf-8", "replace")


def _at(samples: Sequence[tuple[int, float]], at_ns: int) -> float:
    """The sampled CPU seconds at a moment, on the straight line between two samples."""
    before = samples[0]
    for after in samples:
        if after[0] >= at_ns:
            span = after[0] - before[0]
            share = (at_ns - before[0]) / span if span else 0.0
            return before[1] + share * (after[1] - before[1])
        before = after
    return samples[-1][1]
