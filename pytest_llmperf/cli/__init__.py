"""The console script ``pytest-llmperf``: what is useful outside a test run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout

from pytest_llmperf.errors import LlmPerfError

from . import (
    baseline,
    bisect,
    compare,
    doctor,
    export,
    imports,
    merge,
    models,
    report,
    trend,
    validate,
)
from .plain import Plain

_COMMANDS = (
    *(doctor, validate, models, report, export, imports),
    *(compare, merge, trend, baseline, bisect),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand. Returns 0 when all is well, 1 when not, 2 for a wrong command line; a
    command's own help tells what else."""
    arguments = parser().parse_args(argv)
    out, err = Plain(sys.stdout), Plain(sys.stderr)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = int(arguments.run(arguments))
        sys.stdout.flush()
    except LlmPerfError as error:
        print(f"pytest-llmperf: {error}", file=err)
        return 1
    except BrokenPipeError:
        # Whoever read this has seen enough, as `head` has; nothing may be flushed to it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(
            f"pytest-llmperf: {where}{error.strerror or error}. Name another place, or make room "
            "and give access there.",
            file=err,
        )
        return 1
    return status


def parser() -> argparse.ArgumentParser:
    """The whole command line; every command's module adds its own part."""
    whole = argparse.ArgumentParser(
        prog="pytest-llmperf", description="Perf assertions for LLM serving: companion commands."
    )
    commands = whole.add_subparsers(required=True, metavar="COMMAND")
    for command in _COMMANDS:
        command.add_to(commands)
    return whole
