"""Which Python packages a server has in its container, as its own interpreter tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pytest_llmperf.records import Container

from .container_tool import output_inside
from .installed import Program

#: Run by the interpreter in the container; of two packages of one name the first is used.
_ASK = """
import importlib.metadata, json, re, sys
found = {}
for one in importlib.metadata.distributions():
    name = one.metadata["Name"] or ""
    found.setdefault(re.sub(r"[-_.]+", "-", name).lower(), one.version)
found.pop("", None)
print(json.dumps({"version": sys.version.split()[0], "packages": found}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The interpreter's version and those of all packages that it finds."""

    version: str
    packages: Mapping[str, str]


#: Answers by image and interpreter: what is in an image does not change.
_answers: dict[tuple[str, tuple[str, ...]], Seen] = {}


def ask(container: Container, started: Program) -> Seen | None:
    """What the interpreter of a running container tells, ``None`` when it does not."""
    question = (container.image_id, started.interpreter)
    if question not in _answers:
        answer = _read(output_inside(container, (*started.interpreter, "-c", _ASK)))
        if answer is None:
            return None
        _answers[question] = answer
    return _answers[question]


def _read(text: str | None) -> Seen | None:
    try:
        told = json.loads(text.splitlines()[-1]) if text else None
    except ValueError:
        return None
    match told:
        case {"version": str(version), "packages": {**packages}}:
            versions = {str(name): str(value) for name, value in packages.items()}
            return Seen(version=version, packages=versions)
    return None
