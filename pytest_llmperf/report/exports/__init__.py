"""The report in formats that others read: one module for each, named like the kind.

Every module has ``files(document, path)``: the texts to write, by path. It selects and converts
units, and computes nothing; what it cannot say is told in its docstring.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from pytest_llmperf.errors import ReportError, UsageMistake, nearest
from pytest_llmperf.report.requests import KIND as _REQUESTS
from pytest_llmperf.report.write import write_text

#: Kinds that are made of a report, and the modules that make them.
KINDS: dict[str, str] = {
    "bencher": ".bencher",
    "github-action-benchmark": ".github_action_benchmark",
    "gitlab": "pytest_llmperf.report.gitlab",
    "llmd": ".llmd",
    "markdown": "pytest_llmperf.report.markdown",
    "openmetrics": ".openmetrics",
    "otava": ".otava",
    "pytest-benchmark": ".pytest_benchmark",
    "pytorch-oss": ".pytorch_oss",
    "sglang-dump": ".sglang_dump",
}


class _Format(Protocol):
    def files(self, document: Mapping[str, Any], path: Path) -> dict[Path, str]: ...


def split(text: str, option: str) -> tuple[str, str]:
    """Kind and path of ``KIND:PATH``, one of :data:`KINDS` or ``requests``. Raises
    :class:`~pytest_llmperf.errors.UsageMistake`."""
    kind, colon, path = text.partition(":")
    known = (*KINDS, _REQUESTS)
    if kind not in known:
        raise UsageMistake(f"{option}={text!r}: there is no export {kind!r}.{nearest(kind, known)}")
    if not colon or not path:
        raise UsageMistake(f"{option}={text!r}: say where to as well: {kind}:PATH.")
    return kind, path


def export(kind: str, document: Mapping[str, Any], path: Path, *, option: str) -> list[Path]:
    """Write ``document`` as ``kind`` and tell which files that made, each whole or not at all.

    Raises :class:`~pytest_llmperf.errors.ReportError` for a disk that refuses, naming ``option``,
    for a file to go on with that is not ours, and for a foreign report: its figures are by other
    definitions, and a dashboard would draw them with ours.
    """
    if document.get("foreign") is not None:
        raise ReportError(
            f"{path} is not written: the report holds what {document['foreign']['tool']} measured, "
            "by its own definitions. Export what pytest-llmperf measured; foreign reports are for "
            "`pytest-llmperf compare`.",
            path=path,
        )
    module = cast("_Format", importlib.import_module(KINDS[kind], __name__))
    texts = module.files(document, path)
    for place, text in texts.items():
        write_text(text, place, option=option, what=f"the export {kind}")
    return list(texts)
