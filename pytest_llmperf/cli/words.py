"""What the commands share: how they are declared, and how tables and differences are told."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_llmperf.gates.compare import Difference
from pytest_llmperf.metrics.units import format_value
from pytest_llmperf.report import words
from pytest_llmperf.report.words import count as count

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]
else:
    Commands = object

#: Exit statuses of commands that judge.
EXIT_TROUBLE = 1
EXIT_WORSE = 10
#: False-alarm rate of one call of a command that judges, shared by the rows that decide.
ALPHA = 0.01


def command(
    commands: Commands, name: str, what: str, *, example: str, more: str = ""
) -> argparse.ArgumentParser:
    """A command's parser: ``what`` in a few words, ``more`` in lines of its own, an example."""
    return commands.add_parser(
        name,
        help=what,
        description=f"{what[0].upper()}{what[1:]}.\n\n{more}".strip(),
        epilog=f"example:\n{indented(example)}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def table(rows: Sequence[Sequence[str]], headers: Sequence[str], *, right: str = "") -> list[str]:
    """An aligned table; the columns whose headings are listed in ``right`` are set to the right."""
    from tabulate import tabulate

    aligned = right.split(",")
    align = ["right" if header in aligned else "left" for header in headers]
    # The heading goes in as a row, or tabulate pads its columns; numbers are formatted already.
    text = tabulate([headers, *rows], tablefmt="plain", disable_numparse=True, colalign=align)
    head, *body = (line.rstrip() for line in text.splitlines())
    return [head, "-" * max(map(len, (head, *body))), *body]


def percent(fraction: float | None, *, signed: bool = True) -> str:
    """A change as people read it; "-" where there is none."""
    return words.percent(fraction, signed=signed)


def value_text(value: float | None, unit: str) -> str:
    if value is not None and math.isinf(value):
        return "unbounded"
    return "-" if value is None else format_value(value, unit)


def interval_text(difference: Difference) -> str:
    """ "-7.5..-4.7 %", or "-" where there is none."""
    if difference.low is None or difference.high is None:
        return "-"
    low, high = (f"{100 * end:+.1f}" for end in (difference.low, difference.high))
    return f"{low}..{high} %"
