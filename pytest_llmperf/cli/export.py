"""``pytest-llmperf export``: a report in the formats of others."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.report.exports import KINDS, export, split
from pytest_llmperf.report.requests import KIND as REQUESTS

from .reports import load
from .words import Commands, command

_MORE = f"""\
Kinds: {", ".join(KINDS)}.
The same as --llmperf-export of pytest, for a report that is there already. docs/exports.md says
what each kind is for, and what it cannot say."""


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "export",
        "write a report in the formats of other tools",
        example="pytest-llmperf export report.json bencher:bmf.json markdown:comment.md",
        more=_MORE,
    )
    parser.set_defaults(run=run)
    parser.add_argument("report", type=Path, help="a JSON report")
    parser.add_argument("targets", nargs="+", type=_target, metavar="KIND:PATH", help="what, where")


def run(arguments: argparse.Namespace) -> int:
    document = load(arguments.report)
    for kind, path in arguments.targets:
        for place in export(kind, document, Path(path), option=f"{kind}:PATH"):
            print(place)
    return 0


def _target(text: str) -> tuple[str, str]:
    try:
        kind, path = split(text, "KIND:PATH")
    except UsageMistake as mistake:
        raise argparse.ArgumentTypeError(str(mistake)) from None
    if kind == REQUESTS:
        raise argparse.ArgumentTypeError(
            f"{text!r}: a report holds no single requests; have them kept while they are measured, "
            f"with pytest --llmperf-export {text}."
        )
    return kind, path
