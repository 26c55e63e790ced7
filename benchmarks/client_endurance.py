"""A long run of many long responses: is memory bounded, and do the clocks' totals stay together?

1,000 streams of 64k tokens, in chunks of 16 as servers with a stream interval send them, for ten
minutes, against the ground-truth server. Every chunk is recorded, so records grow by 17 bytes for
each (on disk, not in memory); bytes that wait to be decoded must not grow. Prints JSON: memory of
the client's process over time, token totals by usage and by the server, and by how much chunks were
stamped after they left, over the tenths of the run.

    python -m benchmarks.client_endurance --minutes 10
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import psutil

from benchmarks.truth.log import TrueRequest, measured
from benchmarks.truth.server import TruthServer
from pytest_llmperf import clock
from pytest_llmperf.load.child import Processes
from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.metrics.summary import reduce_pass
from pytest_llmperf.records import Pass, Workload

TENTHS = 10
SAMPLE_S = 1.0


class Watch:
    """Memory and open files of a process, once a second, until it is stopped."""

    def __init__(self, pid: int) -> None:
        self.rss: list[int] = []
        self.files: list[int] = []
        self._process = psutil.Process(pid)
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.rss.append(self._process.memory_full_info().uss)
            self.files.append(self._process.num_fds())

    def stop(self) -> None:
        self._over.set()
        self._thread.join()


def workload(options: argparse.Namespace) -> Workload:
    return Workload(
        name="endurance",
        input_tokens=64,
        output_tokens=options.output_tokens,
        concurrency=options.streams,
        requests=options.streams,
        warmup_requests=0,
        runs=1,
        request_timeout_s=options.minutes * 120,
    )


def lags(result: Pass, truth: Sequence[TrueRequest]) -> list[dict[str, float]]:
    """Client stamp less server stamp in ms, over tenths of the chunks in order of time.

    Both sides are sorted, so that no request has to be found in the other's list; the mean of the
    differences is that of the chunks', whichever belongs to which.
    """
    ours = np.concatenate([np.asarray(record.chunks.at_ns) for record in result.records])
    theirs = np.array([chunk.at_ns for request in truth for chunk in request.chunks])
    carrying = np.concatenate([np.asarray(record.chunks.kinds) for record in result.records]) > 0
    ours, theirs = np.sort(ours[carrying]), np.sort(theirs)
    if len(ours) != len(theirs):
        raise SystemExit(f"{len(ours)} chunks were stamped, {len(theirs)} were sent")
    parts = np.array_split((ours - theirs) / 1e6, TENTHS)
    return [
        {"mean_ms": round(float(part.mean()), 4), "max_ms": round(float(part.max()), 3)}
        for part in parts
    ]


def megabytes(samples: Sequence[int]) -> list[float]:
    """The greatest of each tenth of the samples."""
    return [round(max(part) / 2**20, 1) for part in np.array_split(samples, TENTHS) if len(part)]


def run(options: argparse.Namespace) -> dict[str, Any]:
    asked = workload(options)
    gap_ms = options.minutes * 60_000 / options.output_tokens
    cores = sorted(os.sched_getaffinity(0))
    with TruthServer(
        core=cores[0],
        ttft_ms=100,
        itl_ms=gap_ms,
        tokens_per_chunk=options.tokens_per_chunk,
        free=True,
    ) as server:
        target = Target(url=server.url, model=server.model, api_fields={"ignore_eos": True})
        with LoadClient(target, crew=Processes((cores[-1],), wanted=1)) as client:
            client.prepare(asked)
            watch = Watch(client.pids[0])
            began = clock.now()
            result = client.measure(asked, seed=1)
            wall_s = clock.now() - began
            watch.stop()
            truth = measured(server.truth(), len(result.records))
            reduced = reduce_pass(result, workload=asked, launch_id="1", index=0, devices=1)
            tenths = lags(result, truth)
    return {
        "streams": options.streams,
        "output_tokens_each": options.output_tokens,
        "wall_s": round(wall_s, 1),
        "failed": dict(reduced.failed),
        "succeeded": sum(record.ok for record in result.records),
        "tokens": {
            "server_sent": sum(request.tokens for request in truth),
            "by_usage": sum(record.output_tokens or 0 for record in result.records),
        },
        "chunks": sum(len(request.chunks) for request in truth),
        "memory_mib_by_tenth": megabytes(watch.rss),
        "open_files_by_tenth": [
            max(part) for part in np.array_split(watch.files, TENTHS) if len(part)
        ],
        "records_on_disk_mib": round(
            17 * sum(len(record.chunks) for record in result.records) / 2**20, 1
        ),
        "lag_by_tenth": tenths,
        "client": {
            "cpu_share": round(result.client.cpu_share, 4),
            "loop_lag_ms_p99": result.client.loop_lag_ms_p99,
            "valid": reduced.valid,
            "invalid_reasons": list(reduced.invalid_reasons),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--output-tokens", type=int, default=65_536)
    parser.add_argument("--tokens-per-chunk", type=int, default=16)
    print(json.dumps(run(parser.parse_args()), indent=2, default=int))


if __name__ == "__main__":
    main()
