"""``pytest-llmperf validate``: is a report what its schema says?"""

from __future__ import annotations

import argparse
from pathlib import Path

from .reports import problems_of
from .words import Commands, command


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "validate",
        "check a report against its schema",
        example="pytest-llmperf validate report.json",
    )
    parser.set_defaults(run=run)
    parser.add_argument("report", type=Path, help="a JSON report")


def run(arguments: argparse.Namespace) -> int:
    problems = problems_of(arguments.report)
    for problem in problems:
        print(problem)
    if not problems:
        print(f"{arguments.report}: valid")
    return 1 if problems else 0
