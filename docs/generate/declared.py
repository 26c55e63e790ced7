"""What tests and plugins write: markers, fixtures, hooks."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

from pytest_llmperf import fixtures, hookspecs
from pytest_llmperf.markers import MARKERS

from .page import Page, described, prose, sentence, told


def page() -> Page:
    return Page(
        name="reference/declared",
        title="Markers, fixtures, hooks",
        about="what tests declare and use, and what plugins may add",
        body="\n".join(_parts()),
    )


def fixture_functions() -> dict[str, Any]:
    """Every fixture by its name, as it was declared."""
    return {name: each for name, each in vars(fixtures).items() if name.startswith("llm_")}


def hooks() -> dict[str, Callable[..., Any]]:
    """Every hook by its name."""
    named = vars(hookspecs).items()
    return {name: each for name, each in named if name.startswith("pytest_llmperf_")}


def _parts() -> Iterator[str]:
    yield "## Markers\n\n`pytest --markers` prints these.\n"
    for name, text in MARKERS.items():
        signature, _, meaning = text.removeprefix(name).partition("): ")
        yield described("marker", f"{name}{signature})", told(sentence(meaning)))
    yield "## Fixtures\n\n`pytest --fixtures` prints these.\n"
    for name, fixture in fixture_functions().items():
        yield described("fixture", name, _scope(fixture), prose(inspect.getdoc(fixture) or ""))
    yield "## Hooks\n"
    yield prose(inspect.getdoc(hookspecs) or "") + "\n"
    for name, hook in hooks().items():
        yield described(
            "hook", f"{name}{inspect.signature(hook)}", prose(inspect.getdoc(hook) or "")
        )


def _scope(fixture: Any) -> str:
    scope: str = fixture._fixture_function_marker.scope
    return f"*Scope: {scope}.*"
