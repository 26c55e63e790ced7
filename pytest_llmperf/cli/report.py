"""``pytest-llmperf report``: a report as a page for a browser."""

from __future__ import annotations

import argparse
from pathlib import Path

from .reports import load
from .words import Commands, command


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "report",
        "make an HTML page of a report",
        more="One file that needs no network: verdict, gates, charts and the report itself.",
        example="pytest-llmperf report report.json -o page.html",
    )
    parser.set_defaults(run=run)
    parser.add_argument("report", type=Path, help="a JSON report")
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PATH",
        help="where the page goes (default: beside the report, with .html at its end)",
    )


def run(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.report.html import write_page
    from pytest_llmperf.report.profiles import seen_from

    path: Path = arguments.output or arguments.report.with_suffix(".html")
    document = seen_from(load(arguments.report), arguments.report.parent, path.parent)
    write_page(document, path, option="-o")
    print(path)
    return 0
