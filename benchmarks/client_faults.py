"""What load clients make of faults: successes, tokens and times as they claim them, and the truth.

60 requests of 32 tokens; a fault befalls every tenth after three tokens. Not only faults: role-only
first chunks, several tokens in a chunk, reasoning and missing usage are what ordinary servers send.
Prints JSON; "exact" says that successes and output tokens are right.

    python -m benchmarks.client_faults --clients ours,ours_completions,bare
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.truth.compare import Bench, Row, Trial, arguments, bench, show, trials
from benchmarks.truth.server import TruthServer

REQUESTS, STREAMS, TOKENS = 60, 10, 32
TIMEOUT_S = 10.0
#: What the server is told, by the name of what it does.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "error": {"fault": "error"},
    "cut": {"fault": "cut"},
    "http_500": {"fault": "http_500"},
    "stall": {"fault": "stall"},
    "no_finish": {"fault": "no_finish"},
    "no_done": {"fault": "no_done"},
    "garbage": {"fault": "garbage"},
    "role_first": {"role_first": True, "ttft_ms": 300.0},
    "four_tokens_a_chunk": {"tokens_per_chunk": 4},
    "half_reasoning": {"reasoning_fraction": 0.5},
    "no_usage": {"no_usage": True},
}


def main() -> None:
    parser = arguments(__doc__)
    parser.set_defaults(clients="ours,ours_completions,bare", repeat=1)
    parser.add_argument("--faults", default=",".join(SETTINGS), help="names, separated by commas")
    chosen = parser.parse_args()
    with bench(chosen) as setup:
        rows = [row for name in chosen.faults.split(",") for row in faults(setup, name)]
        show(setup, rows)


def faults(setup: Bench, name: str) -> list[Row]:
    settings = {"ttft_ms": 50.0, "itl_ms": 4.0, **SETTINGS[name]}
    rows = []
    with TruthServer(core=setup.server_core, **settings) as server:
        found = trials(
            setup,
            server,
            requests=REQUESTS,
            concurrency=STREAMS,
            output_tokens=TOKENS,
            timeout_s=TIMEOUT_S,
        )
    for client, (done, failures) in found.items():
        row: Row = {"client": client, "fault": name, "failures": failures}
        rows.append(row | {"runs": [claims(trial) for trial in done]})
    return rows


def claims(trial: Trial) -> Row:
    seen, true = trial.seen, trial.figures
    return {
        "succeeded": seen.succeeded,
        "truly_succeeded": true.succeeded,
        "output_tokens": seen.output_tokens,
        "true_output_tokens": true.output_tokens,
        "exact": trial.counts_exact,
        "ttft_mean_ms": seen.ttft_mean,
        "true_ttft_mean_ms": true.ttft_mean,
        "itl_mean_ms": seen.itl_mean,
        "true_itl_mean_ms": true.itl_mean,
        "note": seen.note,
    }


if __name__ == "__main__":
    main()
