"""How many observations a store takes in a second, from several writers at once.

Each writer is a process with a connection of its own, as sessions are; it appends observations of
its own key, one after another, for so many seconds. The observation is as large as that of a
comparison with twelve launches. Of PostgreSQL a server is started for as long as it takes, with its
own defaults (each append is on the disk when it returns); --postgresql names another one.

    python -m benchmarks.store_rate
    python -m benchmarks.store_rate --writers 1 4 --seconds 2 --repeats 3 --stores file --out r.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from benchmarks import postgres
from pytest_llmperf import clock
from pytest_llmperf.records import Judged, LaunchValues, Observation
from pytest_llmperf.store import StoreError, open_store
from pytest_llmperf.store.documents import text_of

STORES = ("file", "sqlite", "postgresql")
NAMES = {"file": "files", "sqlite": "SQLite", "postgresql": "PostgreSQL"}
WRITERS = (1, 4, 16, 64)
_METRICS, _LAUNCHES, _FACTS = 40, 12, 60
_JOIN_S = 300.0


def main() -> int:
    """Print a table of the rates of each store and number of writers; write JSON where asked."""
    parser = argparse.ArgumentParser(description="Appends a second of each kind of store.")
    parser.add_argument("--stores", nargs="+", choices=STORES, default=STORES)
    parser.add_argument("--writers", nargs="+", type=int, default=WRITERS)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each repetition")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--postgresql", metavar="URL", help="a server that is there already")
    parser.add_argument("--out", type=Path, help="where all figures go, as JSON")
    given = parser.parse_args()
    found = []
    for kind in given.stores:
        for writers in given.writers:
            found.append(_cell(kind, writers, given.seconds, given.repeats, given.postgresql))
            print(_line(found[-1]), file=sys.stderr)
    document = {
        "made_by": "python -m benchmarks.store_rate",
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "load_before": os.getloadavg()[0],
        "observation_bytes": len(text_of(observation("o", "k")).encode()),
        "seconds": given.seconds,
        "cells": found,
    }
    if given.out is not None:
        given.out.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    for line in table(found, given.stores, given.writers):
        print(line)
    return 0


def table(
    cells: Sequence[dict[str, Any]], stores: Sequence[str], writers: Sequence[int]
) -> Iterator[str]:
    """Markdown, and what else there is to say, in a sentence."""
    by_place = {(cell["store"], cell["writers"]): cell for cell in cells}
    yield row("writers", *(f"{NAMES[kind]}, appends a second" for kind in stores))
    yield row("---", *("---" for _ in stores))
    for count in writers:
        yield row(count, *(_rate(by_place[kind, count]) for kind in stores))
    used = [cell["writer_cpu_ms"] for cell in cells if cell["writer_cpu_ms"] is not None]
    yield ""
    yield (
        f"An append takes {min(used):.0f} to {max(used):.0f} ms of the writer's own processor; "
        f"{sum(cell['refused'] for cell in cells)} were refused."
    )


def row(*cells: object) -> str:
    """One of a Markdown table."""
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _rate(cell: dict[str, Any]) -> str:
    return f"{cell['median']:.0f} ({min(cell['rates']):.0f} to {max(cell['rates']):.0f})"


def _line(cell: dict[str, Any]) -> str:
    own = f"{cell['writer_cpu_ms'] or 0:.1f} ms of a writer's processor each"
    rates = f"{_rate(cell)} appends a second"
    return f"{cell['store']}, {cell['writers']} writers: {rates}, {own}, {cell['refused']} refused"


def observation(id_: str, key: str) -> Observation:
    """Made up, of the size that a comparison leaves."""
    names = [f"metric_{at:02}_p95" for at in range(_METRICS)]
    launch = LaunchValues(
        launch_id="sglang-4f1c22aa-1201-1",
        started_at="2026-11-22T02:00:00.000000+00:00",
        runs=3,
        metrics={name: 1234.56789 + at for at, name in enumerate(names)},
        outputs=tuple(json.dumps([["token"] * 32, [-0.25] * 32]) for _ in range(4)),
    )
    return Observation(
        id=id_,
        key=key,
        created="2026-11-22T02:40:00.000000+00:00",
        test="tests/perf/test_r1.py::test_chat[sglang-tp8]",
        workload="chat-1a2b3c4d",
        environment={"vendor": "nvidia", "product": "NVIDIA H100 80GB HBM3", "count": 8},
        subject={f"--argument-{at}": "a value of usual length" for at in range(_FACTS)},
        block={"machine": "0035969ec53f", "devices": "GPU-1, GPU-2"},
        launches=tuple(replace(launch, launch_id=f"l{at}") for at in range(_LAUNCHES)),
        gates=("output_throughput", "ttft_p95"),
        verdict="pass",
        commit="0123456789" * 4,
        judged=(
            Judged(kind="regression", metric="output_throughput", verdict="pass"),
            Judged(kind="ceiling", metric="ttft_p95", verdict="pass"),
        ),
    )


# --- one cell ------------------------------------------------------------------------------------


def _cell(kind: str, writers: int, seconds: float, repeats: int, url: str | None) -> dict[str, Any]:
    rates, refused, used = [], 0, 0.0
    with (
        tempfile.TemporaryDirectory(prefix="llmperf-rate-") as directory,
        _place(kind, Path(directory), url) as where,
    ):
        _write_one(where, directory)  # tables and directories are made before the clock runs
        kept = 0
        for repeat in range(repeats):
            appended, failed, cpu, took = _together(where, directory, writers, seconds, repeat)
            refused, used = refused + failed, used + cpu
            kept += appended
            rates.append(appended / took)
    return {
        "store": kind,
        "writers": writers,
        "rates": rates,
        "median": statistics.median(rates),
        "refused": refused,
        "writer_cpu_ms": 1000 * used / kept if kept else None,
    }


def _write_one(where: str, directory: str) -> None:
    store = open_store(where, Path(directory))
    store.append(observation("first", "first"))
    store.close()


def _together(
    where: str, directory: str, writers: int, seconds: float, repeat: int
) -> tuple[int, int, float, float]:
    """Appends that were kept, those refused, the processor seconds of all writers, and the seconds
    from the start to the last writer's end."""
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(writers + 1), context.SimpleQueue()
    workers = [
        context.Process(
            target=_writer,
            args=(where, directory, f"{repeat}-{at}", seconds, barrier, results),
            daemon=True,
        )
        for at in range(writers)
    ]
    for worker in workers:
        worker.start()
    barrier.wait(_JOIN_S)
    began = clock.now()
    counted = [results.get() for _ in workers]
    took = clock.now() - began
    for worker in workers:
        worker.join(_JOIN_S)
    kept, lost, cpu = (sum(column) for column in zip(*counted, strict=True))
    return int(kept), int(lost), float(cpu), took


def _writer(
    where: str, directory: str, name: str, seconds: float, barrier: Barrier, results: Any
) -> None:
    kept = lost = 0
    before = 0.0
    store = open_store(where, Path(directory))
    try:
        barrier.wait(_JOIN_S)
        end, before = clock.now() + seconds, processor_s()
        while clock.now() < end:
            try:
                store.append(observation(f"{name}-{kept + lost}", f"key-{name}"))
                kept += 1
            except StoreError:
                lost += 1
    finally:
        store.close()
        results.put((kept, lost, processor_s() - before))


def processor_s() -> float:
    """Of this process alone: in a fleet each writer has a machine of its own."""
    used = os.times()
    return used.user + used.system


# --- places --------------------------------------------------------------------------------------


@contextmanager
def _place(kind: str, directory: Path, url: str | None) -> Iterator[str]:
    if kind == "file":
        yield str(directory / "perf")
    elif kind == "sqlite":
        yield f"sqlite:///{directory / 'perf.db'}"
    elif url is not None:
        yield url
    else:
        programs = postgres.installed()
        if programs is None:
            raise SystemExit("PostgreSQL is not installed: apt-get install postgresql")
        # Its defaults, but for room for all writers.
        with postgres.running(programs, "max_connections=200") as own:
            yield own.url()


if __name__ == "__main__":
    sys.exit(main())
