"""The schemas that documents must match, from a wheel or a checkout."""

from __future__ import annotations

import functools
import itertools
import json
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

_LONGEST = 200
#: More places than anybody reads: a hostile document has millions of them.
_MOST = 1000


def load_schema(name: str) -> dict[str, Any]:
    """The JSON Schema called ``name`` ("report-v1"); raises :class:`FileNotFoundError`."""
    for folder in _folders():
        file = folder / f"{name}.schema.json"
        if file.is_file():
            schema: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
            return schema
    raise FileNotFoundError(f"no schema called {name!r} is installed with pytest-llmperf")


def _folders() -> Iterator[Traversable]:
    yield resources.files("pytest_llmperf") / "schemas"  # a wheel carries them
    yield Path(__file__).parents[1] / "schemas"  # a checkout has them at its top


def schema_errors(document: Any, name: str) -> list[str]:
    """Where ``document`` departs from the schema ``name``, by JSON path; empty when it is valid.

    Of a document that is wrong all over, the first so many places."""
    try:
        found = list(itertools.islice(_validator(name).iter_errors(document), _MOST))
    except RecursionError:
        return ["$: it is nested too deeply"]
    errors = sorted(found, key=lambda error: error.json_path)
    return [f"{_short(error.json_path)}: {_short(error.message)}" for error in errors]


@functools.cache  # a store checks hundreds of documents against one schema
def _validator(name: str) -> Any:
    import jsonschema  # slow to import, and most sessions never need it

    return jsonschema.Draft202012Validator(load_schema(name))


def _short(message: str) -> str:
    if len(message) <= _LONGEST:
        return message
    half = _LONGEST // 2
    return f"{message[:half]} ... {message[-half:]}"
