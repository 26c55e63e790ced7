"""Real engines on the CPU, measured by our client and by the engine's own at the same load.

Each engine serves the same tiny model on one core; the clients take turns on the other. Where their
figures differ, the difference is split, in percent of our figure, into

- what the other client is late by: its report, less what its own definitions give on the packets
  of the very same requests, as the kernel stamped them;
- each definition in which it differs from ours, recomputed from those requests;
- its prompts: its requests with its own prompts, less those with ours;
- its manner of asking (options in the body, connections): our client asking like it, less as usual;
- the time it takes between a response and the next request, which lowers throughput (Little's law);
- what is left: the same requests asked in the same way, one client's turn against the other's.
  It should be no more than two turns of one client differ by: the noise.

An engine's pace changes from turn to turn by more than that, so what one turn's server sent is then
played back to both clients, byte for byte and at the same times after their requests: ``replayed``
is the same table without the engine's noise.

``after_percent`` is what remains of the difference when our own raw records are reduced in the
other's terms and both ask alike, and again when both are stamped by the kernel.
Prints JSON. Linux, and root or CAP_NET_RAW for the packets. Environment: ``LLMPERF_PEER_SGLANG``,
``LLMPERF_PEER_VLLM`` (virtual environments), ``LLMPERF_LLAMA_SERVER`` (the program), and for
llama.cpp's own client ``LLMPERF_LLAMA_BENCH`` (its ``scripts/server-bench.py``) with
``LLMPERF_PEER_LLAMA_CPP`` (a virtual environment for it); without, SGLang's client asks llama.cpp.

    python -m benchmarks.real_engines --engines sglang,vllm,llama.cpp --rounds 3
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from statistics import fmean

from benchmarks.engines.attribution import Round, Row, in_flight, table
from benchmarks.engines.peers import peer_of
from benchmarks.engines.replay import Script
from benchmarks.engines.servers import ENGINES, serving
from benchmarks.engines.trials import Sitting, Size, Trial
from pytest_llmperf import clock

#: Of one turn, so that it takes some seconds.
REQUESTS = {"sglang": 100, "vllm": 200, "llama.cpp": 400}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--engines", default=",".join(ENGINES), help="default: all three")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each client (default: 3)")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--input-tokens", type=int, default=64)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--requests", type=int, help=f"of each turn (default: {REQUESTS})")
    chosen = parser.parse_args()
    allowed = sorted(os.sched_getaffinity(0))
    server_core, client_core = allowed[0], allowed[min(1, len(allowed) - 1)]
    os.sched_setaffinity(0, {server_core})  # this process keeps off the clients' core
    rows = []
    for engine in chosen.engines.split(","):
        size = Size(
            requests=chosen.requests or REQUESTS[engine],
            concurrency=chosen.concurrency,
            input_tokens=chosen.input_tokens,
            output_tokens=chosen.output_tokens,
            core=client_core,
        )
        rows.append(measured(engine, size, chosen.rounds, server_core))
    print(json.dumps({"date": datetime.now(UTC).date().isoformat(), "engines": rows}, indent=1))


def measured(engine: str, size: Size, rounds: int, server_core: int) -> Row:
    """Everything about one engine."""
    peer, watch = peer_of(engine), clock.Stopwatch()
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        with contextlib.ExitStack() as clients:
            with serving(engine, scratch, server_core) as live:
                sitting = clients.enter_context(Sitting(live, peer, size, scratch))
                done = sitting.trials(rounds)
            # Ours asks for connections to be closed where the other closes its own, and is told so.
            calls, asides = done[-1]["ours_alike"].tapped.calls, done[-1]["theirs"].tapped.asides
            again = sitting.replayed(rounds, Script.of(calls, asides))
    return {
        "engine": engine,
        "version": live.version,
        "client": peer.name,
        "size": dataclasses.asdict(size),
        "rounds": rounds,
        "server_core": server_core,
        "seconds": round(watch.elapsed),
        "asked": {arm: asked(trial) for arm, trial in done[0].items()},
        "failures": {
            arm: lost
            for arm in done[0]
            if (lost := [f for each in done for f in each[arm].failures])
        },
        "figures": table([Round(peer, each) for each in done]),
        "replayed": table([Round(peer, each) for each in again]),
    }


def asked(trial: Trial) -> Row:
    """What the requests of one run were like, as they went over."""
    records, calls = trial.tapped.records, trial.tapped.calls
    return {
        "prompt_tokens": extent(record.prompt_tokens for record in records),
        "output_tokens": extent(record.output_tokens for record in records),
        "cached_tokens": extent(record.cached_tokens for record in records),
        "mean_in_flight": round(in_flight(records), 2),
        "connections_opened": sum(call.opened_ns is not None for call in calls),
        "body": {
            name: value
            for name, value in calls[0].body.items()
            if name not in ("messages", "prompt", "model")
        },
    }


def extent(values: Iterable[int | None]) -> Row | None:
    """Least, mean and largest."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return {"min": min(known), "mean": round(fmean(known), 1), "max": max(known)}


if __name__ == "__main__":
    main()
