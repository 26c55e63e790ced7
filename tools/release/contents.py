"""What must lie in a wheel and an sdist, and what must not."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

PACKAGE = "pytest_llmperf"
OF_SDIST = ("README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO")


def wheel_problems(names: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Sentences, one for each thing that is missing or too much; ``wanted`` are the files of the
    package and the schemas, by the names that they have in a wheel."""
    found = set(names)
    tops = {name.partition("/")[0] for name in found}
    info = {top for top in tops if top.endswith(".dist-info")}
    problems = [f"{name} is missing" for name in sorted(set(wanted) - found)]
    problems += [f"{top}/ is too much" for top in sorted(tops - info - {PACKAGE})]
    problems += [f"{name} is too much" for name in sorted(found) if "__pycache__" in name]
    if not any(name.endswith(".dist-info/licenses/LICENSE") for name in found):
        problems.append("the licence is missing")
    return problems


def sdist_problems(names: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """The same of an sdist, whose names all begin with one directory."""
    inner = {name.partition("/")[2] for name in names}
    hidden = {name for name in inner if name.startswith(".") and name != ".gitignore"}
    problems = [f"{name} is missing" for name in sorted({*OF_SDIST, *wanted} - inner)]
    problems += [f"{name} is too much" for name in sorted(hidden)]
    if not any(name.startswith("tests/") for name in inner):
        problems.append("the tests are missing")
    return problems


def wanted_in_wheel(tracked: Iterable[str]) -> list[str]:
    """By their names in a wheel: what git tracks of the package, and the schemas."""
    return [
        f"{PACKAGE}/{name}" if name.startswith("schemas/") else name
        for name in wanted_in_sdist(tracked)
    ]


def wanted_in_sdist(tracked: Iterable[str]) -> list[str]:
    return [name for name in tracked if name.startswith((f"{PACKAGE}/", "schemas/"))]


def names_in_wheel(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return archive.namelist()


def names_in_sdist(path: Path) -> list[str]:
    with tarfile.open(path) as archive:
        return [member.name for member in archive if member.isfile()]


def digests(path: Path) -> dict[str, str]:
    """SHA-256 of every file in a wheel."""
    with zipfile.ZipFile(path) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


def differing(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Names of files that two wheels do not have in common."""
    return sorted({name for name, _ in one.items() ^ other.items()})
