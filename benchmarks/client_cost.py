"""What load clients cost: CPU time and memory for a million tokens, and how fast one core reads.

Paced: 256 streams that step together, at two gaps between tokens. Flood: 64 streams of 512 tokens
as fast as the sockets take them, with one, four and 16 chunks in each send of the server; "reader"
stamps what comes and throws it away. CPU time is that of all a client's processes: in the window
(first request received to last chunk sent), and all in, which adds decoding and report, less what
the same client takes for one request of two tokens (its start-up). "Claimed" is by the client's own
account, which knows its window better than sampling does. Where a flood took much less than a core,
the server was the slower one: tokens for each second of CPU time say what a core could absorb.
Prints JSON: median, least and largest of the repeats.

    python -m benchmarks.client_cost --clients ours,bare
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping

from benchmarks.clients.base import Seen
from benchmarks.truth.compare import (
    Bench,
    Found,
    Row,
    Trial,
    arguments,
    bench,
    numbers,
    over,
    server_row,
    show,
    trials,
)
from benchmarks.truth.server import TruthServer

STREAMS, TOKENS, WAVES = 256, 128, 2
FLOOD_STREAMS, FLOOD_TOKENS, FLOOD_WAVES = 64, 512, 8
FLOODS = (1, 4, 16)


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(clients="ours,bare,reader")
    parser.add_argument("--itl-ms", type=numbers, default=[20, 4])
    parser.add_argument("--only", choices=["paced", "flood"], help="leave the other part out")
    chosen = parser.parse_args()
    rows: list[Row] = []
    with bench(chosen) as setup:
        idle = start_up(setup)
        if chosen.only != "flood":
            for itl_ms in chosen.itl_ms:
                rows += paced(setup, itl_ms, idle)
        if chosen.only != "paced":
            for chunks in FLOODS:
                rows += flood(setup, chunks, idle)
        show(setup, rows)


def start_up(setup: Bench) -> dict[str, float]:
    """CPU seconds that each client takes for next to nothing."""
    with TruthServer(core=setup.server_core, ttft_ms=10) as server:
        found = trials(setup, server, requests=1, concurrency=1, output_tokens=2)
    return {
        name: statistics.median(trial.seen.cpu_s or 0.0 for trial in done)
        for name, (done, _) in found.items()
        if done
    }


def paced(setup: Bench, itl_ms: float, idle: Mapping[str, float]) -> list[Row]:
    with TruthServer(core=setup.server_core, itl_ms=itl_ms) as server:
        found = trials(
            setup,
            server,
            requests=WAVES * STREAMS,
            concurrency=STREAMS,
            output_tokens=TOKENS,
        )
    return rows_of(found, {"load": "paced", "itl_ms": itl_ms, "streams": STREAMS}, idle)


def flood(setup: Bench, chunks: int, idle: Mapping[str, float]) -> list[Row]:
    with TruthServer(core=setup.server_core, ttft_ms=0, flood=chunks) as server:
        found = trials(
            setup,
            server,
            requests=FLOOD_WAVES * FLOOD_STREAMS,
            concurrency=FLOOD_STREAMS,
            output_tokens=FLOOD_TOKENS,
        )
    what = {"load": "flood", "chunks_per_send": chunks, "streams": FLOOD_STREAMS}
    return rows_of(found, what, idle)


def rows_of(found: Found, what: Row, idle: Mapping[str, float]) -> list[Row]:
    rows = []
    for name, (done, failures) in found.items():
        row: Row = {"client": name, **what, "failures": failures}
        rows.append(row | (costs(done, idle[name]) if done else {}))
    return rows


def costs(done: list[Trial], idle_s: float) -> Row:
    return {
        "version": done[0].seen.version,
        "tokens_per_s": over(done, lambda trial: trial.figures.throughput),
        "claimed_tokens_per_cpu_s": over(done, lambda trial: per_cpu_s(trial.seen)),
        "window_cpu_s_per_million": over(
            done, lambda trial: per_million(trial, trial.window_cpu_s)
        ),
        "claimed_window_cpu_s_per_million": over(
            done, lambda trial: per_million(trial, trial.seen.window_cpu_s)
        ),
        "all_in_cpu_s_per_million": over(
            done, lambda trial: per_million(trial, trial.seen.cpu_s, less=idle_s)
        ),
        "start_up_cpu_s": idle_s,
        "peak_rss_mib": over(done, peak_rss_mib),
        "server": server_row(done),
    }


def peak_rss_mib(trial: Trial) -> float | None:
    held = trial.seen.peak_rss_bytes
    return None if held is None else held / 2**20


def per_cpu_s(seen: Seen) -> float | None:
    return (seen.output_tokens or 0) / seen.window_cpu_s if seen.window_cpu_s else None


def per_million(trial: Trial, cpu_s: float | None, *, less: float = 0.0) -> float | None:
    return None if cpu_s is None else (cpu_s - less) / trial.figures.output_tokens * 1e6


if __name__ == "__main__":
    main()
