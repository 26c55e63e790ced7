"""Our client and the bare one, as the benchmarks run them, against the truth."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.clients.base import Load
from benchmarks.clients.registry import CLIENTS, find
from benchmarks.truth.log import figures, measured
from benchmarks.truth.server import TruthServer

LOAD = Load(
    url="",
    model="truth",
    model_dir=Path(),
    requests=12,
    concurrency=4,
    output_tokens=16,
    core=max(os.sched_getaffinity(0)),
    timeout_s=60,
)


@pytest.mark.parametrize("name", ["ours", "ours_completions", "bare", "bare_completions"])
def test_counts_are_exact_and_nothing_is_early(name: str) -> None:
    with TruthServer(ttft_ms=20, itl_ms=2, fault="error", fault_every=5) as server:
        seen = find(name).run(replace(LOAD, url=server.url))
        true = figures(measured(server.truth(), LOAD.requests))
    assert 0 < true.succeeded < true.requests == 12
    assert (seen.succeeded, seen.failed) == (true.succeeded, 12 - true.succeeded)
    assert seen.output_tokens == true.output_tokens
    assert seen.ttft_mean is not None
    assert seen.ttft_mean >= true.ttft_mean  # from before it was received to after it was sent
    assert seen.e2e_mean is not None
    assert seen.e2e_mean >= true.e2e_mean
    assert seen.cpu_s is not None
    assert seen.cpu_s > (seen.window_cpu_s or 0)


@pytest.mark.parametrize("name", ["ours", "bare"])
def test_an_open_loop_says_what_it_offered(name: str) -> None:
    with TruthServer(ttft_ms=5, itl_ms=1, free=True) as server:
        seen = find(name).run(replace(LOAD, url=server.url, rate=100.0, concurrency=12))
        true = figures(measured(server.truth(), LOAD.requests))
    assert seen.succeeded == true.succeeded == 12
    assert seen.offered_rate is not None
    assert seen.send_delay_p99 is not None
    assert seen.send_delay_p99 >= 0


def test_a_reader_knows_when_answers_end() -> None:
    with TruthServer(ttft_ms=0, flood=4) as server:
        seen = find("reader").run(replace(LOAD, url=server.url, output_tokens=400))
    assert (seen.succeeded, seen.output_tokens) == (12, 12 * 400)


def test_a_client_that_fails_is_quoted() -> None:
    with pytest.raises(RuntimeError, match="ConnectionRefusedError"):
        find("bare").run(replace(LOAD, url="http://127.0.0.1:1"))


@pytest.mark.parametrize("name", CLIENTS)
def test_every_client_is_found_by_its_name(name: str) -> None:
    assert find(name).name == name


def test_an_unknown_client_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"no client is called 'curl'; there are ours, "):
        find("curl")
