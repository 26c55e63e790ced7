"""What a night of many sessions costs: false alarms and the losses that can still be seen, time,
storage, and the making of one report. docs/scale.md is made of what this prints.

    python -m benchmarks.scale alarms            arithmetic, by the functions that plan and judge
    python -m benchmarks.scale night             the same, of what a session takes and leaves
    python -m benchmarks.scale store             measured: reading a store of so many observations
    python -m benchmarks.scale merge             measured: merging reports of so many sessions
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_llmperf import clock
from pytest_llmperf.gates.design import design_for
from pytest_llmperf.gates.power import chances, detectable_loss, pairs_needed
from pytest_llmperf.judging_options import FAMILY_ALPHA
from pytest_llmperf.records import RegressionGate
from pytest_llmperf.report.merge import merge
from pytest_llmperf.session.comparison import SHARE_OF_LOOKS
from pytest_llmperf.store import open_store
from pytest_llmperf.store.documents import text_of

from .report_cost import assembled, fragment, made, verdicts_of
from .store_rate import observation, processor_s, row

SESSIONS = (1, 8, 125, 1250, 12500)
#: Of a comparison that is in no hurry.
LAUNCHES = 12
NIGHTS = 365
#: Sessions of a fleet in which every machine is measured.
FLEET = 1250
_REPEATS = 3
#: Standard deviation of a pair's log ratio: on a quiet machine and on a usual one.
SIGMAS = {0.014: 0.03, 0.045: 0.10}


def main() -> int:
    """Print one table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    for name, prints, what in (
        ("alarms", alarms, "false alarms, and losses in reach"),
        ("night", night, "time and storage"),
        ("store", store, "reading a store"),
        ("merge", merging, "merging reports"),
    ):
        command = commands.add_parser(name, help=what)
        command.set_defaults(prints=prints)
        command.add_argument("--sessions", nargs="+", type=int, default=SESSIONS)
        command.add_argument("--gates", type=int, default=20, help="of each session")
        command.add_argument("--tests", type=int, default=5, help="of each session")
        command.add_argument("--pairs", type=int, default=12, help="the most of a comparison")
        command.add_argument("--launch-s", type=float, default=300.0, help="until it is ready")
        command.add_argument("--run-s", type=float, default=60.0, help="of one run")
        command.add_argument("--runs", type=int, default=3, help="of each launch")
        command.add_argument("--devices", type=int, default=8, help="of each session")
        command.add_argument("--observations", type=int, default=2000)
        command.add_argument("--reports", nargs="+", type=int, default=(8, 32, 64))
        command.add_argument(
            "--from", dest="report", type=Path, help="a report to make many of (default: made up)"
        )
    given = parser.parse_args()
    for line in given.prints(given):
        print(line)
    return 0


def in_short(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def head(*names: str) -> Iterator[str]:
    yield row(*names)
    yield row(*("---" for _ in names))


# --- the false-alarm rate ------------------------------------------------------------------------


def alarms(given: argparse.Namespace) -> Iterator[str]:
    yield from head(
        "sessions a night",
        "nights with an alarm, each at 1 %",
        "alarms a year",
        "share for 1 % in all",
        "pairs before any loss can be shown",
        *(
            f"{what} at pair SD {100 * sigma:g} %"
            for sigma in SIGMAS
            for what in ("loss in reach", f"pairs to catch {100 * SIGMAS[sigma]:g} %")
        ),
    )
    for sessions in given.sessions:
        any_alarm = 1 - (1 - FAMILY_ALPHA) ** sessions
        alpha = SHARE_OF_LOOKS * FAMILY_ALPHA / sessions / given.gates
        cells = [cell for sigma in SIGMAS for cell in _power(alpha, sigma, given.pairs)]
        yield row(
            f"{sessions:,}",
            f"{100 * any_alarm:.3g} %",
            in_short(NIGHTS * FAMILY_ALPHA * sessions),
            f"1/{sessions}",
            _fewest(alpha, given.pairs),
            *cells,
        )


def _fewest(alpha: float, pairs: int) -> str:
    gate = RegressionGate(metric="output_throughput", loss_to_catch=0.03, allow=0.0, source="")
    found = design_for(gate, alpha=alpha, max_pairs=pairs).fewest_to_fail
    return f"{pairs} are too few" if found is None else str(found)


def _power(alpha: float, sigma: float, pairs: int) -> Iterator[str]:
    """The loss in reach with so many pairs, and the pairs that the usual loss takes."""
    gate = RegressionGate(
        metric="output_throughput", loss_to_catch=SIGMAS[sigma], allow=0.0, source=""
    )
    design = design_for(gate, alpha=alpha, max_pairs=pairs)
    # The loss to catch bounds what fails from above too: half of it must be exceeded.
    least = detectable_loss(design_for(replace(gate, loss_to_catch=1e-6), alpha=alpha,
                                       max_pairs=pairs), sigma)  # fmt: skip
    yield f"{100 * least:.2g} %" if math.isfinite(least) else "none"
    needed = pairs_needed(design, sigma)
    mean = chances(design.up_to(needed or pairs), sigma, 0.0).pairs
    yield f"{needed} (unchanged: {mean:.1f})" if needed else "more than 60"


# --- time and storage ----------------------------------------------------------------------------


def night(given: argparse.Namespace) -> Iterator[str]:
    size = len(text_of(observation("o", "k")).encode())
    gate = RegressionGate(metric="output_throughput", loss_to_catch=0.03, allow=0.0, source="")
    yield f"one observation: {size:,} bytes; {given.tests} tests and {given.gates} gates a session"
    yield ""
    yield from head(
        "sessions a night", "pairs in the mean", "hours of a session", "device-hours",
        "observations a year", "GB a year",
    )  # fmt: skip
    for sessions in given.sessions:
        alpha = SHARE_OF_LOOKS * FAMILY_ALPHA / sessions / given.gates
        needed = pairs_needed(design_for(gate, alpha=alpha, max_pairs=given.pairs), 0.014)
        design = design_for(gate, alpha=alpha, max_pairs=needed or given.pairs)
        pairs = chances(design, 0.014, 0.0).pairs
        launches = 2 + 2 * pairs
        hours = launches * (given.launch_s + given.tests * given.runs * given.run_s) / 3600
        kept = sessions * given.tests * NIGHTS
        yield row(
            f"{sessions:,}", f"{pairs:.1f}", f"{hours:.1f}",
            f"{hours * sessions * given.devices:,.0f}", f"{kept:,}", in_short(kept * size / 1e9),
        )  # fmt: skip


def store(given: argparse.Namespace) -> Iterator[str]:
    """Of files and SQLite: how long it takes to read all, and one key."""
    yield from head(
        "store", "observations", "read all", "processor time of each", "read one key of a tenth"
    )
    for kind, where in (("file", "perf"), ("sqlite", "sqlite:///perf.db")):
        with tempfile.TemporaryDirectory(prefix="llmperf-scale-") as directory:
            kept = open_store(where, Path(directory))
            for at in range(given.observations):
                kept.append(observation(f"o{at}", f"key-{at % 10}"))
            began = processor_s()
            took = _timed(lambda: kept.observations())  # noqa: B023 - called at once
            each = 1000 * (processor_s() - began) / _REPEATS / given.observations
            one = _timed(lambda: kept.observations("key-3"))  # noqa: B023
            kept.close()
        yield row(
            kind, f"{given.observations:,}", f"{took:.2f} s", f"{each:.2f} ms", f"{one:.2f} s"
        )


def _timed(does: Any) -> float:
    took = []
    for _ in range(_REPEATS):
        began = clock.now()
        does()
        took.append(clock.now() - began)
    return statistics.median(took)


# --- one report of many --------------------------------------------------------------------------


def merging(given: argparse.Namespace) -> Iterator[str]:
    """Copies of one report, each on an environment of its own."""
    if given.report is None:
        text = json.dumps(made_up(given.tests, given.runs), ensure_ascii=False, indent=1)
    else:
        text = given.report.read_text(encoding="utf-8")
    size, runs = len(text.encode()), text.count('"launch_id"')
    yield f"one report: {size:,} bytes, {runs} runs of single requests"
    yield ""
    yield from head(
        "reports", "processor time to read and merge", "of each", "most memory", "of each"
    )
    base, took, most = _resident(), 0.0, 0
    for count in given.reports:
        began = processor_s()
        documents = [_on_another(text, at) for at in range(count)]
        merge(documents, version="0")
        took = processor_s() - began
        most = _resident()
        yield row(
            count, f"{took:.1f} s", f"{1000 * took / count:.0f} ms", f"{most / 2**20:,.0f} MiB",
            f"{(most - base) / count / 2**20:.1f} MiB",
        )  # fmt: skip
        del documents
    times = FLEET / given.reports[-1]
    page = FLEET * len(json.dumps(json.loads(text), ensure_ascii=False, separators=(",", ":")))
    yield ""
    yield (
        f"{FLEET:,} of them, by the last row: {took * times / 60:.1f} minutes, "
        f"{(most - base) * times / 2**30:.0f} GiB, a file of {FLEET * size / 1e9:.1f} GB and "
        f"a page of {page / 1e9:.1f} GB."
    )


def made_up(tests: int, runs: int) -> dict[str, Any]:
    """The report of a session: four gates of each test, every one with a history."""
    base = [made(0, at) for at in range(runs)]
    all_runs = [
        replace(run, launch_id=f"launch-{launch}", index=at)
        for launch in range(LAUNCHES)
        for at, (run, _) in enumerate(base)
    ]
    told = verdicts_of([run for run, _ in base], 0)
    return assembled(
        [
            fragment(f"perf/test_suite.py::test_{at}", all_runs, base[0][1], told)
            for at in range(tests)
        ]
    )


def _on_another(text: str, at: int) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text)
    found["environment"]["fingerprint"]["key"] = f"{at:016x}"
    found["environment"]["fingerprint"]["match"]["product"] = f"kind {at}"
    return found


def _resident() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    sys.exit(main())
