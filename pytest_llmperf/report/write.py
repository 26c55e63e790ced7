"""Writing the report: whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import ReportError

from .schema import schema_errors


def write_report(document: Mapping[str, Any], path: Path) -> None:
    """Write ``document`` to ``path`` as JSON, so that a reader sees the old file or the new one.

    Directories above are made. A document that does not match its schema goes to
    ``PATH.invalid.json`` instead, to be looked at. Raises
    :class:`~pytest_llmperf.errors.ReportError` for that, for a value that JSON cannot hold, and
    for a disk that refuses.
    """
    text = _text(document, path)
    errors = schema_errors(document)
    if not errors:
        write_text(text, path)
        return
    beside = path.with_name(f"{path.name}.invalid.json")
    write_text(text, beside)
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


def write_text(
    text: str, path: Path, *, option: str = "--llmperf-report", what: str = "the report"
) -> None:
    """Write ``text`` to ``path`` so that a reader sees the old file or the new one; directories
    above are made. Raises :class:`~pytest_llmperf.errors.ReportError` for a disk that refuses,
    naming the ``option`` that says where to and ``what`` is lost."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
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
