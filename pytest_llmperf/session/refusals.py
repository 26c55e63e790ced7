"""What the machine refuses while servers are brought up and measured, in words."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pytest_llmperf.errors import ClientError, ServerError

_FILES = "raise the limit of open files with `ulimit -n`"
_MEMORY = "free some memory, or raise the limits of this user or container"
_REMEDIES = {
    errno.EMFILE: _FILES,
    errno.ENFILE: _FILES,
    errno.ENOMEM: _MEMORY,
    errno.EAGAIN: _MEMORY,
    errno.EFBIG: "raise the limit of the size of files with `ulimit -f`",
}


@contextmanager
def for_server(what: str, place: str) -> Iterator[None]:
    """A disk, a limit or a missing directory becomes a ServerError: ``what`` did not come about,
    and ``place`` is the option that says where else it could."""
    try:
        yield
    except OSError as error:
        raise ServerError(what, cause=told(error), remedy=remedy(error, place)) from error


@contextmanager
def for_client() -> Iterator[None]:
    """The same while a server is measured: a ClientError."""
    try:
        yield
    except OSError as error:
        raise ClientError(
            f"the load client could not do its work: {told(error)}; {remedy(error, 'TMPDIR')}"
        ) from error


def told(error: OSError) -> str:
    """What was refused, without Python's way of saying it."""
    said = error.strerror or str(error)
    return f"{error.filename}: {said}" if error.filename else said


def remedy(error: OSError, place: str) -> str:
    """What to try; ``place`` names where else files could go."""
    elsewhere = f"make room or give write access there, or name another place with {place}"
    return _REMEDIES.get(error.errno or 0, elsewhere)
