"""``pytest-llmperf compare``: two reports, metric by metric."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import LlmPerfError, UsageMistake, nearest
from pytest_llmperf.gates.comparable import differences, told
from pytest_llmperf.gates.compare import Difference, compare_launches
from pytest_llmperf.metrics import units
from pytest_llmperf.records import Direction

from .foreign import check_sent, foreign, loose_pairs, origin_lines, unlike
from .reports import Document, Measured, load, measured_in, undecided_gates, units_in
from .words import (
    ALPHA,
    EXIT_TROUBLE,
    EXIT_WORSE,
    Commands,
    command,
    count,
    interval_text,
    percent,
    table,
    value_text,
)

#: Unit and direction of a metric.
Meaning = tuple[str, Direction]
_NO_MEANING: Meaning = ("1", "higher")
_USUAL = ("output_throughput", "ttft_p50", "ttft_p95", "tpot_mean")
_WORDS = {"worse": "worse", "better": "better", "noise": "within noise", "unknown": "no interval"}
_MORE = """\
Each metric of every measurement that both reports hold (same test, same workload), with a t
interval over launches. Rows that a gate of either report names (marked *) decide; all others are
only shown. Without --metric or --all, other rows are shown where they are usual or changed beyond
noise.

exit status:
   0  every gated row was compared, and none is worse beyond noise
  10  a gated row is worse beyond noise: its interval lies wholly on the bad side, at 99 % shared
      by all gated rows
   1  reports that may not be compared, or a gated row that could not be: missing on one side, or
      one launch only
   2  a wrong command line"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One metric of one measurement on both sides; ``why`` says what keeps it undecided."""

    metric: str
    unit: str
    gated: bool
    difference: Difference
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One measurement that both reports hold."""

    before: Measured
    after: Measured

    @property
    def gated(self) -> frozenset[str]:
        return self.before.gated | self.after.gated

    @property
    def metrics(self) -> list[str]:
        names = (
            name for side in (self.before, self.after) for run in side.launches for name in run
        )
        return list(dict.fromkeys([*sorted(self.gated), *names]))


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "compare",
        "what changed from one report to another",
        example="pytest-llmperf compare before.json after.json --metric output_throughput",
        more=_MORE,
    )
    parser.set_defaults(run=run)
    parser.add_argument("before", type=Path, metavar="A.json", help="the report to compare with")
    parser.add_argument("after", type=Path, metavar="B.json", help="the report that is judged")
    parser.add_argument(
        "--metric",
        action="append",
        default=[],
        metavar="NAME",
        help="look at this metric only; may be repeated",
    )
    parser.add_argument("--all", action="store_true", help="show every metric")
    parser.add_argument(
        "--force", action="store_true", help="compare even where the environments differ"
    )


def run(arguments: argparse.Namespace) -> int:
    before, after = load(arguments.before), load(arguments.after)
    _check_environments(before, after, force=arguments.force)
    told_units = _units(before, after)
    pairs, single = _matched(measured_in(before), measured_in(after))
    if foreign(before) or foreign(after):
        for pair in pairs:
            check_sent(pair.before, pair.after, force=arguments.force)
        more, single = loose_pairs(single, force=arguments.force)
        pairs += [Pair(before=old, after=new) for old, new in more]
    _check_metrics(arguments.metric, pairs)
    deciding = _deciding(pairs, arguments.metric)
    confidence = 1 - ALPHA / max(1, deciding)
    for line in _heads(arguments, before, after):
        print(line)
    rows: list[Row] = []
    for pair in pairs:
        found = list(_rows(pair, _wanted(pair, arguments.metric), told_units, confidence))
        shown = found if arguments.all or arguments.metric else list(_telling(found))
        for line in _section(pair, shown, len(found) - len(shown), confidence):
            print(line)
        rows += found
    holes = list(_holes(single, [before, after]))
    for line in _only_lines(single, holes):
        print(line)
    lines, status = _conclusion([row for row in rows if row.gated], holes, confidence)
    print("", *lines, sep="\n")
    return status


# --- may they be compared ---------------------------------------------------------------------


def _check_environments(before: Document, after: Document, *, force: bool) -> None:
    differing = _differing(before, after)
    if force:
        if differing:
            print(f"FORCED: the environments differ in {'; '.join(differing)}.")
        return
    if differing:
        raise LlmPerfError(
            f"the environments differ: {'; '.join(differing)}. A difference of the figures would "
            "tell of that. Measure both in one environment, or give --force to see them anyway."
        )


def _differing(before: Document, after: Document) -> list[str]:
    old, new = (report["environment"]["fingerprint"]["match"] for report in (before, after))
    if apart := unlike(before, after):
        return apart
    return [
        f"{name} ({_said(old, name)} in A, {_said(new, name)} in B)"
        for name in dict.fromkeys([*old, *new])
        if name not in old or name not in new or old[name] != new[name]
    ]


def _said(facts: Mapping[str, object], name: str) -> str:
    value = facts.get(name)
    return "not told" if value is None else repr(value)


def _units(before: Document, after: Document) -> dict[str, Meaning]:
    old, new = units_in(before), units_in(after)
    for name in old.keys() & new.keys():
        if old[name] != new[name]:
            raise LlmPerfError(
                f"{name} means two things: in {old[name][0]} ({old[name][1]} is better) in A, in "
                f"{new[name][0]} ({new[name][1]} is better) in B. Measure both with one version "
                "of pytest-llmperf."
            )
    return {**old, **new}


def _check_metrics(names: Sequence[str], pairs: Iterable[Pair]) -> None:
    known = {name for pair in pairs for name in pair.metrics}
    for name in names:
        if known and name not in known:
            raise UsageMistake(f"no report measured a metric {name!r}.{nearest(name, known)}")


# --- what is compared with what ---------------------------------------------------------------


def _matched(
    before: Sequence[Measured], after: Sequence[Measured]
) -> tuple[list[Pair], list[tuple[str, Measured]]]:
    """The measurements of both, and those of one with its letter."""
    later = {entry.key: entry for entry in after}
    earlier = {entry.key for entry in before}
    pairs = [Pair(before=entry, after=later[entry.key]) for entry in before if entry.key in later]
    single = [("A", entry) for entry in before if entry.key not in later]
    single += [("B", entry) for entry in after if entry.key not in earlier]
    return pairs, single


def _wanted(pair: Pair, asked: Sequence[str]) -> list[str]:
    return [name for name in pair.metrics if not asked or name in asked]


def _deciding(pairs: Iterable[Pair], asked: Sequence[str]) -> int:
    return sum(name in pair.gated for pair in pairs for name in _wanted(pair, asked))


def _rows(
    pair: Pair, names: Sequence[str], told_units: Mapping[str, Meaning], confidence: float
) -> Iterator[Row]:
    for name in names:
        before, after = pair.before.values(name), pair.after.values(name)
        meaning = told_units.get(name) or _meaning(name)
        gated = name in pair.gated
        if gated or (meaning and (before or after)):
            unit, direction = meaning or _NO_MEANING
            difference = compare_launches(
                before or [] if meaning else [],
                after or [] if meaning else [],
                direction=direction,
                confidence=confidence,
                counted=_counted(name),
            )
            why = _why(before, after, difference) if meaning else "unknown to this version"
            yield Row(metric=name, unit=unit, gated=gated, difference=difference, why=why)


def _meaning(name: str) -> Meaning | None:
    """Unit and direction of a metric that neither report has a figure of over all launches."""
    row = _row(name)
    return (row.unit, row.direction) if row else None


def _counted(name: str) -> bool:
    row = _row(name)
    return row is not None and row.counted


def _row(name: str) -> units.Metric | None:
    try:
        return units.row_of(name)
    except UsageMistake:  # a report of another version may know more metrics than this one
        return None


def _why(
    before: Sequence[float] | None, after: Sequence[float] | None, difference: Difference
) -> str:
    missing = [side for side, values in (("A", before), ("B", after)) if values is None]
    if missing:
        return f"not measured in {' and '.join(missing)}"
    if difference.word != "unknown":
        return ""
    if min(difference.n_before, difference.n_after) < 2:
        return "one launch"
    return "unbounded in both"


def _telling(rows: Iterable[Row]) -> Iterator[Row]:
    """Rows that decide, that people look at first, or that changed."""
    for row in rows:
        changed = row.difference.word in ("worse", "better") or row.why.startswith("not measured")
        if row.gated or row.metric in _USUAL or changed:
            yield row


def _holes(single: Iterable[tuple[str, Measured]], reports: Sequence[Document]) -> Iterator[str]:
    """What gates name but nothing can be said of, in words."""
    for side, entry in single:
        if side == "A" and entry.gated:
            yield f"{entry.title}: gated in A, not measured in B"
    for side, report in zip("AB", reports, strict=True):
        measured = {entry["test"] for entry in report["measurements"]}
        for test in undecided_gates(report):
            if test not in measured:
                yield f"{test}: gated in {side}, where nothing was measured"


# --- what is told -----------------------------------------------------------------------------


def _heads(arguments: argparse.Namespace, before: Document, after: Document) -> Iterator[str]:
    for name, path, report in (("A", arguments.before, before), ("B", arguments.after, after)):
        git = report["environment"]["git"]
        at = (
            f", commit {git['commit'][:7]}{' and more' * bool(git['dirty'])}"
            if git["commit"]
            else ""
        )
        yield f"{name}  {path}, {report['created'][:16].replace('T', ' ')}{at}"
        yield from origin_lines(report)
        if not report["complete"]:
            yield "   INCOMPLETE: the session was interrupted, or results were lost."
        if report["simulated"]:
            yield "   SIMULATED: these figures come from the simulator and describe no hardware."
    old, new = (_surroundings(report["environment"]) for report in (before, after))
    if changed := told(differences(new, old)):
        yield f"around the servers changed: {'; '.join(changed)}"


def _surroundings(environment: Mapping[str, Any]) -> dict[str, Any]:
    """What may differ without a refusal, of the process that ran pytest."""
    return {
        **environment["fingerprint"]["context"],
        "tests' Python": environment["python"],
        "packages": environment["packages"],
    }


def _section(pair: Pair, rows: Sequence[Row], hidden: int, confidence: float) -> Iterator[str]:
    launches = " and ".join(str(len(side.launches)) for side in (pair.before, pair.after))
    yield ""
    yield f"{pair.before.title}, {launches} launches" + " (SIMULATED)" * pair.after.simulated
    if changed := told(differences(pair.after.subject, pair.before.subject)):
        yield f"  changed: {'; '.join(changed)}"
    headers = ["metric", "A", "B", "change", units.confidence_text(1 - confidence), ""]
    yield from table([_cells(row) for row in rows], headers, right=",".join(headers[1:5]))
    if hidden:
        yield f"{count(hidden, 'other metric')} without a change beyond noise; --all shows them."


def _cells(row: Row) -> list[str]:
    found = row.difference
    return [
        f"{row.metric} *" if row.gated else row.metric,
        value_text(found.before, row.unit),
        value_text(found.after, row.unit),
        percent(found.change),
        interval_text(found),
        row.why or _WORDS[found.word],
    ]


def _only_lines(single: Iterable[tuple[str, Measured]], holes: Iterable[str]) -> Iterator[str]:
    entries = list(single)
    for side in "AB":
        titles = [entry.title for where, entry in entries if where == side]
        if titles:
            yield ""
            yield f"only in {side}:"
            yield from (f"  {title}" for title in titles)
    found = list(holes)
    if found:
        yield ""
        yield "not compared, though gated:"
        yield from (f"  {hole}" for hole in found)


def _conclusion(
    gated: Sequence[Row], holes: Sequence[str], confidence: float
) -> tuple[list[str], int]:
    """The last lines, the verdict first, and the exit status."""
    worse = [row.metric for row in gated if row.difference.word == "worse"]
    unknown = [row for row in gated if row.difference.word == "unknown"]
    lines = []
    if any(row.why == "one launch" for row in gated):
        lines.append(
            "One launch shows no spread: give both pytest runs --llmperf-launches 4 or more for an "
            "interval (two is the least, and makes a wide one)."
        )
    of = f"of {count(len(gated), 'gated row')}"
    at = f"at {units.confidence_text(1 - confidence)} each"
    if worse:
        return [
            f"worse: {len(worse)} {of} beyond noise, {at}: {', '.join(worse)}.",
            *lines,
        ], EXIT_WORSE
    if unknown or holes:
        what = f"{len(unknown)} {of} without an interval" if unknown else ""
        lost = f"{count(len(holes), 'gated measurement')} on one side only" if holes else ""
        said = ", ".join(part for part in (what, lost) if part)
        return [f"undecided: {said}.", *lines], EXIT_TROUBLE
    if not gated:
        return ["no gate names any of this: the figures are shown, and decide nothing."], 0
    return [f"nothing is worse beyond noise: {count(len(gated), 'gated row')}, {at}.", *lines], 0
