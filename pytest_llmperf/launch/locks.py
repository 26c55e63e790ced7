"""Locks between processes of one machine: the runtime directory, and one lock per device.

The kernel drops a lock when its holder dies, however it dies; a lock file left behind is nothing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import shlex
import stat
import sys
import tempfile
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

from pytest_llmperf import clock
from pytest_llmperf.errors import ServerError, UsageMistake
from pytest_llmperf.reading import MIB, Unreadable, read_json
from pytest_llmperf.redact import redact_argv

_RETRY_S = 0.1
_LARGEST_NOTE = MIB
_LONGEST_SHOWN = 400
RUNTIME_DIR_VARIABLE = "PYTEST_LLMPERF_RUNTIME_DIR"


def runtime_dir() -> Path:
    """This user's directory for locks and notes of running servers, made if need be.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` when it is not ours alone.
    """
    chosen = os.environ.get(RUNTIME_DIR_VARIABLE)
    name = f"pytest-llmperf-{os.getuid()}"
    directory = Path(chosen) if chosen else Path(tempfile.gettempdir(), name)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    _check_private(directory)
    return directory


def _check_private(directory: Path) -> None:
    facts = directory.lstat()
    remedy = f"Remove it, or set {RUNTIME_DIR_VARIABLE} to a directory of your own (mode 0700)."
    if not stat.S_ISDIR(facts.st_mode):
        raise UsageMistake(f"{directory} must be a directory and is not one. {remedy}")
    if facts.st_uid != os.getuid():
        raise UsageMistake(f"{directory} belongs to user {facts.st_uid}, not to you. {remedy}")
    if facts.st_mode & 0o022:
        raise UsageMistake(f"{directory} can be written to by other users. {remedy}")


def subdirectory(name: str) -> Path:
    """A directory in the runtime directory, made if need be."""
    directory = runtime_dir() / name
    directory.mkdir(mode=0o700, exist_ok=True)
    return directory


def try_lock(path: Path, *, create: bool = True) -> int | None:
    """An open descriptor that holds the lock on ``path``, or ``None`` when another one does.

    Raises :class:`FileNotFoundError` for an absent file with ``create`` false, and
    :class:`~pytest_llmperf.errors.UsageMistake` for what is no file of a lock: in a directory that
    others may write to, a link could have us write over something else.
    """
    fd = _opened(path, create)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return fd


def _opened(path: Path, create: bool) -> int:
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    remedy = "Remove it, or name another directory for locks (--llmperf-lock-dir)."
    try:
        fd = os.open(path, flags | (os.O_CREAT if create else 0), 0o600)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not create:
            raise
        what = "it is a link" if error.errno == errno.ELOOP else error.strerror
        raise UsageMistake(f"the lock {path} cannot be taken: {what}. {remedy}") from error
    facts = os.fstat(fd)
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink > 1:
        os.close(fd)
        raise UsageMistake(f"the lock {path} cannot be taken: it is no file of its own. {remedy}")
    return fd


def unlock(fd: int) -> None:
    """Release at once, even where a fork or a child still has the descriptor open."""
    fcntl.flock(fd, fcntl.LOCK_UN)
    os.close(fd)


def lock_one_of(
    groups: Sequence[Sequence[str]],
    directory: Path,
    *,
    holder: str = "",
    on_wait: Callable[[str], None] | None = None,
) -> tuple[int, DeviceLock]:
    """Wait until all devices of one of ``groups`` are free and take them: the first such group, by
    its place in ``groups``, and the lock on it. ``on_wait`` as in :meth:`DeviceLock.acquire`."""
    told = ""
    while True:
        held: dict[str, str] = {}
        for place, group in enumerate(groups):
            # Many groups share a device: one that is taken rules them all out at once.
            if held.keys() & set(group):
                continue
            lock = DeviceLock(group, directory, holder=holder)
            busy = lock.take()
            if busy is None:
                return place, lock
            held[busy] = lock.describe(busy)
        who = "; ".join(f"{uuid}, held by {holder}" for uuid, holder in held.items())
        said = f"waiting for device {who}"
        if on_wait and said != told:
            on_wait(said)
            told = said
        clock.sleep(_RETRY_S)


class DeviceLock:
    """Exclusive use of a set of devices, among all test processes of this user on this machine.

    Locks are taken in sorted order, so two sets that overlap cannot wait for each other.
    ``holder`` (a test id) is shown to those who wait. A context manager: entering acquires.
    """

    def __init__(self, uuids: Sequence[str], directory: Path, *, holder: str = "") -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._paths = {uuid: directory / _file_name(uuid) for uuid in sorted(set(uuids))}
        self._holder = holder
        self._held: dict[str, int] = {}

    @property
    def held(self) -> bool:
        return bool(self._held)

    @property
    def descriptors(self) -> tuple[int, ...]:
        """To hand to a keeper, so that the lock outlives us until its server is gone."""
        return tuple(self._held.values())

    def try_acquire(self) -> bool:
        """Take all devices now, or none of them."""
        return self.take() is None

    def acquire(
        self,
        on_wait: Callable[[str], None] | None = None,
        *,
        timeout_s: float | None = None,
    ) -> None:
        """Wait until all devices are ours.

        ``on_wait`` is called with a sentence naming the holder, once for each holder met. Raises
        :class:`~pytest_llmperf.errors.ServerError` after ``timeout_s`` seconds.
        """
        deadline = clock.Deadline(float("inf") if timeout_s is None else timeout_s)
        told = ""
        while busy := self.take():
            said = f"waiting for device {busy}, held by {self.describe(busy)}"
            if on_wait and said != told:
                on_wait(said)
                told = said
            if deadline.passed:
                raise ServerError(
                    f"device {busy} stayed busy for {deadline.seconds:.0f} s",
                    cause=f"it is held by {self.describe(busy)}",
                    remedy="wait for that run to end, or choose another device",
                )
            clock.sleep(min(_RETRY_S, deadline.left))

    def release(self) -> None:
        """Give all devices back; does nothing when none is held."""
        while self._held:
            _, fd = self._held.popitem()
            os.ftruncate(fd, 0)
            unlock(fd)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()

    def take(self) -> str | None:
        """Take all devices now; the first that another process holds, and then none is taken."""
        for uuid, path in self._paths.items():
            if uuid in self._held:
                continue
            try:
                fd = try_lock(path)
            except BaseException:
                self.release()  # or this process would wait for itself
                raise
            if fd is None:
                # Holding some while waiting for others would starve whoever needs only those.
                self.release()
                return uuid
            self._held[uuid] = fd
            try:
                self._sign(fd)
            except OSError:
                self.release()
                raise
        return None

    def _sign(self, fd: int) -> None:
        note = {
            "pid": os.getpid(),
            "holder": self._holder,
            "since": clock.stamp().isoformat(timespec="seconds"),
            "command": shlex.join(redact_argv(sys.argv)),
        }
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(note).encode(), 0)

    def describe(self, uuid: str) -> str:
        """Who holds a device, in words."""
        try:
            note = read_json(self._paths[uuid], most=_LARGEST_NOTE)
            holder, pid, command, since = (
                _shown(note[name]) for name in ("holder", "pid", "command", "since")
            )
        except (Unreadable, KeyError, TypeError):
            return "another process"  # it is writing its note, or just letting go
        return f"process {pid} ({command}){f' for {holder}' if holder else ''} since {since}"


def _shown(value: object) -> str:
    """Of a note that others may have written, as a terminal may show it."""
    return "".join(each if each.isprintable() else " " for each in str(value))[:_LONGEST_SHOWN]


def _file_name(uuid: str) -> str:
    """A file name that is readable, and different for different devices."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "-", uuid)[:80]
    suffix = "" if plain == uuid else "-" + sha256(uuid.encode()).hexdigest()[:8]
    return f"device-{plain}{suffix}.lock"
