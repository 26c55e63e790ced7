"""Messages as they stand in the source: found by walking its syntax, never by running it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest_llmperf
from pytest_llmperf import errors
from pytest_llmperf.store import StoreError

#: Errors of others that users see as they are.
_OTHERS = {"UsageError": "pytest", "ArgumentTypeError": "argparse"}
#: Keywords of an error that hold text for people.
_KEYWORDS = ("cause", "remedy")


@dataclass(frozen=True, slots=True)
class Message:
    """What one ``raise`` says: ``more`` are further texts by their name (cause, remedy)."""

    error: str
    module: str
    text: str
    more: tuple[tuple[str, str], ...] = ()


def error_names() -> Mapping[str, str]:
    """Every error that users meet, with the module that it is imported from."""
    ours = [each for each in vars(errors).values() if inspect.isclass(each)]
    ours = [each for each in ours if issubclass(each, errors.LlmPerfError)]
    homes = {each.__name__: each.__module__ for each in (*ours, StoreError)}
    return {**homes, **_OTHERS}


def modules(*containing: str) -> Iterator[tuple[str, ast.Module]]:
    """Modules whose text holds one of these words, by their dotted name below the package."""
    root = Path(pytest_llmperf.__file__).parent
    for file in sorted(root.rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if any(word in text for word in containing):
            name = ".".join(file.relative_to(root).with_suffix("").parts)
            yield name.removesuffix(".__init__"), ast.parse(text)


@cache
def found_messages() -> tuple[Message, ...]:
    """All messages, module by module."""
    raised = modules(*(f"{name}(" for name in error_names()))
    return tuple(message for name, tree in raised for message in _in_module(name, tree))


def _in_module(module: str, tree: ast.Module) -> Iterator[Message]:
    constants = _constants(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (error := _called(node)) in error_names():
            said = [_text(each, constants) for each in node.args[:1]]
            more = tuple(
                (each.arg or "", text)
                for each in node.keywords
                if each.arg in _KEYWORDS and _says(text := _text(each.value, constants))
            )
            if said and (_says(said[0]) or more):
                yield Message(error, module, said[0], more)


def _says(text: str) -> bool:
    """Whether there is a word that is not filled in from elsewhere."""
    return re.search(r"\w", re.sub("‹[^›]*›", "", text)) is not None


def _called(node: ast.Call) -> str:
    function = node.func
    if isinstance(function, ast.Attribute):
        return function.attr if isinstance(function.value, ast.Name) else ""
    return function.id if isinstance(function, ast.Name) else ""


def _constants(tree: ast.Module) -> dict[str, str]:
    """Texts that the module names at its top."""
    found: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            text = _text(node.value, found)
            found |= {each.id: text for each in node.targets if isinstance(each, ast.Name)}
    return found


def _text(node: ast.expr, constants: Mapping[str, str]) -> str:
    """The template that an expression makes; what is not known before is a ‹placeholder›."""
    match node:
        case ast.Constant(value=value):
            return str(value)
        case ast.JoinedStr(values=parts):
            return "".join(_text(part, constants) for part in parts)
        case ast.FormattedValue(value=value):
            return _text(value, constants)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _text(left, constants) + _text(right, constants)
        case ast.IfExp(body=body, orelse=other):
            return "/".join(filter(None, (_text(each, constants) for each in (body, other))))
        case ast.Name(id=name) if name in constants:
            return constants[name]
        case ast.Call(func=ast.Attribute(value=ast.Name(id=name), attr="format")):
            return constants.get(name, _placeholder(node))
    return _placeholder(node)


def _placeholder(node: ast.expr) -> str:
    """The name of what is filled in there."""
    name = "…"
    match node:
        case ast.Call(func=ast.Attribute(value=ast.Constant(value=str(glue)), attr="join")):
            name = f"…{glue}…"
        case ast.Call(func=ast.Name(id=known)) | ast.Call(func=ast.Attribute(attr=known)):
            name = known
        case ast.Name(id=known) | ast.Attribute(attr=known):
            name = known
    return f"‹{name.strip('_').replace('_', ' ')}›"
