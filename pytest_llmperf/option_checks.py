"""What holds of every option and ini value, whichever it is: checked before any of them is read.

A report that cannot be written is better known before anything is measured than after it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pytest_llmperf.accelerators.detect import VENDOR_WORDS
from pytest_llmperf.drafts import place_of_system
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.options import INI
from pytest_llmperf.redact import redact_joined

#: Nothing that is counted here is counted so far; what is larger is a slip.
MOST = 1_000_000
#: Options that mean something when they are empty, or say themselves what is missing.
_MAY_BE_EMPTY = frozenset({"llmperf_reference_args", "llmperf_anchor", "llmperf_url"})
_OF_GIT = frozenset({"llmperf_limits_from", "llmperf_reference_ref", "llmperf_anchor"})
_FILES = ("llmperf_report", "llmperf_html", "llmperf_markdown")
_DIRECTORIES = ("llmperf_log_dir", "llmperf_lock_dir")


def check_options(config: pytest.Config) -> None:
    """Raises :class:`~pytest_llmperf.errors.UsageMistake` naming option, value and remedy."""
    for name, value in vars(config.option).items():
        if name.startswith("llmperf"):
            _check_one(name, value)
    for name in INI:
        _check_ini(name, config.getini(name))
    _check_accelerator(config.getoption("llmperf_accelerator"))
    here = config.invocation_params.dir
    for name in _FILES:
        if text := config.getoption(name):
            check_file(here / text, f"{_spelled(name)}={text}")
    for name in _DIRECTORIES:
        if text := config.getoption(name):
            _check_directory(here / text, f"{_spelled(name)}={text}")


def _check_one(name: str, value: object) -> None:
    option = _spelled(name)
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and not text.strip() and name not in _MAY_BE_EMPTY:
            raise UsageMistake(f"{option} is empty: give it a value, or leave the option out.")
        if isinstance(text, str) and "\0" in text:
            shown = redact_joined(text)
            raise UsageMistake(f"{option}={shown!r}: no path and no name has a NUL in it.")
        if isinstance(text, str) and text.startswith("-") and name in _OF_GIT:
            raise UsageMistake(
                f"{option}={redact_joined(text)}: git takes that for an option; name a branch, a "
                "tag or a commit."
            )
    if isinstance(value, int) and abs(value) > MOST:
        raise UsageMistake(f"{option}={value}: expected a number of at most {MOST:,}.")


def _check_accelerator(name: str | None) -> None:
    if name is not None and name.lower() not in VENDOR_WORDS:
        raise UsageMistake(
            f"--llmperf-accelerator={name}: expected one of {', '.join(VENDOR_WORDS)}."
        )


def _check_ini(name: str, value: object) -> None:
    said = f"ini value {name} = {redact_joined(repr(value))}"
    if not isinstance(value, str):
        raise UsageMistake(f"{said}: expected one text; write it without brackets.")
    if "\0" in value:
        raise UsageMistake(f"{said}: no path and no name has a NUL in it.")
    if value.strip().isdecimal() and len(value.strip()) >= len(str(MOST)):
        raise UsageMistake(f"{said}: expected a number below {MOST:,}.")


def check_file(path: Path, said: str) -> None:
    """Whether a file may come to lie at ``path``; ``said`` is how it was named."""
    with _told(said):
        if path.is_dir():
            raise UsageMistake(f"{said}: that is a directory; name a file in it.")
        if (place := place_of_system(path)) is not None:
            raise UsageMistake(f"{said}: {place} belongs to the system; name a file elsewhere.")
        if path.exists() and not path.is_file():
            raise UsageMistake(f"{said}: that is a device or a pipe; name a file.")
        _check_directory(path.parent, said)


def _check_directory(path: Path, said: str) -> None:
    with _told(said):
        there = next(place for place in _upwards(path) if place.exists())
        if not there.is_dir():
            raise UsageMistake(f"{said}: {there} is no directory; name another place.")


def _upwards(path: Path) -> Iterator[Path]:
    yield path
    yield from path.parents


def is_there(path: Path) -> bool:
    """Whether something is at ``path``; nothing is where the system refuses the very name."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def expanded(text: str, said: str) -> Path:
    """``text`` as a path, with the home directory that ``~`` stands for."""
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UsageMistake(
            f"{said}: nobody knows the home directory that '~' stands for; write the whole path."
        ) from None


@contextmanager
def _told(said: str) -> Iterator[None]:
    """What the system says of a path that it refuses, such as one that is too long."""
    try:
        yield
    except OSError as error:
        raise UsageMistake(f"{said}: {error.strerror or error}; name another path.") from None


def _spelled(name: str) -> str:
    return "--" + name.replace("_", "-")
