"""Writing the report: whole or not at all."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

from pytest_llmperf.drafts import locked, place_of_system, sweep
from pytest_llmperf.errors import ReportError

from .schema import schema_errors


def write_report(document: Mapping[str, Any], path: Path, *, option: str) -> None:
    """Write ``document`` to ``path`` as JSON, so that a reader sees the old file or the new one;
    ``option`` says where to.

    Directories above are made. A document that does not match its schema goes to
    ``PATH.invalid.json`` instead, to be looked at. Raises
    :class:`~pytest_llmperf.errors.ReportError` for that, for a value that JSON cannot hold, and
    for a disk that refuses.
    """
    text = _text(document, path)
    errors = schema_errors(document)
    if not errors:
        write_text(text, path, option=option)
        return
    beside = path.with_name(f"{path.name}.invalid.json")
    write_text(text, beside, option=option)
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    raise ReportError(
        f"the report does not match its schema: {errors[0]}{more}. It is kept in {beside}; if no "
        "pytest_llmperf_report hook changed it, this is a mistake in pytest-llmperf.",
        path=path,
    )


def _text(document: Mapping[str, Any], path: Path) -> str:
    try:
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise ReportError(
            f"the report holds a value that JSON cannot ({error}); if no pytest_llmperf_report "
            "hook put it there, this is a mistake in pytest-llmperf.",
            path=path,
        ) from error


def write_text(text: str, path: Path, *, option: str, what: str = "the report") -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one; directories
    above are made. Raises :class:`~pytest_llmperf.errors.ReportError` for a disk that refuses,
    naming the ``option`` that says where to and ``what`` is lost."""
    with replacing(path, option=option, what=what) as unfinished:
        # Half a surrogate pair, of a file name that is no UTF-8, becomes the escape that JSON has.
        unfinished.write_text(text, encoding="utf-8", errors="backslashreplace")


@contextmanager
def replacing(path: Path, *, option: str, what: str) -> Iterator[Path]:
    """Where to write what takes the place of ``path`` once the body has ended well. Raises as
    :func:`write_text` does."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _check_replaceable(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        sweep(path.parent, f".{escape(path.name)}.*.tmp")
        _claim(temporary)
        try:
            with locked(temporary):
                yield temporary
                with temporary.open("rb") as file:
                    os.fsync(file.fileno())
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ReportError(
            f"{what} could not be written to {path}: {error.strerror or error}. "
            f"Give {option} another place, or make room.",
            path=path,
        ) from error


def _check_replaceable(path: Path) -> None:
    """A device or a pipe would be gone afterwards, for all who use it."""
    if (place := place_of_system(path)) is not None:
        raise OSError(errno.EINVAL, f"{place} belongs to the system, and is no place for a file")
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "it is no file that could be replaced")


def _claim(temporary: Path) -> None:
    """Make the file anew: in a directory that others may write to, a link could lie in wait."""
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666))
