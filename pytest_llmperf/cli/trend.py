"""``pytest-llmperf trend``: every session of a store, plotted, with the steps in it."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.gates.chronicle import chronicle, mean
from pytest_llmperf.gates.compare import Difference, compare_launches
from pytest_llmperf.metrics import units
from pytest_llmperf.records import Level, Observation

from .history import History, histories, metrics_of
from .where import add_store, opened
from .words import (
    ALPHA,
    EXIT_WORSE,
    Commands,
    command,
    count,
    interval_text,
    percent,
    value_text,
)

if TYPE_CHECKING:
    from pytest_llmperf.gates.steps import Steps

_WIDEST = 120
_MORE = """\
For each key of the store and each metric that a gate names: the means of its sessions, the points
at which their level changed, and the accepted level. What decides is whether the sessions since the
newest change point are worse than those that the accepted level rests on.

exit status:
   0  no newest stretch is worse than its accepted level beyond noise
  10  one is: the t interval of its sessions lies wholly on the bad side, at 99 % shared by all
      metrics shown (of one call: called every night, it has more chances to be wrong)
   1  the store is not there, or cannot be read
   2  a wrong command line"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trend:
    """One metric of one key. ``sessions`` are those that have a value in ``values``; ``newest`` is
    the stretch since the last step, compared with the accepted level."""

    metric: str
    sessions: tuple[Observation, ...]
    values: tuple[float, ...]
    steps: Steps
    level: Level | None
    level_value: float | None
    newest: Difference | None


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "trend",
        "the history of each gated metric, and the steps in it",
        example="pytest-llmperf trend --store perf/ --test test_chat --metric output_throughput",
        more=_MORE,
    )
    parser.set_defaults(run=run)
    add_store(parser)
    parser.add_argument("--test", metavar="SUBSTRING", help="only tests whose node id holds this")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="this metric instead of the gated ones; may be repeated",
    )


def run(arguments: argparse.Namespace) -> int:
    with opened(arguments.store) as store:
        found = histories(store, [arguments.test] if arguments.test else [])
    shown = [(history, name) for history in found for name in metrics_of(history, arguments.metric)]
    if not shown:
        raise UsageMistake(
            "nothing to show: no session of the store has such a metric. Without --metric those "
            "are shown that a gate names."
        )
    confidence = 1 - ALPHA / len(shown)
    width = min(_WIDEST, shutil.get_terminal_size().columns)
    worse = 0
    for history, name in shown:
        trend = examine(history, name, confidence)
        worse += trend.newest is not None and trend.newest.word == "worse"
        print(*lines_of(history, trend, confidence, width), "", sep="\n")
    return EXIT_WORSE if worse else 0


def examine(history: History, metric: str, confidence: float) -> Trend:
    """Find the steps of one metric, and compare its newest stretch with the accepted level."""
    under = {session.id for session in history.under(history.level)}
    found = chronicle(history.sessions, metric, under)
    known = list(zip(found.sessions, found.values, strict=True))
    start = found.steps.starts[-1] if found.steps.starts else 0
    accepted = [value for session, value in known if session.id in under]
    newest = [value for session, value in known[start:] if session.id not in under]
    row = units.row_of(metric)
    return Trend(
        metric=metric,
        sessions=found.sessions,
        values=found.values,
        steps=found.steps,
        level=history.level,
        level_value=found.level,
        newest=compare_launches(
            accepted,
            newest,
            direction=row.direction,
            confidence=confidence,
            counted=row.counted,
        )
        if accepted and newest
        else None,
    )


# --- what is told -----------------------------------------------------------------------------


def lines_of(history: History, trend: Trend, confidence: float, width: int) -> Iterator[str]:
    from pytest_llmperf.report.plot import PLOT_CHARACTERS, history_plot

    unit = units.row_of(trend.metric).unit
    scale = ", log scale" if trend.values and min(trend.values) > 0 else ""
    of = f"{trend.metric}{f' in {unit}' if unit != '1' else ''}"
    yield f"{history.newest.test}: {of}{scale}{history.label}"
    yield f"  {history.key}"
    starts = trend.steps.starts
    if _can_show(PLOT_CHARACTERS):
        yield from history_plot(trend.values, width=width, starts=starts, level=trend.level_value)
    else:
        here = sys.stdout.encoding
        yield f"  no plot: {here} has no characters for it; set PYTHONIOENCODING=utf-8"
    yield f"  {_sessions(history, trend)}"
    yield from (f"  {line}" for line in _step_lines(trend, unit))
    yield f"  {_level_line(trend, unit)}"
    if trend.level is not None:
        yield f"  {_verdict(trend, confidence)}"


def _can_show(characters: str) -> bool:
    try:
        characters.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _sessions(history: History, trend: Trend) -> str:
    days = [session.created[:10] for session in trend.sessions]
    span = f", {days[0]} to {days[-1]}" if days else ""
    without = len(history.sessions) - len(days)
    lost = f"; {count(without, 'session')} without this metric" if without else ""
    return f"{count(len(days), 'session')}{span}{lost}"


def _step_lines(trend: Trend, unit: str) -> Iterator[str]:
    edges = [0, *trend.steps.starts, len(trend.values)]
    if len(edges) == 2:
        yield f"no change point ({trend.steps.method})"
    for before, at, after in zip(edges, edges[1:], edges[2:], strict=False):
        old, new = mean(trend.values[before:at]), mean(trend.values[at:after])
        session = trend.sessions[at]
        commit = f", commit {session.commit[:7]}" if session.commit else ""
        yield (
            f"step at {session.created[:10]}{commit}: {value_text(old, unit)} -> "
            f"{value_text(new, unit)} ({_told(old, new, trend.metric)}; {trend.steps.method})"
        )


def _told(old: float | None, new: float | None, metric: str) -> str:
    if not old or new is None:
        return "no ratio"
    better = (new > old) == (units.row_of(metric).direction == "higher")
    return f"{percent(new / old - 1)}, {'better' if better else 'worse'}"


def _level_line(trend: Trend, unit: str) -> str:
    if trend.level is None:
        return "no accepted level; `pytest-llmperf baseline accept --reason TEXT` makes one"
    by = f" by {trend.level.author}" if trend.level.author else ""
    return (
        f"accepted level {value_text(trend.level_value, unit)} "
        f"({trend.level.created[:10]}{by}: {trend.level.reason})"
    )


def _verdict(trend: Trend, confidence: float) -> str:
    """The verdict first, then the figures that it rests on."""
    found = trend.newest
    if found is None:
        return "no session newer than the accepted level has a figure of it"
    of = f"{count(found.n_after, 'session')} against {found.n_before} accepted"
    sure = units.confidence_text(1 - confidence)
    figures = f"{percent(found.change)}, {sure} CI {interval_text(found)}, {of}"
    return {
        "worse": f"WORSE than the accepted level: {figures}",
        "better": f"better than the accepted level: {figures}",
        "noise": f"like the accepted level within noise: {figures}",
        "unknown": f"undecided: {percent(found.change)} from {of}; two on each side are the least",
    }[found.word]
