"""Whether load clients deliver the rate they were asked for, and tell the truth about it.

Poisson arrivals of short streams, each on a schedule of its own from its arrival. The rate
delivered is counted by the server, from the first request to the last. A Poisson process of n
requests strays by 1/sqrt(n) itself, so the error is against the client's own schedule, where it
tells that. Prints JSON: median, least and largest of the repeats.

    python -m benchmarks.client_open_loop --clients ours,bare --rates 200,2000
"""

from __future__ import annotations

from benchmarks.truth.compare import (
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

TTFT_MS, ITL_MS, TOKENS = 50.0, 10.0, 16
MOST_IN_FLIGHT = 1024


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--rates", type=numbers, default=[200, 2000], help="requests per second")
    parser.add_argument("--seconds", type=float, default=10.0, help="how long each run asks")
    chosen = parser.parse_args()
    with (
        bench(chosen) as setup,
        TruthServer(core=setup.server_core, ttft_ms=TTFT_MS, itl_ms=ITL_MS, free=True) as server,
    ):
        rows = [
            row for rate in chosen.rates for row in open_loop(setup, server, rate, chosen.seconds)
        ]
        show(setup, rows)


def open_loop(setup: Bench, server: TruthServer, rate: float, seconds: float) -> list[Row]:
    found = trials(
        setup,
        server,
        requests=round(rate * seconds),
        concurrency=MOST_IN_FLIGHT,
        rate=rate,
        output_tokens=TOKENS,
    )
    rows = []
    for name, (done, failures) in found.items():
        row: Row = {"client": name, "asked_per_s": rate, "failures": failures}
        rows.append(row | (delivered(done) if done else {}))
    return rows


def delivered(done: list[Trial]) -> Row:
    return {
        "version": done[0].seen.version,
        "delivered_per_s": over(done, lambda trial: trial.figures.arrival_rate),
        "claimed_per_s": over(done, lambda trial: trial.seen.request_rate),
        "offered_per_s": over(done, lambda trial: trial.seen.offered_rate),
        "delivered_error_percent": over(done, delivery_error),
        "send_delay_p99_ms": over(done, lambda trial: trial.seen.send_delay_p99),
        "ttft_mean_ms": over(done, lambda trial: trial.seen.ttft_mean),
        "true_ttft_mean_ms": over(done, lambda trial: trial.figures.ttft_mean),
        "ttft_p99_error_ms": over(done, lambda trial: trial.error("ttft_p99")),
        "succeeded": [trial.seen.succeeded for trial in done],
        "truly_succeeded": [trial.figures.succeeded for trial in done],
        "notes": [trial.seen.note for trial in done],
        "server": server_row(done),
    }


def delivery_error(trial: Trial) -> float | None:
    offered, delivered = trial.seen.offered_rate, trial.figures.arrival_rate
    return 100 * (delivered / offered - 1) if offered and delivered else None


if __name__ == "__main__":
    main()
