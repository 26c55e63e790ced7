"""The JSON Schemas, every field with its type, bounds, unit and description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_llmperf.schema import load_schema

from .page import Page, described, escaped, told

#: Every schema by its name, and what is written so.
SCHEMAS = {
    "report-v1": "the JSON report",
    "baseline-v1": "what a store keeps",
    "prices-v1": "the file of --llmperf-prices",
    "published-v1": "figures that others have published",
}
_BOUNDS = {
    "minimum": "at least {}",
    "exclusiveMinimum": "above {}",
    "maximum": "at most {}",
    "minItems": "at least {} of them",
    "maxItems": "at most {} of them",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "pattern": "matches `{}`",
    "format": "in the format {}",
    "unit": "in {}",
    "x-unit": "in {}",
}
Schema = Mapping[str, Any]


def pages() -> list[Page]:
    """A page for each schema."""
    return [
        Page(
            name=f"reference/schema-{name}",
            title=f"JSON Schema {name}",
            about=what,
            body="\n".join(_parts(load_schema(name), name)),
        )
        for name, what in SCHEMAS.items()
    ]


def _parts(schema: Schema, name: str) -> Iterator[str]:
    yield f"`{schema['$id']}`: {told(schema['description'])}\n"
    yield f"Fields are present unless it says otherwise.\n\n## The document ({name})\n"
    yield from fields(schema, "", name)
    for title, part in schema.get("$defs", {}).items():
        yield f"## {escaped(title)}\n"
        yield f"{escaped(part.get('description', ''))}\n\n*{_type(part)}*{_facts(part)}\n"
        yield from fields(part, title, name)


def fields(schema: Schema, path: str, of: str) -> Iterator[str]:
    """Every property of an object, and of the objects that are written inside of it; ``of`` is
    the schema's name, without which a field's would not be unique."""
    required = schema.get("required", ())
    for name, part in schema.get("properties", {}).items():
        full = f"{path}.{name}" if path else name
        absent = "" if name in required else "May be missing."
        facts = f"*{_type(part)}*{_facts(part)}"
        about = told(part.get("description", ""))
        yield described("field", f"{of}/{full}", about, facts, absent)
        yield from _below(part, full, of)
    for key in ("anyOf", "oneOf", "allOf"):
        for part in schema.get(key, ()):
            yield from fields(part, path, of)
            yield from fields(part.get("then", {}), path, of)


def _below(part: Schema, path: str, of: str) -> Iterator[str]:
    yield from fields(part, path, of)
    if isinstance(items := part.get("items"), Mapping):
        yield from _below(items, f"{path}[]", of)
    if isinstance(values := part.get("additionalProperties"), Mapping):
        yield from _below(values, f"{path}.*", of)


def _type(part: Schema) -> str:
    """What a value is, in words, with links to the parts that have a name."""
    if reference := part.get("$ref"):
        title = reference.rpartition("/")[2]
        return f"[{escaped(title)}](#{title})"
    if "const" in part:
        return f"always `{part['const']}`"
    if "enum" in part:
        return "one of " + ", ".join(f"`{value}`" for value in part["enum"])
    for key in ("anyOf", "oneOf"):
        if key in part:
            return " or ".join(_type(each) for each in part[key])
    kinds = part.get("type", "anything")
    return " or ".join(_kind(kind, part) for kind in ([kinds] if isinstance(kinds, str) else kinds))


def _kind(kind: str, part: Schema) -> str:
    if kind == "array" and isinstance(items := part.get("items"), Mapping):
        return f"array of {_type(items)}"
    if kind == "object" and isinstance(values := part.get("additionalProperties"), Mapping):
        return f"object of {_type(values)}"
    return kind


def _facts(part: Schema) -> str:
    told = [words.format(part[key]) for key, words in _BOUNDS.items() if key in part]
    return "".join(f", {each}" for each in told)
