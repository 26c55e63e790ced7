"""``pytest-llmperf doctor``: what can run here."""

from __future__ import annotations

import argparse
import sys

from .words import Commands, command


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "doctor",
        "what can run here: accelerator, cores, engines",
        example="pytest-llmperf doctor --python .venv-sglang/bin/python",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--python", metavar="PATH", default=sys.executable, help="the engines' interpreter"
    )


def run(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.doctor import examine

    findings = examine(arguments.python)
    for line in findings.lines:
        print(line)
    return 0 if findings.can_run else 1
