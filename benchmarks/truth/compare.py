"""Putting clients' reports beside the truth: what the benchmark scripts have in common."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.clients.base import Client, Load, Seen
from benchmarks.clients.processes import Finished, watching
from benchmarks.clients.registry import CLIENTS, find
from pytest_llmperf.models import materialize

from .log import TrueFigures, TrueRequest, figures, measured
from .server import TruthServer

MODEL = "tiny-r1"
_DIGITS = 5
_ENOUGH_SAMPLES = 10
#: Latencies in ms that a client's report is compared in.
LATENCIES = ("ttft_mean", "ttft_p99", "e2e_mean", "e2e_p99", "tpot_mean", "itl_mean", "itl_p99")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """What one call of a script works with; clients have a core to themselves if there are two."""

    clients: Sequence[Client]
    repeat: int
    server_core: int
    client_core: int
    model_dir: Path
    directory: Path

    def load(self, server: TruthServer, **asked: Any) -> Load:
        """A load against ``server`` on the clients' core, with an empty scratch directory."""
        scratch = Path(tempfile.mkdtemp(dir=self.directory))
        return Load(
            url=server.url,
            model=server.model,
            model_dir=self.model_dir,
            core=self.client_core,
            scratch=scratch,
            **asked,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One client's report on one load, the truth of it, and the processes it took."""

    seen: Seen
    truth: list[TrueRequest]
    figures: TrueFigures
    processes: Sequence[Finished]

    @property
    def window_cpu_s(self) -> float | None:
        """CPU seconds of all the client's processes while the server was being asked; ``None`` for
        windows too short to be sampled."""
        start, end = self.figures.start_ns, self.figures.end_ns
        within = [at for each in self.processes for at, _ in each.samples if start < at < end]
        if len(within) < _ENOUGH_SAMPLES:
            return None
        return sum(each.cpu_between(start, end) for each in self.processes)

    def error(self, name: str) -> float | None:
        """What the client reports, less the truth."""
        return _difference(getattr(self.seen, name), getattr(self.figures, name))

    def true(self, name: str) -> float | None:
        """A statistic of the truth."""
        value: float | None = getattr(self.figures, name)
        return value

    @property
    def counts_exact(self) -> bool:
        """Whether successes and output tokens are what they were."""
        claimed = self.seen.succeeded, self.seen.output_tokens
        return claimed == (self.figures.succeeded, self.figures.output_tokens)

    @property
    def throughput_error(self) -> float | None:
        """Of the truth, in percent."""
        seen, true = self.seen.throughput, self.figures.throughput
        return None if seen is None or not true else 100 * (seen / true - 1)


#: Trials, and what went wrong in words, by client.
Found = dict[str, tuple[list[Trial], list[str]]]


def _difference(seen: float | None, true: float | None) -> float | None:
    return None if seen is None or true is None else seen - true


def arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with what every client benchmark can be told."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--clients",
        default="ours,bare",
        help=f"names separated by commas, of: {', '.join(CLIENTS)} (default: ours,bare)",
    )
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, in turn (default: 3)")
    return parser


def numbers(text: str) -> list[float]:
    """``"20,4"`` as numbers, for options."""
    return [float(each) for each in text.split(",")]


@contextmanager
def bench(chosen: argparse.Namespace) -> Iterator[Bench]:
    """The set-up that the arguments ask for; what it wrote is gone afterwards."""
    allowed = sorted(os.sched_getaffinity(0))
    clients = [find(name) for name in chosen.clients.split(",")]
    os.sched_setaffinity(0, {allowed[0]})  # this process keeps off the clients' core
    with tempfile.TemporaryDirectory() as name:
        yield Bench(
            clients=clients,
            repeat=chosen.repeat,
            server_core=allowed[0],
            client_core=allowed[min(1, len(allowed) - 1)],
            model_dir=materialize(MODEL, Path(name)),
            directory=Path(name),
        )


def attempt(client: Client, server: TruthServer, load: Load) -> Trial:
    """Let ``client`` carry ``load`` out. Raises :class:`RuntimeError` when it cannot."""
    server.reset()
    with watching() as processes:
        seen = client.run(load)
    truth = measured(server.truth(), load.requests)
    if len(truth) < load.requests:
        raise RuntimeError(f"{len(truth)} of {load.requests} requests reached the server")
    try:
        true = figures(truth)
    except ValueError as error:
        raise RuntimeError(f"{client.name}: {error}; it reported {seen}") from None
    return Trial(seen=seen, truth=truth, figures=true, processes=processes)


def trials(bench: Bench, server: TruthServer, **asked: Any) -> Found:
    """All clients on one load, in turn, ``bench.repeat`` times: trials and failures by name."""
    found: Found = {client.name: ([], []) for client in bench.clients}
    for index in range(bench.repeat):
        for client in bench.clients:
            load = replace(bench.load(server, **asked), seed=index + 1)
            done, failures = found[client.name]
            try:
                done.append(attempt(client, server, load))
            except RuntimeError as error:
                failures.append(str(error))
    return found


def spread(values: Sequence[float | None]) -> Mapping[str, float] | None:
    """Median, smallest and largest; ``None`` if any is missing."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return None
    found = {"median": statistics.median(known), "min": min(known), "max": max(known)}
    return {name: round(value, _DIGITS) for name, value in found.items()}


def over(done: Sequence[Trial], value: Callable[[Trial], float | None]) -> Any:
    """:func:`spread` of one value over trials."""
    return spread([value(trial) for trial in done])


def server_row(done: Sequence[Trial]) -> Row:
    """How well the server kept its own schedule (ms), worst of the trials: chunks late by the
    time that a whole burst takes to send are no fault."""
    return {
        "late_p99_ms": max(trial.figures.late_p99 for trial in done),
        "late_max_ms": max(trial.figures.late_max for trial in done),
        "blocked_sends": max(trial.figures.blocked for trial in done),
    }


def show(bench: Bench, rows: Sequence[Row]) -> None:
    """Print the result as JSON."""
    result = {
        "date": datetime.now(UTC).date().isoformat(),
        "repeat": bench.repeat,
        "cores": {"server": bench.server_core, "client": bench.client_core},
        "rows": rows,
    }
    print(json.dumps(result, indent=1))
