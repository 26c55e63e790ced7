"""``pytest-llmperf import``: results of other tools as a report that ``compare`` takes."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import ReportError, UsageMistake
from pytest_llmperf.report.imports import TOOLS, read
from pytest_llmperf.report.imports.document import Told, foreign_report
from pytest_llmperf.report.imports.found import Found
from pytest_llmperf.report.validate import problems_in
from pytest_llmperf.report.write import write_report

from .words import Commands, command, count

_MORE = """\
Reads what sglang.bench_serving, vllm bench serve, AIPerf and GuideLLM write. The report says that
it is foreign; what the files do not tell stays unknown. All files are taken as one launch of the
server, unless --launch-per-file says that it was started anew for each; intervals are over
launches.
`compare` refuses foreign reports that do not tell the accelerator."""


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "import",
        "make a report of the results of another tool",
        example="pytest-llmperf import bench.jsonl -o foreign.json --accelerator 'H100 x8'",
        more=_MORE,
    )
    parser.set_defaults(run=run)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="results, of one tool")
    parser.add_argument("-o", "--output", type=Path, required=True, help="where the report goes")
    parser.add_argument(
        "--from", dest="tool", choices=TOOLS, help="whose they are (default: as they look)"
    )
    parser.add_argument(
        "--test",
        default="imported",
        metavar="NODEID",
        help="the test that they stand for, to be compared with its measurements",
    )
    parser.add_argument("--accelerator", metavar="NAME", help="what it ran on, such as 'H100 x8'")
    parser.add_argument("--engine", metavar="NAME", help="what served, where the files do not say")
    parser.add_argument("--model", metavar="NAME", help="the model, where the files do not say")
    parser.add_argument(
        "--launch-per-file",
        action="store_true",
        help="the server was started anew for each file",
    )


def run(arguments: argparse.Namespace) -> int:
    results = [(path, read(path, arguments.tool)) for path in arguments.files]
    _check_one_tool(results)
    document = foreign_report(
        results,
        Told(
            test=arguments.test,
            engine=arguments.engine,
            model=arguments.model,
            accelerator=arguments.accelerator,
            launch_per_file=arguments.launch_per_file,
        ),
        command=["pytest-llmperf", *sys.argv[1:]],
        created=datetime.now(UTC).isoformat(),
        tool_version=metadata.version("pytest-llmperf"),
    )
    _check_makes_sense(document, arguments.files)
    write_report(document, arguments.output, option="-o")
    for note in document["foreign"]["notes"]:
        print(note)
    print(f"{arguments.output}: {count(len(document['measurements']), 'load')}")
    return 0


def _check_makes_sense(document: Mapping[str, Any], files: Sequence[Path]) -> None:
    """Figures such as -3 requests make no report, and none is written."""
    if problems := problems_in(document):
        raise ReportError(
            f"{', '.join(map(str, files))}: what is told there makes no report: {problems[0]}. "
            "Name results that a tool wrote.",
            path=files[0],
        )


def _check_one_tool(results: Sequence[tuple[Path, Sequence[Found]]]) -> None:
    tools = list(dict.fromkeys(found.tool for _, found_here in results for found in found_here))
    if len(tools) > 1:
        raise UsageMistake(
            f"these are the results of {' and '.join(tools)}, which measure differently: import "
            "them one tool at a time."
        )
