"""Reading what others wrote: files of bounded size, and JSON that is what it says.

Nothing here trusts its input: a file may be a directory, a pipe that nobody writes to, or larger
than memory; a text may be nested a hundred thousand times, or hold a number that is none.
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import IO, Any, NoReturn

MIB = 1 << 20
#: The largest report that is read back, and the largest file of questions.
LARGEST = 256 * MIB
#: The longest whole number that JSON may hold: no count, size or seed has more digits.
_DIGITS = 40
#: What is read of the end of a log.
_END_BYTES = 256 * 1024


class Unreadable(ValueError):
    """Why a file cannot be read or understood, in words that follow its name."""


def read_bytes(path: Path, *, most: int = LARGEST) -> bytes:
    """The bytes of a regular file. Raises :class:`Unreadable` for one that is larger than
    ``most`` bytes, that is no regular file, or that the system does not give."""
    try:
        # A pipe that nobody writes to would be waited for without end.
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise Unreadable(f"cannot be read: {_said(error)}") from error
    try:
        size = _size_of(fd)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(most + 1) if size <= most else b""
    except OSError as error:
        raise Unreadable(f"cannot be read: {_said(error)}") from error
    finally:
        os.close(fd)
    if max(size, len(data)) > most:
        raise Unreadable(f"is larger than the {most / MIB:,.0f} MiB that are read of such files")
    return data


def _size_of(fd: int) -> int:
    facts = os.fstat(fd)
    if stat.S_ISDIR(facts.st_mode):
        raise Unreadable("cannot be read: it is a directory")
    if not stat.S_ISREG(facts.st_mode):
        raise Unreadable("cannot be read: it is no regular file; save its content to one")
    return facts.st_size


def end_of(file: IO[bytes], *, most: int = _END_BYTES) -> str:
    """The last ``most`` bytes of an open file as text. Where another process writes it by the same
    descriptor, it goes on where it was."""
    size = os.fstat(file.fileno()).st_size
    return os.pread(file.fileno(), most, max(0, size - most)).decode("utf-8", "replace")


def read_text(path: Path, *, most: int = LARGEST) -> str:
    """The same as text in UTF-8, with or without a byte order mark."""
    return decoded(read_bytes(path, most=most))


def read_json(path: Path, *, most: int = LARGEST, constants: bool = False) -> Any:
    """What :func:`parse_json` makes of a file."""
    return parse_json(read_text(path, most=most), constants=constants)


def decoded(data: bytes) -> str:
    """Bytes as text. Raises :class:`Unreadable` naming the first one that is no UTF-8."""
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(
            f"is no UTF-8 text: byte {error.start + 1}, in line {line}, is none "
            f"({error.reason}); save it as UTF-8"
        ) from error


def parse_json(text: str, *, constants: bool = False) -> Any:
    """The JSON value that ``text`` is; ``constants`` lets NaN and Infinity pass, as Python writes
    them. Raises :class:`Unreadable` for anything else, also for a name that an object has twice, of
    which readers would take different ones, and for a number that is none here."""
    if not text.strip():
        raise Unreadable("is empty")
    hooks: dict[str, Any] = {} if constants else {"parse_constant": _refused, "parse_float": _float}
    try:
        return json.loads(text, object_pairs_hook=_object, parse_int=_whole, **hooks)
    except RecursionError as error:
        raise Unreadable("cannot be read: it is nested too deeply") from error
    except ValueError as error:
        raise Unreadable(f"is not JSON: {error}") from error


def _said(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice!r} stands twice in one object")
    return found


def _refused(word: str) -> NoReturn:
    raise ValueError(f"{word} is no JSON number")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{_cut(text)} is too large a number")
    return value


def _whole(text: str) -> int:
    if len(text) > _DIGITS:
        raise ValueError(f"{_cut(text)} is too large a number")
    return int(text)


def _cut(text: str) -> str:
    return text if len(text) <= _DIGITS else f"{text[:_DIGITS]}..."
