"""The built-in engines, and the documented flags that each adds for a model on a device."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from pytest_llmperf.engines.cookbook import Cookbook, Row
from pytest_llmperf.engines.other_recipes import COOKBOOKS
from pytest_llmperf.engines.registry import BUILT_IN
from pytest_llmperf.engines.sglang_recipes import SGLANG

from .page import Page, described, escaped, prose, table


def page() -> Page:
    return Page(
        name="reference/engines",
        title="Engines and recipes",
        about="the built-in engines and their documented flags",
        body="\n".join(_parts()),
    )


def engine_classes() -> dict[str, type[Any]]:
    """The class of every built-in engine by the name that ``llm_server`` takes."""
    found = {}
    for name, home in BUILT_IN.items():
        module, _, attribute = home.partition(":")
        found[name] = getattr(import_module(module), attribute)
    return found


def cookbooks() -> dict[str, Cookbook]:
    """The table of recipes of every engine that has some."""
    books = {"sglang": SGLANG, **COOKBOOKS}
    return {engine: book for engine, book in books.items() if book.rows}


def _parts() -> Iterator[str]:
    yield "Names for `llm_server`. How sure each is, is told in [engines](../engines.md).\n"
    for name, cls in engine_classes().items():
        yield described("engine", name, prose(inspect.getdoc(cls) or ""))
    yield "## Recipes\n\nTried from the top; the first that fits adds its flags.\n"
    for name, cookbook in cookbooks().items():
        yield f"### {escaped(name)}\n"
        yield table(("for", "flags and environment", "documented in"), map(_row, cookbook.rows))


def _row(row: Row) -> list[str]:
    where = [row.name, row.vendor, row.product and f"`{row.product}`", ", ".join(row.models)]
    least, most = row.devices
    if (least, most) != (1, 1024):
        where.append(f"{least} to {most} devices" if least != most else f"{least} devices")
    said = [*map(" ".join, row.flags), *(f"{key}={value}" for key, value in row.env)]
    return [
        ", ".join(escaped(each) if "`" not in each else each for each in where if each).replace(
            "|", "\\|"
        ),
        " ".join(f"`{each}`" for each in said) or "none",
        escaped(row.source),
    ]
