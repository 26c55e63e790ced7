"""The names that ``import pytest_llmperf`` gives, described by autodoc from their docstrings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import pytest_llmperf

from .page import Page

_PACKAGE = pytest_llmperf.__name__


def page() -> Page:
    return Page(
        name="reference/api",
        title="Python API",
        about="what tests import, and what fixtures return",
        body="\n".join(_parts()),
    )


def _parts() -> Iterator[str]:
    yield f"All of these are imported from `{_PACKAGE}`.\n\n## Values\n"
    errors = []
    for name in pytest_llmperf.__all__:
        kind = getattr(pytest_llmperf, name)
        if inspect.isclass(kind) and issubclass(kind, Exception):
            errors.append(name)
        else:
            yield _auto(name, members=True)
    yield "## Errors\n\n[Error messages](messages.md) tells what each becomes and all it may say.\n"
    yield from (_auto(name, members=False) for name in errors)
    yield "## A server to test with\n\n[Testing](../testing.md) tells how it is used.\n"
    yield _auto("testing.FakeServer", members=True)
    yield _auto("testing.Script", members=True)


def _auto(name: str, *, members: bool) -> str:
    options = "   :members:\n   :undoc-members:\n   :exclude-members: __init__\n" if members else ""
    return f"```{{eval-rst}}\n.. autoclass:: {_PACKAGE}.{name}\n{options}```\n"
