"""``pytest-llmperf doctor``: what can run here."""

from __future__ import annotations

import argparse
import json
import sys

from .words import Commands, command


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "doctor",
        "what can run here, and what would spoil results: accelerator, cores, engines",
        example="pytest-llmperf doctor --python .venv-sglang/bin/python",
        more="Exit status: 0 when an engine can start here, 1 when none can.",
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "--python", metavar="PATH", default=sys.executable, help="the engines' interpreter"
    )
    parser.add_argument("--json", action="store_true", help="for programs; see docs/doctor.md")


def run(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.doctor import examine

    findings = examine(arguments.python)
    if arguments.json:
        print(json.dumps(findings.as_json(), indent=2, ensure_ascii=False))
    else:
        print("\n".join(findings.lines))
    return 0 if findings.can_run else 1
