"""Results of other tools as reports, to be compared.

Every module reads the files of one tool: ``matches(data)`` says whether they are its own, and
``read(data)`` what they tell, with what must be known of the figures beside ours. Definitions are
mapped as docs/metrics.md has them; what a tool does not tell stays ``None``.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

from pytest_llmperf.errors import ReportError, UsageMistake

from .found import Found

#: Tools by their names on the command line, most telling files first.
TOOLS = {
    "aiperf": ".aiperf",
    "guidellm": ".guidellm",
    "sglang": ".sglang",
    "vllm": ".vllm",
}


class _Tool(Protocol):
    def matches(self, data: Mapping[str, Any]) -> bool: ...
    def read(self, data: Mapping[str, Any]) -> list[Found]: ...


def read(path: Path, tool: str | None = None) -> list[Found]:
    """What the file at ``path`` tells, a load each; by ``tool``, or whose it looks like.

    Raises :class:`~pytest_llmperf.errors.ReportError` for a file that cannot be read, and
    :class:`~pytest_llmperf.errors.UsageMistake` for one of no tool that is known.
    """
    found: list[Found] = []
    for data in _documents(path):
        module = _module(tool) if tool else _recognised(data, path)
        try:
            found += module.read(data)
        except (KeyError, TypeError, ValueError) as error:
            raise ReportError(
                f"{path} is not as {tool or 'its tool'} writes its results: {error!r}.", path=path
            ) from error
    if not found:
        raise ReportError(f"{path} holds no results.", path=path)
    return found


def _documents(path: Path) -> Iterator[Mapping[str, Any]]:
    """The JSON object in a file, or one of each line."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read: {error}.", path=path) from error
    try:
        whole = [json.loads(text)]
    except ValueError:
        whole = [_line(line, path) for line in text.splitlines() if line.strip()]
    for data in whole:
        if not isinstance(data, Mapping):
            raise ReportError(f"{path} is not the results of a tool: no JSON object.", path=path)
        yield data


def _line(text: str, path: Path) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise ReportError(f"{path} is not JSON: {error}.", path=path) from error


def _recognised(data: Mapping[str, Any], path: Path) -> _Tool:
    for name in TOOLS:
        module = _module(name)
        if module.matches(data):
            return module
    raise UsageMistake(
        f"{path}: these are not the results of a tool that is known; say which with --from "
        f"({', '.join(TOOLS)})."
    )


def _module(name: str) -> _Tool:
    return cast("_Tool", importlib.import_module(TOOLS[name], __name__))
