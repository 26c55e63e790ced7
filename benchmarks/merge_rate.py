"""How many records a second one merger takes, and what it holds.

Workers' spill files are made up, of successful requests in the order of their numbers, dealt out as
a closed loop's are. Each measurement is a process of its own. "stream" takes records from the
merger and lets go of them, "pass" keeps them all, as a measured pass does; "ours" brings a worker's
file into our time beside that, which is done once for each worker of a cluster, in the process that
joined it.

    python -m benchmarks.merge_rate
    python -m benchmarks.merge_rate --records 100000 --tokens 16 --workers 1 4 --out merged.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any

from pytest_llmperf import clock
from pytest_llmperf.cluster.ferry import Ferry
from pytest_llmperf.load.alignment import Alignment, Sighting
from pytest_llmperf.load.merge import merged, merged_whole
from pytest_llmperf.load.messages import Finished
from pytest_llmperf.load.read.reading import RequestRow
from pytest_llmperf.load.read.rows import write_rows
from pytest_llmperf.load.read.spill import SpillWriter
from pytest_llmperf.load.send.health import WorkerHealth, peak_rss_bytes
from pytest_llmperf.records import Chunk, Chunks

from .store_rate import row

HEALTH = WorkerHealth(cpu_s=1.0, wall_s=2.0, lag_ms_p99=1.0, lag_ms_max=1.0, peak_rss_bytes=1)
MS = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description="Records a second of one merger.")
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--tokens", type=int, default=64, help="chunks of each request")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--out", type=Path, help="where all figures go, as JSON")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "WORKERS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        what, workers = options.one
        print(json.dumps(measure(what, int(workers), options.records, options.tokens)))
        return
    rows = [
        _alone(what, workers, options) for workers in options.workers for what in ("stream", "pass")
    ]
    rows.append(_alone("ours", 1, options))
    found = {"records": options.records, "tokens": options.tokens, "rows": rows}
    if options.out is not None:
        options.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    for line in table(rows):
        print(line)


def table(rows: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Markdown."""
    yield row("what", "workers", "records a second", "of a processor's second", "memory", "files")
    yield row(*("---" for _ in range(6)))
    for each in rows:
        yield row(
            each["what"],
            each["workers"],
            f"{each['records_per_s']:,}",
            f"{each['records_per_cpu_s']:,}",
            f"{each['peak_mb'] - each['peak_before_mb']:,} MiB",
            f"{each['spilled_mb']:,} MiB",
        )


def _alone(what: str, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    size = ["--records", str(options.records), "--tokens", str(options.tokens)]
    command = [sys.executable, "-m", "benchmarks.merge_rate"]
    command += ["--one", what, str(workers), *size]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(what: str, workers: int, records: int, tokens: int) -> dict[str, Any]:
    """One measurement, in this process."""
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(workers)]
        return _measured(files, what, records, tokens)


def _measured(files: Sequence[IO[bytes]], what: str, records: int, tokens: int) -> dict[str, Any]:
    workers = len(files)
    shares = [
        _spilled(file, range(number, records, workers), tokens) for number, file in enumerate(files)
    ]
    before = peak_rss_bytes()
    watch, begun = clock.Stopwatch(), time.process_time()
    kept: Any = None
    if what == "ours":
        count = _into_our_time(files[0], shares[0])
    else:
        spills = [file.fileno() for file in files]
        if what == "pass":
            kept = merged_whole(shares, spills)
            count = len(kept)
        else:
            count = sum(1 for _ in merged(shares, spills))
    seconds, cpu_s = watch.elapsed, time.process_time() - begun
    assert count == records
    return {
        "what": what,
        "workers": workers,
        "seconds": round(seconds, 3),
        "cpu_s": round(cpu_s, 3),
        "records_per_s": round(records / seconds),
        "records_per_cpu_s": round(records / cpu_s),
        "peak_mb": round(peak_rss_bytes() / 2**20),
        "peak_before_mb": round(before / 2**20),
        "spilled_mb": round(sum(os.fstat(file.fileno()).st_size for file in files) / 2**20),
    }


def _into_our_time(file: IO[bytes], share: Finished) -> int:
    """What a ferry does with a worker's file, which is here already."""

    def remote(method: str, *args: Any, **_: float) -> Any:
        assert method == "read"
        at, size = args
        return os.pread(file.fileno(), size, at)

    seen = Sighting(at_ns=0, offset_ns=12345, error_ns=1)
    with tempfile.TemporaryFile() as ours:
        line: Any = None
        ferry = Ferry(remote, "node", line, ours.fileno())
        return ferry.settle(share, Alignment(before=seen, after=seen)).rows


def _spilled(file: IO[bytes], numbers: range, tokens: int) -> Finished:
    writer = SpillWriter(file.fileno())
    columns = Chunks.of(
        Chunk(at_ns=n * MS, kind="answer", characters=4, cumulative_tokens=n + 1)
        for n in range(tokens)
    )
    # Rows wait in a file, so that what is measured is not what made them.
    places = deque(writer.write(columns) for _ in numbers)
    rows_at = writer.position
    count = write_rows(writer, _rows(numbers, places, tokens))
    return Finished(
        spilled_at=0, rows_at=rows_at, ends_at=writer.position, rows=count, health=HEALTH
    )


def _rows(numbers: range, places: deque[int], tokens: int) -> Iterator[RequestRow]:
    for index in numbers:
        yield RequestRow(
            index=index,
            written_ns=index * MS,
            ended_ns=(index + tokens) * MS,
            status=200,
            finish_reason="length",
            prompt_tokens=512,
            cached_tokens=0,
            output_tokens=tokens,
            asked_input=512,
            asked_output=tokens,
            session=index,
            chunks_at=places.popleft(),
            chunk_count=tokens,
        )


if __name__ == "__main__":
    main()
