"""``pytest-llmperf bisect``: one commit judged, in the words of ``git bisect run``."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.reading import Unreadable, read_json

from . import git
from .words import Commands, command

GOOD, BAD, SKIP, STOP = 0, 10, 125, 128
_NAMES = {GOOD: "good", BAD: "bad", SKIP: "skip", STOP: "stop"}
_PASSED, _INTERRUPTED, _INTERNAL = 0, 2, 3
#: Statuses of a pytest that ended by itself: passed, tests failed, gates failed, not measured.
_ENDED = {
    0: "",
    1: ": a test failed for another reason",
    10: "",
    11: ": something could not be measured",
}
_MORE = """\
Runs pytest with ARGS on the commit that is checked out, and tells `git bisect run` what its report
and its status say together. The report stays in .git/llmperf-bisect/COMMIT.json.

exit status:
    0  good: pytest passed, and every gate was decided and passed
   10  bad: a gate was decided and failed
  125  skip this commit: it does not build, a test failed for another reason, or the gates were
       not decided
  128  stop bisecting: pytest was interrupted or had an internal error (its 2 and 3)"""
_EXAMPLE = """\
git bisect start main v1.4.0
git bisect run pytest-llmperf bisect -- tests/perf --llmperf-launches 4"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    status: int
    why: str


def add_to(commands: Commands) -> None:
    parser = command(
        commands,
        "bisect",
        "judge one commit for `git bisect run`",
        example=_EXAMPLE,
        more=_MORE,
    )
    parser.set_defaults(run=run)
    parser.add_argument("args", nargs="*", metavar="ARGS", help="pytest's own, after --")


def run(arguments: argparse.Namespace) -> int:
    if any(word.startswith("--llmperf-report") for word in arguments.args):
        raise UsageMistake(
            "bisect gives pytest a --llmperf-report of its own, to read it; leave yours out."
        )
    report = _place()
    report.unlink(missing_ok=True)  # that of a try before, on the same commit
    status = _pytest(arguments.args, report)
    found = judge(status, report_at(report))
    print(f"pytest-llmperf bisect: {_NAMES[found.status]}: {found.why}", file=sys.stderr)
    return found.status


def _place() -> Path:
    """Where the report of this commit stays, for whoever wants to know more: no checkout of git's
    touches its own directory. Elsewhere it is left among temporary files."""
    own, commit = git.directory(), git.commit()
    if own is None or commit is None:
        return Path(tempfile.mkdtemp(prefix="llmperf-bisect-"), "report.json")
    directory = Path(own, "llmperf-bisect")
    directory.mkdir(exist_ok=True)
    return directory / f"{commit}.json"


def _pytest(args: Sequence[str], report: Path) -> int:
    # Without the first option pytest calls it an interruption when a module cannot be imported.
    ours = ["--continue-on-collection-errors", f"--llmperf-report={report}"]
    with subprocess.Popen([sys.executable, "-m", "pytest", *ours, *args]) as child:
        while True:
            try:
                return child.wait()
            except KeyboardInterrupt:
                continue  # it heard that too, and puts its servers away before it ends


def report_at(path: Path) -> Mapping[str, Any] | None:
    """A whole report; ``None`` where pytest wrote none. Only what is judged by is checked: other
    commits bring other versions of this package, with other schemas."""
    try:
        document = read_json(path)
    except Unreadable:
        return None
    known = (
        isinstance(document, dict) and {"gates", "tests", "verdict", "complete"} <= document.keys()
    )
    return document if known else None


def judge(status: int, report: Mapping[str, Any] | None) -> Judgement:
    """What a pytest that ended with ``status`` and left ``report`` says about the commit."""
    if status in (_INTERRUPTED, _INTERNAL):
        return Judgement(status=STOP, why=f"pytest ended with status {status}")
    if status not in _ENDED:
        return Judgement(status=SKIP, why=f"pytest ended with status {status}")
    if report is None:
        return Judgement(
            status=SKIP, why=f"pytest ended with status {status} and left no report to judge by"
        )
    if failed := _failed(report):
        more = f" (+{len(failed) - 1} more)" if len(failed) > 1 else ""
        return Judgement(status=BAD, why=f"{failed[0]}{more}")
    if status == _PASSED:
        why = _undecided(report)
        return Judgement(status=SKIP if why else GOOD, why=why or "every gate passed")
    return Judgement(
        status=SKIP,
        why=f"pytest ended with status {status} and no gate failed{_ENDED[status]}",
    )


def _failed(report: Mapping[str, Any]) -> list[str]:
    """The failed gates whose tests were not expected to fail, in words."""
    from pytest_llmperf.report.told import told_gates

    return [
        f"{gate['test']}: {gate['reason']}"
        for gate in told_gates(report)
        if gate["verdict"] == "fail" and not gate["expected"]
    ]


def _undecided(report: Mapping[str, Any]) -> str:
    """Why a pytest that passed does not make the commit a good one; empty where it does."""
    left_open = [gate for gate in report["gates"] if gate["verdict"] == "inconclusive"]
    if left_open:
        return f"undecided: {left_open[0]['test']}: {left_open[0]['reason']}"
    if not any(gate["verdict"] == "pass" for gate in report["gates"]):
        return "pytest passed, but no gate did"
    return "" if report["verdict"] == "pass" and report["complete"] else "the report is incomplete"
