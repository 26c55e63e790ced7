"""``pytest-llmperf merge``: reports of several sessions as one report, with one verdict."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import LlmPerfError

from .reports import Document, load
from .words import Commands, command, count

_MORE = """\
For a suite that is spread over machines, or that runs on several kinds of accelerator: each session
gets its share of the false alarms with --llmperf-shard I/N, and writes a report; merge makes one of
them that `report`, `export`, `compare` and `validate` take. The order does not matter, and merged
reports may be merged again.

exit status: that of one session with all these tests
   0  every gate passed, or was inconclusive only because of noise
  10  only gates failed
  11  something broke, was not measured, is required and missing, or a shard has no report
   1  a test failed for a reason of its own, or the reports cannot be merged (nothing is written)
   2  a session was interrupted, or a wrong command line; 3, 4, 5 as pytest's own
any other is that of a session which pytest, a plugin or a test ended so"""


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "merge",
        "make one report of several sessions",
        example="pytest-llmperf merge h100.json mi300x.json -o fleet.json --require tests/perf",
        more=_MORE,
    )
    parser.set_defaults(run=run)
    parser.add_argument("reports", nargs="+", type=Path, metavar="REPORT", help="a JSON report")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the report goes")
    parser.add_argument(
        "--latest",
        action="store_true",
        help="where two sessions measured the same test on the same environment, let the newest "
        "count; what the others said is noted",
    )
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        metavar="PATH|NODEID",
        help="end red unless every gate in this file, directory or test, as sessions collected it, "
        "was judged by one of them, and at least one was decided; '.' for all; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    from pytest_llmperf.report.merge import merge
    from pytest_llmperf.report.profiles import seen_from
    from pytest_llmperf.report.terminal import summary_lines
    from pytest_llmperf.report.write import write_report

    output: Path = arguments.output
    documents = [
        (path, seen_from(load(path), path.parent, output.parent)) for path in arguments.reports
    ]
    document = merge(
        [_judging(path, document) for path, document in documents],
        latest=arguments.latest,
        required=[_scope(given) for given in arguments.require],
        version=metadata.version("pytest-llmperf"),
    )
    write_report(document, output, option="-o")
    for line in (*summary_lines(document), *told_sessions(document), str(output)):
        print(line)
    return int(document["exit_status"])


def _judging(path: Path, document: Document) -> Document:
    if origin := document.get("foreign"):
        raise LlmPerfError(
            f"{path} holds results of {origin['tool']}, which judged no gates: merge joins "
            "sessions of pytest; leave it out, and look at it with `pytest-llmperf compare`."
        )
    return document


def _scope(given: str) -> str:
    """As node ids have it: "." is all of them."""
    return "" if given in (".", "./") else given.removeprefix("./").rstrip("/")


def told_sessions(document: Document) -> Iterator[str]:
    """Which sessions these are, then the verdict, then what to know and what went wrong."""
    from pytest_llmperf.report.brief import closing_lines
    from pytest_llmperf.report.columns import inert_report
    from pytest_llmperf.report.session_facts import title_of

    document = inert_report(document)
    parts: Sequence[Any] = document["merged"]["parts"]
    yield ""
    yield f"merged from {count(len(parts), 'session')}:"
    yield from (f"  {_on_one_line(title_of(part))}" for part in parts)
    yield from closing_lines(document)
    yield from (f"NOTE: {_on_one_line(note)}" for note in document["merged"]["notes"])
    yield from (f"ERROR: {_on_one_line(problem)}" for problem in document["problems"])


def _on_one_line(text: str) -> str:
    """What begins a line of its own may be a command to who reads the log."""
    return " ".join(text.split())
