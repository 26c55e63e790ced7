"""Records as JSON documents and back; what does not match the schema is refused both ways."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

from pytest_llmperf.reading import Unreadable, parse_json
from pytest_llmperf.records import Judged, LaunchValues, Level, NoiseProfile, Observation
from pytest_llmperf.redact import redact_mapping
from pytest_llmperf.schema import schema_errors

from .base import Kind, Record, Slip, StoreError
from .migrate import VERSION, migrated

SCHEMA = "baseline-v1"
_SHORT_COMMIT = 7
_LONGEST_RUNNER = 32
_ID_DIGITS = 16
_RESTORE = (
    "Restore it (git checkout -- FILE, or from the database's backup), or delete it if it may be "
    "forgotten."
)


def new_id() -> str:
    """An id for an observation or a level; no two are equal."""
    return uuid4().hex[:_ID_DIGITS]


def kind_of(record: Record) -> Kind:
    """Which of the three kinds of documents ``record`` is kept as."""
    match record:
        case Observation():
            return "observation"
        case Level():
            return "level"
        case NoiseProfile():
            return "profile"


def id_of(record: Record) -> str:
    """What ``record`` is kept by; a profile has none of its own, and is known by what it says."""
    if isinstance(record, NoiseProfile):
        return sha256(text_of(record).encode()).hexdigest()[:_ID_DIGITS]
    return record.id


def moment(created: str) -> datetime:
    """The point in time that ``created`` names; raises :class:`ValueError`."""
    return datetime.fromisoformat(created).astimezone(UTC)


# --- out -------------------------------------------------------------------------------------


def slip_of(record: Record) -> Slip:
    """``record`` ready to be kept; raises :class:`StoreError` when the schema refuses it."""
    text = text_of(record)
    what = f"The {kind_of(record)} of {record.key!r} made at {record.created!r}"
    record_of(text, what, remedy="If no hook changed it, this is a mistake in pytest-llmperf.")
    id_ = id_of(record)
    parts = (_stamp(record.created), *_origin(record), id_)
    return Slip(
        kind=kind_of(record),
        id=id_,
        key=record.key,
        created=record.created,
        text=text,
        name="-".join(part for part in parts if part),
    )


def text_of(record: Record) -> str:
    """``record`` as JSON: equal records have equal texts, and lines differ where fields do."""
    document = {"kind": kind_of(record), "schema_version": VERSION, **_plain(record)}
    if isinstance(record, Observation):
        # It is committed to repositories that many people read.
        document["subject"] = redact_mapping(document["subject"], repeated=False)
    return _json(document, indent=2) + "\n"


def canonical(value: Any) -> str:
    """``value`` as JSON in one line; equal values have equal texts. Raises :class:`StoreError`."""
    return _json(value, separators=(",", ":"))


def _json(value: Any, **how: Any) -> str:
    try:
        text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, **how)
        text.encode()  # half a surrogate pair fails only here
    except (TypeError, ValueError) as error:
        raise StoreError(f"A value cannot be kept because JSON cannot hold it: {error}.") from error
    return text


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def _stamp(created: str) -> str:
    return f"{moment(created):%Y%m%dT%H%M%SZ}"


def _origin(record: Record) -> tuple[str, str]:
    """Commit and runner, fit for the name of a file."""
    if isinstance(record, Observation):
        commit = _fit(record.commit or "", _SHORT_COMMIT)
        return commit, _fit(record.runner, _LONGEST_RUNNER)
    return "", ""


def _fit(text: str, longest: int) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "-", text)[:longest].strip("-")


# --- in --------------------------------------------------------------------------------------


def record_of(text: str, where: str, *, remedy: str = _RESTORE) -> Record:
    """The record that ``text`` holds, of whichever kind and version.

    ``where`` it was found is said in the :class:`StoreError` that is raised for text that is cut
    short, is no JSON, does not match the schema, or comes from a version that is not known.
    """
    document = _parsed(text, where, remedy)
    if not isinstance(document, dict):
        raise StoreError(f"{where} holds no JSON object. {remedy}")
    current = migrated(document, where)
    if errors := schema_errors(current, SCHEMA):
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise StoreError(f"{where} does not match its schema: {errors[0]}{more}. {remedy}")
    _check_times(current, where, remedy)
    return _built(current)


def _parsed(text: str, where: str, remedy: str) -> Any:
    try:
        return parse_json(text)
    except Unreadable as error:
        said = str(error).removeprefix("is not JSON: ")
        why = said if not text.strip() else f"is cut short or is no JSON: {said}"
        raise StoreError(f"{where} {why}. {remedy}") from error


def _check_times(document: Mapping[str, Any], where: str, remedy: str) -> None:
    launches = document["launches"] if document["kind"] == "observation" else []
    times = [document["created"], *(launch["started_at"] for launch in launches)]
    for time in times:
        try:
            moment(time)
        except (ValueError, OverflowError) as error:
            raise StoreError(f"{where} names a time that is none, {time!r}. {remedy}") from error


def _built(document: Mapping[str, Any]) -> Record:
    """The record of a document that matches the schema."""
    values = {name: _tuples(value) for name, value in document.items() if name not in _FRAME}
    match document["kind"]:
        case "observation":
            values["launches"] = tuple(
                LaunchValues(**{name: _tuples(value) for name, value in launch.items()})
                for launch in document["launches"]
            )
            values["judged"] = tuple(
                Judged(**{**gate, "pairs": tuple(tuple(pair) for pair in gate["pairs"])})
                for gate in document["judged"]
            )
            return Observation(**values)
        case "level":
            return Level(**values)
        case _:
            return NoiseProfile(**values)


_FRAME = ("kind", "schema_version")


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
