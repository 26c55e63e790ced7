"""What CI calls and a test has no network for: installs, and Buildkite's agent.

stub.py venv LOG ARGS...     python3 -m venv ARGS, with a pip that is this file
stub.py pip LOG VENV ARGS... remembers what was asked; what was to be installed is what runs here
stub.py agent LOG ARGS...    buildkite-agent ARGS
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest_llmperf

SCRIPT = '#!/bin/sh\n{before}exec {words} "$@"\n'
#: The engine's code runs in the simulator's process before it: a pace of its own is its speed.
STARTS = "import toyengine"


def main(kind: str, log: str, *words: str) -> int:
    with Path(log).open("a", encoding="utf-8") as out:
        out.write(json.dumps([kind, *words]) + "\n")
    does: dict[str, Callable[..., None]] = {"venv": make, "pip": install, "agent": agent}
    does[kind](log, *words)
    return 0


def make(log: str, *words: str) -> None:
    place = Path(words[-1])
    venv.create(place, symlinks=True, clear="--clear" in words)
    write(place / "bin" / "pip", sys.executable, __file__, "pip", log, str(place.resolve()))
    # It comes first on the PATH now, so it has to leave venv to this file too.
    (place / "bin" / "python3").unlink()
    again = quoted(sys.executable, __file__, "venv", log)
    before = f'[ "$1 $2" = "-m venv" ] && exec {again} "$@"\n'
    write(place / "bin" / "python3", str(place.resolve() / "bin" / "python"), before=before)


def install(_: str, place: str, *words: str) -> None:
    (packages,) = Path(place).glob("lib/python*/site-packages")
    for word in words[1:]:
        if word == "-e":
            (packages / "engine.pth").write_text(f"{Path(words[-1]).resolve()}\n{STARTS}\n")
        if word.startswith("pytest-llmperf"):
            python = str(Path(place, "bin", "python"))
            write(Path(place, "bin", "pytest"), python, "-m", "pytest")
            write(Path(place, "bin", "pytest-llmperf"), python, "-m", "pytest_llmperf.cli")
    (packages / "project.pth").write_text("\n".join(paths()))


def agent(log: str, *words: str) -> None:
    kept = Path(log).with_name("artifacts")
    match words:
        case ("annotate", *_):
            Path(log).with_name("annotation.md").write_text(sys.stdin.read(), encoding="utf-8")
        case ("artifact", "download", pattern, to):
            shutil.copytree(kept / pattern.partition("/")[0], Path(to, pattern.partition("/")[0]))


def paths() -> list[str]:
    """What a .pth file needs for this project to be importable elsewhere."""
    here = str(Path(pytest_llmperf.__file__).parents[1])
    return [here, *(path for path in sys.path if path.endswith("site-packages"))]


def write(path: Path, *words: str, before: str = "") -> None:
    path.write_text(SCRIPT.format(before=before, words=quoted(*words)))
    path.chmod(0o755)


def quoted(*words: str) -> str:
    return " ".join(f"'{word}'" for word in words)


if __name__ == "__main__":
    os.environ.pop("PYTHONPATH", None)
    sys.exit(main(*sys.argv[1:]))
