"""Keeps one server: starts it, waits, and leaves nothing of it behind.

Runs as a script of its own, ``python -I -S keeper.py``, and imports only the standard library so
that it is up at once. Its first line of standard input is the job, one JSON object::

    {"argv": [...], "env": {...}, "log": path, "parent": pid,
     "grace_s": s, "orphan_grace_s": s, "rest_grace_s": s, "kill_s": s,
     "end": [...], "end_s": s,
     "launch": id, "run_file": path, "note": {...}, "held_fds": [...]}

``end`` is a command that ends what would outlive the server's process, as a container does; empty
where there is none. It is run after that process, and again until it succeeds. After the job, a
line ``stop`` asks for an orderly stop and ``kill`` for a quick one. The end of standard input, or
another parent than the one named, means that nobody needs the server any more.
It answers with JSON lines: ``started``, ``failed``, ``exited``, ``stopped``.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.5
_SWEEP_S = 0.02
_AGAIN_S = 0.25
_RUN, _STOP, _ORPHANED, _KILL = range(4)
_ORDERS = {b"stop": _STOP, b"kill": _KILL}


def _prctl(option: int, value: int) -> None:
    import ctypes

    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


# --- the process table -----------------------------------------------------------------------


def _table() -> Iterator[tuple[int, int, int]]:
    """(pid, parent, process group) of every process that can be seen."""
    if not Path("/proc/self/stat").exists():
        yield from _table_from_ps()
        return
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            # A process may end between the listing and the reading.
            with contextlib.suppress(OSError):
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                yield int(entry.name), int(fields[1]), int(fields[2])


def _table_from_ps() -> Iterator[tuple[int, int, int]]:
    read, write = os.pipe()
    action = (os.POSIX_SPAWN_DUP2, write, 1)
    argv = ["ps", "-axo", "pid=,ppid=,pgid="]
    ps = os.posix_spawnp("ps", argv, os.environ, file_actions=[action])
    os.close(write)
    with open(read, encoding="ascii") as out:
        rows = [tuple(map(int, line.split())) for line in out]
    # The main loop reaps every child, this one included.
    with contextlib.suppress(ChildProcessError):
        os.waitpid(ps, 0)
    yield from ((pid, parent, group) for pid, parent, group in rows if pid != ps)


def _tree(root: int, group: int) -> set[int]:
    """All descendants of ``root`` and all members of ``group``, without ``root``."""
    children: dict[int, list[int]] = {}
    found: set[int] = set()
    for pid, parent, pgid in _table():
        children.setdefault(parent, []).append(pid)
        if pgid == group:
            found.add(pid)
    todo = [root, *found]
    while todo:
        fresh = [pid for pid in children.get(todo.pop(), ()) if pid not in found]
        found.update(fresh)
        todo += fresh
    return found - {root}


# --- starting --------------------------------------------------------------------------------


def _become_server(job: dict[str, Any], keeper: int, report: int) -> NoReturn:
    """Turns the forked child into the server; on failure tells ``report`` why and exits."""
    step = "prepare"
    try:
        os.setsid()
        if sys.platform == "linux":
            _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != keeper:
                os._exit(127)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        step = "open its log"
        log = os.open(job["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        step = f"execute {job['argv'][0]!r}"
        os.execvpe(job["argv"][0], job["argv"], job["env"])  # noqa: S606
    except BaseException as error:  # a forked child must never return
        os.write(report, f"could not {step}: {error}".encode(errors="replace"))
    os._exit(127)


def _fork_server(job: dict[str, Any]) -> tuple[int, str]:
    """(pid, reason): the reason is empty once the server's program really runs."""
    keeper = os.getpid()
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become_server(job, keeper, write)
    os.close(write)
    with open(read, "rb") as report:
        reason = report.read().decode(errors="replace")
    return pid, reason


class _RunFile:
    """The note of a running launch. Its lock tells the next start that we are alive."""

    def __init__(self, job: dict[str, Any]) -> None:
        self._path = Path(job["run_file"])
        self._note = {"launch": job["launch"], "keeper": os.getpid(), **job["note"]}
        draft = self._path.with_suffix(".new")
        self._fd = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        self.write(server=None)
        # Renamed only once it is locked, so that nobody takes it for a dead keeper's.
        draft.rename(self._path)

    def write(self, *, server: int | None) -> None:
        text = json.dumps({**self._note, "server": server}).encode()
        os.ftruncate(self._fd, os.pwrite(self._fd, text, 0))

    def remove(self) -> None:
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


# --- keeping ---------------------------------------------------------------------------------


class Keeper:
    """One server from start to the last of its descendants."""

    def __init__(self, job: dict[str, Any], unread: bytes) -> None:
        self._job = job
        self._unread = unread
        self._order = _RUN
        self._listening = True
        self._server = 0
        self._ran = False
        self._running = False
        self._started_ns = 0
        self._helper = 0
        self._helper_status: int | None = None
        self._wake, wake_write = os.pipe()
        os.set_blocking(self._wake, False)
        os.set_blocking(wake_write, False)
        signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: self._raise_order(_STOP))

    def run(self) -> None:
        run_file = _RunFile(self._job)
        try:
            if self._start(run_file):
                self._take_orders()
                while self._running and self._order == _RUN:
                    self._turn(_POLL_S)
            self._stop()
        finally:
            run_file.remove()

    def _start(self, run_file: _RunFile) -> bool:
        self._started_ns = time.monotonic_ns()
        self._server, reason = _fork_server(self._job)
        if reason:
            self._emit("failed", reason=reason)
            return False
        self._ran = self._running = True
        run_file.write(server=self._server)
        self._emit("started", pid=self._server, at_ns=self._started_ns)
        return True

    def _turn(self, wait_s: float) -> None:
        """Wait for an order, a signal or ``wait_s``; then see what has changed."""
        sources = [self._wake, 0] if self._listening else [self._wake]
        ready, _, _ = select.select(sources, [], [], wait_s)
        if self._wake in ready:
            os.read(self._wake, 4096)
        if 0 in ready:
            self._read_orders()
        if os.getppid() != self._job["parent"]:
            self._raise_order(_ORPHANED)
        self._reap()

    def _read_orders(self) -> None:
        data = os.read(0, 4096)
        if not data:
            self._listening = False
            self._raise_order(_ORPHANED)
        self._unread += data
        self._take_orders()

    def _take_orders(self) -> None:
        *lines, self._unread = self._unread.split(b"\n")
        for line in lines:
            self._raise_order(_ORDERS[line])

    def _raise_order(self, order: int) -> None:
        self._order = max(self._order, order)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self._server and self._running:
                self._running = False
                seconds = (time.monotonic_ns() - self._started_ns) / 1e9
                code = os.waitstatus_to_exitcode(status)
                self._emit("exited", status=code, seconds=seconds, asked=self._order != _RUN)
            elif pid == self._helper:
                self._helper_status = os.waitstatus_to_exitcode(status)

    # --- stopping

    def _stop(self) -> None:
        if self._running:
            # Only the server itself: an engine that drains would take the loss of a worker that
            # got the signal at the same moment for a crash.
            self._signal([self._server], signal.SIGTERM)
            # One that is held still hears of it only then.
            self._signal(self._left() | {self._server}, signal.SIGCONT)
            self._turns_while(lambda: self._running, self._grace)
        unended = self._end() if self._ran else ""
        rest = self._left()
        self._signal(rest - {self._server}, signal.SIGTERM)
        self._turns_while(self._left, lambda: min(self._grace(), self._job["rest_grace_s"]))
        killed: set[int] = set()
        self._turns_while(lambda: self._kill_left(killed), lambda: self._job["kill_s"])
        left = sorted(self._left())
        self._emit("stopped", killed=sorted(killed), left=left, unended=unended)

    def _end(self) -> str:
        """Run the command that ends what is not below us, until it succeeds; how it failed, or
        nothing."""
        began = time.monotonic_ns()
        while self._job["end"]:
            left_s = self._job["end_s"] - (time.monotonic_ns() - began) / 1e9
            status, said = self._help(self._job["end"], left_s)
            if status == 0:
                break
            if left_s <= _AGAIN_S:
                return said or f"it ended with status {status}"
            self._turns_while(lambda: True, lambda: _AGAIN_S)
        return ""

    def _help(self, argv: list[str], seconds: float) -> tuple[int | None, str]:
        """Status of a command, ``None`` where it took too long, and what it printed."""
        read, write = os.pipe()
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, write, 1),
            (os.POSIX_SPAWN_DUP2, write, 2),
        ]
        self._helper_status = None
        try:
            env = self._job["env"]
            self._helper = os.posix_spawnp(argv[0], argv, env, file_actions=actions)
        except OSError as error:
            self._helper_status = 127
            os.write(write, str(error).encode())
        os.close(write)
        self._turns_while(lambda: self._helper_status is None, lambda: seconds)
        if self._helper_status is None:
            self._signal([self._helper], signal.SIGKILL)
        os.set_blocking(read, False)
        said = b""
        # Nothing to read, and no end of it, where what the command started holds the other end.
        with contextlib.suppress(BlockingIOError):
            said = os.read(read, 65536)
        os.close(read)
        if self._helper_status is None:
            said += b" (it took too long)"
        return self._helper_status, said.decode(errors="replace").strip()

    def _grace(self) -> float:
        seconds = {_KILL: 0.0, _ORPHANED: min(self._job["grace_s"], self._job["orphan_grace_s"])}
        return float(seconds.get(self._order, self._job["grace_s"]))

    def _turns_while(self, condition: Callable[[], object], limit: Callable[[], float]) -> None:
        began = time.monotonic_ns()
        while condition() and (time.monotonic_ns() - began) / 1e9 < limit():
            self._turn(_SWEEP_S)

    def _left(self) -> set[int]:
        self._reap()
        return _tree(os.getpid(), self._server)

    def _kill_left(self, killed: set[int]) -> set[int]:
        left = self._left()
        killed |= left
        self._signal(left, signal.SIGKILL)
        return left

    @staticmethod
    def _signal(pids: set[int] | list[int], number: signal.Signals) -> None:
        for pid in pids:
            # Gone already, or another user's: what stays is reported as left.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)

    @staticmethod
    def _emit(event: str, **facts: object) -> None:
        # A dead parent reads no more; the server must be stopped all the same.
        with contextlib.suppress(BrokenPipeError):
            os.write(1, json.dumps({"event": event, **facts}).encode() + b"\n")


def _read_job() -> tuple[dict[str, Any], bytes] | None:
    """The job and what was read after it; ``None`` when the parent went before it was sent."""
    data = b""
    while b"\n" not in data:
        more = os.read(0, 65536)
        if not more:
            return None
        data += more
    line, _, unread = data.partition(b"\n")
    return json.loads(line), unread


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    # A thread that started us may have blocked some; the server would inherit that.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    read = _read_job()
    if read is None:
        return 0
    job, unread = read
    for fd in job["held_fds"]:
        os.set_inheritable(fd, False)
    if sys.platform == "linux":
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    Keeper(job, unread).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
