"""A store in a directory that is meant to be committed: one file for each document.

::

    <root>/<key>/<utc>-<commit>-<runner>-<id>.json     an observation
    <root>/<key>/levels/<utc>-<id>.json                an acceptance
    <root>/<key>/profiles/<utc>-<id>.json              a noise profile

No two writers ever have one file in common, so branches merge without conflicts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import TextIO

from pytest_llmperf import clock
from pytest_llmperf.drafts import locked, sweep
from pytest_llmperf.reading import MIB, Unreadable, read_text

from .base import Found, Kind, Mode, Record, Slip, StoreError
from .documents import id_of, record_of
from .keys import slug

_INSIDE: dict[Kind, str] = {"observation": "", "level": "levels", "profile": "profiles"}
#: Keys that are names of directories as they stand, on file systems that ignore case as well.
_PLAIN_KEY = re.compile(r"[a-z0-9][a-z0-9_.-]{0,119}(?<!\.)")
_LOCK = ".lock"
#: The largest document: a session of a hundred launches takes a hundredth of it.
_LARGEST = 64 * MIB
_BUSY_S = 60.0
_RETRY_S = 0.02
_IGNORED = f"{_LOCK}\n*.tmp\n"
_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class Files:
    """Documents in files below ``root``, which is made when first written to."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @contextmanager
    def open(self, mode: Mode = "read") -> Iterator[Files]:
        with _told(self._root):
            if mode != "alone":
                yield self
                return
            _make_root(self._root)
            with (self._root / _LOCK).open("a") as lock:
                self._take(lock)
                yield self

    def _take(self, lock: TextIO) -> None:
        """Wait until nobody else is alone here. Raises :class:`StoreError` after a minute."""
        deadline = clock.Deadline(_BUSY_S)
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if deadline.passed:
                    raise StoreError(
                        f"The store in {self._root} was kept locked for {deadline.seconds:.0f} s "
                        f"by another process ({self._root / _LOCK}). End it, and try again."
                    ) from None
                clock.sleep(_RETRY_S)
            else:
                return

    def close(self) -> None:
        """Nothing is held between calls."""

    def put(self, slip: Slip) -> Found | None:
        if (taken := self._taken(slip)) is not None:
            return self._found(taken)
        _make_root(self._root)
        path = self._root / self.under(slip.key) / _INSIDE[slip.kind] / f"{slip.name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        return None if write_new(path, slip.text) else self._found(path)

    def read(self, kind: Kind, key: str | None) -> Iterator[Found]:
        folders = self._folders() if key is None else [self._root / self.under(key)]
        for folder in folders:
            for path in _documents(folder / _INSIDE[kind]):
                # A part goes when its whole is there; we may have listed it before.
                with suppress(FileNotFoundError):
                    yield self._found(path)

    def beginning(self, start: str, key: str) -> Iterator[Found]:
        for path in _documents(self._root / self.under(key)):
            if f"-{start}" in path.stem:
                yield self._found(path)

    def under(self, key: str) -> str:
        if _PLAIN_KEY.fullmatch(key):
            return key
        # "~" keeps these apart from keys that are used as they stand.
        return f"{slug(key)}~{sha256(key.encode()).hexdigest()[:12]}"

    def keys(self) -> Iterator[str]:
        for folder in self._folders():
            paths = [path for inside in _INSIDE.values() for path in _documents(folder / inside)]
            if paths:
                yield self._key(folder, paths[0])

    def remove(self, found: Iterable[Found]) -> None:
        for one in found:
            Path(one.at).unlink()

    def _key(self, folder: Path, document: Path) -> str:
        return folder.name if "~" not in folder.name else self._record(document).key

    def _record(self, path: Path) -> Record:
        found = self._found(path)
        return record_of(found.text, found.where)

    def _folders(self) -> list[Path]:
        return [path for path in _entries(self._root) if path.is_dir()]

    def _taken(self, slip: Slip) -> Path | None:
        """The file of this kind that has the slip's id, under whatever key."""
        for folder in self._folders():
            for path in _documents(folder / _INSIDE[slip.kind]):
                # Ids may have a "-" in them, so the name alone does not tell.
                if path.stem.endswith(f"-{slip.id}") and id_of(self._record(path)) == slip.id:
                    return path
        return None

    def _found(self, path: Path) -> Found:
        try:
            text = read_text(path, most=_LARGEST)
        except Unreadable as why:
            if isinstance(why.__cause__, OSError):
                raise why.__cause__ from None
            raise StoreError(f"{path} {why}. Restore it: git checkout -- FILE.") from why
        under = path.relative_to(self._root).parts[0]
        return Found(where=str(path), at=str(path), under=under, text=text)


def write_new(path: Path, text: str) -> bool:
    """Write ``text`` to ``path`` as a whole; ``False`` when something is there, which stays."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        sweep(path.parent, ".*.tmp")
        temporary.unlink(missing_ok=True)
        # Through no link that lies in wait.
        with temporary.open("x", encoding="utf-8") as file, locked(temporary):
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            if not _placed(temporary, path):
                return False
    finally:
        temporary.unlink(missing_ok=True)
    _sync_directory(path.parent)
    return True


def _placed(temporary: Path, path: Path) -> bool:
    """Give the file its name unless that is taken; nobody ever sees half of it."""
    try:
        path.hardlink_to(temporary)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        return _claimed(temporary, path)
    return True


def _claimed(temporary: Path, path: Path) -> bool:
    """The same on a file system without links: take the name first, then put the file there."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    temporary.replace(path)
    return True


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_root(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    if not (ignore := root / ".gitignore").exists():
        write_new(ignore, _IGNORED)


def _documents(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.suffix == ".json"]


def _entries(folder: Path) -> list[Path]:
    """What is in ``folder``, in a fixed order, hidden files left out; nothing where it is not."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except FileNotFoundError:
        return []


@contextmanager
def _told(root: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"The store in {root} cannot be used: {error.filename or root}: "
            f"{error.strerror or error}. Make room or give write access there, or name another "
            "place for it."
        ) from error
