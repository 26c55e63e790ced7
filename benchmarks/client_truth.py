"""What load clients report, less what the server knows to be true.

A ground-truth server on one core logs when each chunk left; each client on another core asks it for
two waves of streams, all of which step together. Prints JSON: errors in ms (throughput: in percent)
as median, least and largest of the repeats.

    python -m benchmarks.client_truth --clients ours,bare --streams 1,256
"""

from __future__ import annotations

from functools import partial

from benchmarks.truth.compare import (
    LATENCIES,
    Bench,
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

WAVES = 2


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--streams", type=numbers, default=[1, 16, 64, 128, 256])
    parser.add_argument("--itl-ms", type=numbers, default=[20, 4])
    parser.add_argument("--ttft-ms", type=float, default=100.0)
    parser.add_argument("--output-tokens", type=int, default=128)
    chosen = parser.parse_args()
    rows = []
    with bench(chosen) as setup:
        for itl_ms in chosen.itl_ms:
            with TruthServer(
                core=setup.server_core, ttft_ms=chosen.ttft_ms, itl_ms=itl_ms
            ) as server:
                for streams in chosen.streams:
                    found = errors(setup, server, int(streams), chosen.output_tokens)
                    rows += [{"itl_ms": itl_ms, **row} for row in found]
        show(setup, rows)


def errors(setup: Bench, server: TruthServer, streams: int, output_tokens: int) -> list[Row]:
    """A row for each client at one number of streams."""
    found = trials(
        setup,
        server,
        requests=WAVES * streams,
        concurrency=streams,
        output_tokens=output_tokens,
    )
    rows = []
    for name, (done, failures) in found.items():
        row: Row = {"client": name, "streams": streams, "failures": failures}
        rows.append(row | (told(done) if done else {}))
    return rows


def told(done: list[Trial]) -> Row:
    return {
        "version": done[0].seen.version,
        "errors": {name: over(done, partial(Trial.error, name=name)) for name in LATENCIES},
        "throughput_error_percent": over(done, lambda trial: trial.throughput_error),
        "counts_exact": all(trial.counts_exact for trial in done),
        "truth": {name: over(done, partial(Trial.true, name=name)) for name in LATENCIES},
        "server": server_row(done),
    }


if __name__ == "__main__":
    main()
