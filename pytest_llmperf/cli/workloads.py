"""A workload as it is remembered, the text of a record, in words."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from typing import Any

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.units import format_number, spoken
from pytest_llmperf.records import Workload

_DIGITS = 8
#: A longer one is no workload's, and may be nested for the parser's ruin.
_LONGEST = 20_000
#: What parsing raises for text that somebody else wrote.
_NOT_OURS = (
    *(SyntaxError, ValueError, TypeError, ArithmeticError, UsageMistake),
    *(RecursionError, MemoryError),
)


def workload_text(kept: str) -> str:
    """What it asks for beside the defaults, such as "chat: 8 input tokens, concurrency 4, 16
    requests"; ``kept`` as it is where no session wrote it."""
    try:
        said = _fields(ast.parse(kept[:_LONGEST], mode="eval").body, "Workload")
        parts = [_part(name, value) for name, value in said.items() if name != "name"]
    except _NOT_OURS:
        return kept
    return f"{said.get('name', 'workload')}: {', '.join(parts) or 'by default'}"


def _fields(node: ast.AST, record: str) -> dict[str, Any]:
    """The keywords of a call of ``record`` that are not its defaults."""
    if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != record or node.args:
        raise ValueError(f"no {record}")
    values = {keyword.arg or "": _value(keyword.value) for keyword in node.keywords}
    defaults = {field.name: field.default for field in dataclasses.fields(Workload)}
    return {
        name: value
        for name, value in values.items()
        if value is not None and (record != "Workload" or value != defaults.get(name))
    }


def _value(node: ast.AST) -> Any:
    match node:
        case ast.Call(func=ast.Name(id=name)):
            return _Record(name, _fields(node, name))
        case ast.Tuple(elts=elements):
            return tuple(_value(each) for each in elements)
        case _:
            return ast.literal_eval(node)


@dataclasses.dataclass(frozen=True, slots=True)
class _Record:
    name: str
    fields: dict[str, Any]


def _part(name: str, value: Any) -> str:
    words = name.replace("_", " ")
    match value:
        case bool():
            return words if value else f"no {words}"
        case tuple():
            return ", ".join(_objectives(value))
        case _Record(fields={"kind": kind, "sha256": digest}):
            return f"from a file of {kind} ({str(digest)[:_DIGITS]})"
        case int() | float() if name.endswith("_s"):
            return f"{words.removesuffix(' s')} {format_number(value)} s"
        case int() | float() if name.endswith("s"):
            return f"{format_number(value)} {words if value != 1 else words.removesuffix('s')}"
        case int() | float():
            return f"{words} {format_number(value)}"
        case _:
            return f"{words} {value}"


def _objectives(records: tuple[Any, ...]) -> Iterator[str]:
    for each in records:
        if isinstance(each, _Record) and {"metric", "limit_ms"} <= each.fields.keys():
            limit = format_number(each.fields["limit_ms"])
            yield f"{spoken(each.fields['metric'])} within {limit} ms"
        else:
            yield str(each)
