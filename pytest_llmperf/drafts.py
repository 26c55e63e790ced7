"""Drafts: what is written under another name until it is whole. A kill may leave one behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

_SETTLED_S = 2.0
#: Where the system shows what it has; of these only memory takes files that stay.
_OF_THE_SYSTEM = ("/dev", "/proc", "/sys")
_MEMORY = "/dev/shm"  # noqa: S108 - nothing is written there; it may be named
_MOST_LINKS = 40


def place_of_system(path: Path) -> Path | None:
    """Where ``path``, or a link on the way that its name takes, leads below ``/dev``, ``/proc`` or
    ``/sys``: what is there is the system's, ``/dev/stdout`` too where it happens to be a file, and
    must not be replaced by one. ``None`` where that is not so. Raises OSError."""
    for _ in range(_MOST_LINKS):
        place = Path(os.path.realpath(path.parent), path.name)
        if any(map(place.is_relative_to, _OF_THE_SYSTEM)) and not place.is_relative_to(_MEMORY):
            return place
        if not place.is_symlink():
            return None
        path = place.parent / place.readlink()
    return None


@contextmanager
def locked(draft: Path) -> Iterator[None]:
    """Keep ``draft``, which is there, from being swept while it is written."""
    fd = os.open(draft, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # A file system without locks has none for sweepers either.
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def sweep(directory: Path, pattern: str) -> None:
    """Remove the drafts in ``directory`` whose writer is gone: the system has dropped its lock.
    One that is quite new may be about to be locked."""
    newest = datetime.now(UTC).timestamp() - _SETTLED_S
    for draft in directory.glob(pattern):
        # Not ours to remove, or gone meanwhile: it is in nobody's way.
        with suppress(OSError):
            fd = os.open(draft, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.fstat(fd).st_mtime < newest:
                    draft.unlink()
            finally:
                os.close(fd)
