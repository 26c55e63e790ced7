"""Results of other tools as reports, to be compared.

Every module reads the files of one tool: ``matches(data)`` says whether they are its own, and
``read(data)`` what they tell, with what must be known of the figures beside ours. Definitions are
mapped as docs/metrics.md has them; what a tool does not tell stays ``None``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from pytest_llmperf.errors import ReportError, UsageMistake
from pytest_llmperf.reading import Unreadable, parse_json, read_text

from .found import Found

#: Tools by their names on the command line, most telling files first.
TOOLS = {
    "aiperf": ".aiperf",
    "guidellm": ".guidellm",
    "sglang": ".sglang",
    "vllm": ".vllm",
}


#: What reading results raises that no tool wrote.
_NOT_ITS = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, OSError)


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
        except _NOT_ITS as error:
            raise ReportError(
                f"{path} is not as {tool or 'its tool'} writes its results: {_told(error)}. Name "
                "a file that it wrote, or another tool with --from.",
                path=path,
            ) from error
    if not found:
        raise ReportError(f"{path} holds no results.", path=path)
    return found


def _documents(path: Path) -> Iterator[Mapping[str, Any]]:
    """The JSON object in a file, or one of each line."""
    try:
        text = read_text(path)
        lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        whole = [parse_json(text, constants=True)] if _is_one(lines) else None
    except Unreadable as why:
        raise ReportError(f"{path} {why}. Name what a tool wrote.", path=path) from why
    for data in whole if whole is not None else (_line(*line, path) for line in lines):
        if not isinstance(data, Mapping):
            raise ReportError(
                f"{path} is not the results of a tool: it holds no JSON object. Name what a tool "
                "wrote.",
                path=path,
            )
        yield data


def _is_one(lines: Sequence[tuple[int, str]]) -> bool:
    """Whether lines are one JSON document, and not one each: then the first is whole."""
    if len(lines) < 2:
        return True
    try:
        parse_json(lines[0][1], constants=True)
    except Unreadable:
        return True
    return False


def _line(number: int, text: str, path: Path) -> Any:
    try:
        return parse_json(text, constants=True)
    except Unreadable as why:
        raise ReportError(
            f"{path}, line {number}: it {why}. Name what a tool wrote.", path=path
        ) from why


def _told(error: Exception) -> str:
    """What is wrong with a result, in words."""
    if isinstance(error, KeyError):
        return f"{error.args[0]!r} is missing"
    return f"something there is of another kind than expected ({error})"


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
