"""Running a client that is a Python module of this package as a program of its own."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path

from .base import Load, Seen
from .processes import run_tree

_ROOT = Path(__file__).parents[2]
_START_AND_END_S = 60.0


def run_module(module: str, load: Load, *options: str) -> Seen:
    """Run ``python -m module LOAD options...`` on the load's core and take up what it saw.

    Raises :class:`RuntimeError` quoting it when it fails.
    """
    asked = json.dumps(dataclasses.asdict(load), default=str)
    finished = run_tree(
        [sys.executable, "-m", module, asked, *options],
        core=load.core,
        timeout_s=load.timeout_s + _START_AND_END_S,
        cwd=_ROOT,
    )
    finished.check(module)
    seen = Seen(**json.loads(finished.stdout))
    return dataclasses.replace(seen, cpu_s=finished.cpu_s, peak_rss_bytes=finished.peak_rss_bytes)


def main(carry_out: Callable[[Load, list[str]], Seen]) -> None:
    """The other side: read the load from the command line, print what was seen."""
    asked = json.loads(sys.argv[1])
    for name in ("model_dir", "scratch"):
        asked[name] = Path(asked[name])
    print(json.dumps(dataclasses.asdict(carry_out(Load(**asked), sys.argv[2:]))))
