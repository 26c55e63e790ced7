"""Options that say how gates are judged: which, on how many launches, at how many false alarms."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.report.required import within

from .option_checks import is_there
from .option_values import count

#: With fewer nothing can be decided: see gates.design.
_FEWEST_PAIRS = 4
#: The false-alarm rate of all gates of a session together.
FAMILY_ALPHA = 0.01
#: Of that, what comparisons with a named release may use: they come on top of those of pull
#: requests, night after night.
ANCHOR_SHARE = 0.1
#: With fewer launches nothing can be said of their noise: see gates.noise.
_FEWEST_TO_CALIBRATE = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """A part of the suite: ``given`` by the user, ``nodeid`` as pytest names it, "" for all."""

    given: str
    nodeid: str

    def covers(self, nodeid: str) -> bool:
        """Whether a test is in it: below the directory, in the file or class, of any parameters."""
        return within(nodeid, self.nodeid)


def required_scopes(config: pytest.Config) -> tuple[Scope, ...]:
    """The parts of the suite whose gates must all have run."""
    given: list[str] = config.getoption("llmperf_require")
    if not given:
        return ()
    mode = config.getoption("llmperf") or config.getini("llmperf")
    calibrating = config.getoption("llmperf_calibrate") is not None
    if mode != "on" or calibrating:
        said = "--llmperf-calibrate" if calibrating else f"--llmperf={mode}"
        raise UsageMistake(
            f"--llmperf-require {given[0]} asks for decided gates, and {said} judges nothing; "
            "leave one of the two out."
        )
    return tuple(_scope(config, each) for each in given)


def _scope(config: pytest.Config, given: str) -> Scope:
    file, found, inside = given.partition("::")
    path = Path(os.path.normpath(config.invocation_params.dir / file))
    if not is_there(path):
        raise UsageMistake(
            f"--llmperf-require {given}: there is no {path}; name a file or a directory of the "
            "suite, or a test in it as pytest does, tests/test_speed.py::test_chat."
        )
    relative = Path(os.path.relpath(path, config.rootpath)).as_posix()
    return Scope(given=given, nodeid=("" if relative == "." else relative) + found + inside)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """One of several sessions that are judged together: the ``index``-th, from 1, of ``of``."""

    index: int
    of: int


def shard(text: str | None) -> Shard | None:
    """Which session of several this is; ``None`` for one alone."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageMistake(
            f"--llmperf-shard={text}: expected which session of how many this is, counted from 1, "
            "such as 1/8."
        )
    return Shard(index=int(match[1]), of=int(match[2]))


def family(config: pytest.Config) -> int:
    """How many gates share the false-alarm rate; 0 for those that are collected."""
    text = config.getini("llmperf_family")
    if not str(text).isdecimal():
        raise UsageMistake(
            f"ini value llmperf_family = {text!r}: expected a number of gates, or 0 to count."
        )
    return int(text)


def family_alpha(config: pytest.Config, one_of: Shard | None) -> float:
    """The false-alarm rate of all gates of this session together."""
    alpha = FAMILY_ALPHA * (1.0 if config.getoption("llmperf_anchor") is None else ANCHOR_SHARE)
    return alpha / one_of.of if one_of else alpha


def calibration(config: pytest.Config) -> int | None:
    """Launches of each server in a calibration; ``None`` where this is none."""
    launches: int | None = config.getoption("llmperf_calibrate")
    if launches is None:
        return None
    if launches < _FEWEST_TO_CALIBRATE or launches % 2:
        raise UsageMistake(
            f"--llmperf-calibrate={launches}: expected an even number of at least "
            f"{_FEWEST_TO_CALIBRATE} launches; neighbours make pairs."
        )
    if not (config.getoption("llmperf_store") or config.getini("llmperf_store")):
        raise UsageMistake(
            "--llmperf-calibrate remembers what it finds; say where with --llmperf-store DIRECTORY."
        )
    return launches


def pairs_of_launches(config: pytest.Config) -> int:
    """The most of a comparison with a reference."""
    pairs = count(config, "llmperf_pairs")
    if pairs < _FEWEST_PAIRS or pairs % 2:
        raise UsageMistake(
            f"--llmperf-pairs={pairs}: expected an even number of at least {_FEWEST_PAIRS}; "
            "launches alternate in blocks of two pairs."
        )
    return pairs


def anchor(config: pytest.Config) -> str | None:
    """The release that every session is compared with, if there is one."""
    release: str | None = config.getoption("llmperf_anchor")
    if release is None:
        return None
    said = f"--llmperf-anchor={release}"
    if not release.strip():
        raise UsageMistake("--llmperf-anchor is empty: name the release, such as v1.4.0.")
    if not (config.getoption("llmperf_store") or config.getini("llmperf_store")):
        raise UsageMistake(
            f"{said}: its pairs are kept from session to session; say where with --llmperf-store."
        )
    if config.getoption("llmperf_aa") or config.getoption("llmperf_calibrate") is not None:
        other = "--llmperf-aa" if config.getoption("llmperf_aa") else "--llmperf-calibrate"
        raise UsageMistake(f"{said} judges a change and {other} looks at noise; give one of them.")
    return release.strip()
