"""A server measured: what is sent again, what the cache answered, what is asked cold."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from live_servers import live
from pytest_llmperf.engines.base import Engine
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import ServerError
from pytest_llmperf.load.child import Child, Processes
from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.load.declare.workloads import make_workload
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.records import (
    HttpCall,
    Run,
    Workload,
)
from pytest_llmperf.session.one_run import Measuring
from pytest_llmperf.session.seeds import session_number
from pytest_llmperf.session.server import LiveServer
from pytest_llmperf.testing import FakeServer, Script

TINY = Workload(
    name="tiny",
    input_tokens=40,
    output_tokens=2,
    concurrency=2,
    requests=4,
    warmup_requests=1,
    runs=1,
    api="completions",
    request_timeout_s=10.0,
)
#: No run is called client-bound on a busy machine.
LENIENT = HealthBounds(
    cpu_share=None, loop_lag_ms_p99=None, send_delay_ms_p99=None, in_flight_share=None, drift=None
)
#: Every run is.
NEVER = replace(LENIENT, cpu_share=-1.0)


class Unflushable(Sim):
    flush: HttpCall | None = None


@pytest.fixture(autouse=True)
def fresh_number() -> Iterator[None]:
    session_number.cache_clear()
    yield
    session_number.cache_clear()


@pytest.fixture
def server() -> Iterator[FakeServer]:
    script = Script(ttft_ms=1, itl_ms=1, prefix_cache=True, max_context_tokens=1000)
    with FakeServer(script) as running:
        yield running


def measure(on: LiveServer, workload: Workload, bounds: HealthBounds = LENIENT) -> list[Run]:
    return on.measure(workload, lambda *_: None, Measuring(bounds=bounds))


def most_hits(runs: list[Run]) -> float:
    """The largest share of a run's prompts that the cache answered."""
    return max(run.metrics["cache_hit_rate"].value or 0.0 for run in runs)


@pytest.mark.parametrize("flush", [True, False])
@pytest.mark.parametrize("launched", [True, False])
def test_a_repeat_sends_other_prompts(server: FakeServer, launched: bool, flush: bool) -> None:
    on = live(server.url, launched=launched, engine=Unflushable())
    first, second = measure(on, replace(TINY, flush=flush), NEVER)
    assert (first.valid, first.index, second.index) == (False, 0, 0)
    assert first.seed != second.seed
    assert most_hits([first, second]) < 0.1


def test_where_the_cache_is_flushed_every_launch_sends_the_same() -> None:
    seeds = []
    for _ in range(2):
        with FakeServer(Script(ttft_ms=1, itl_ms=1)) as server:
            seeds.append(
                [run.seed for run in measure(live(server.url, launched=True), TINY, NEVER)]
            )
        session_number.cache_clear()
    assert seeds[0] == seeds[1] == [1, (1 << 15) + 1]


@pytest.mark.parametrize("engine", [Sim(), Unflushable()])
def test_a_later_session_sends_other_prompts_to_the_same_server(
    server: FakeServer, engine: Engine
) -> None:
    runs = measure(live(server.url, engine=engine), TINY)
    session_number.cache_clear()
    runs += measure(live(server.url, engine=engine), TINY)
    assert len(runs) == 2
    assert most_hits(runs) < 0.1


def test_workloads_of_one_seed_share_nothing_where_nothing_is_flushed(server: FakeServer) -> None:
    on = live(server.url, launched=True)
    kept = replace(TINY, flush=False)
    runs = [run for n in (1, 2) for run in measure(on, replace(kept, concurrency=n))]
    assert (len(runs), server.flushes) == (2, 0)
    assert most_hits(runs) < 0.1


# --- hits that the server's counters show


def prompts(folder: Path, *, flush: bool = True) -> Workload:
    lines = "".join(f'{{"prompt": "{letter * 60}"}}\n' for letter in "abcdefgh")
    (folder / "some.jsonl").write_text(lines)
    given = {
        "api": "completions", "requests": 4, "concurrency": 2, "output_tokens": 2,
        "warmup_requests": 1, "flush": flush,
    }  # fmt: skip
    return make_workload(
        "some.jsonl", given, runs=2, requests_needed=1, source="it", directories=[folder]
    )


def test_a_file_that_is_sent_again_to_a_warm_cache_is_not_believed(
    server: FakeServer, tmp_path: Path
) -> None:
    first, again, repeated = measure(live(server.url), prompts(tmp_path))
    assert first.valid
    (reason,) = again.invalid_reasons
    assert reason.startswith("prefix-cache hits: this file's prompts were sent before")
    assert most_hits([again]) > 0.9
    assert repeated.invalid_reasons == again.invalid_reasons


def test_a_warm_cache_that_was_asked_for_or_emptied_is_believed(
    server: FakeServer, tmp_path: Path
) -> None:
    assert all(run.valid for run in measure(live(server.url), prompts(tmp_path, flush=False)))
    assert all(run.valid for run in measure(live(server.url, launched=True), prompts(tmp_path)))
    assert server.flushes == 2


# --- the first request of a launch


def test_only_the_first_request_of_a_launch_is_cold(server: FakeServer) -> None:
    on = live(server.url, launched=True)
    with pytest.raises(ServerError):
        measure(on, replace(TINY, name="long", input_tokens=300, output_tokens=900))
    cold = on.cold_ttft_ms
    assert cold is not None
    (run,) = measure(on, TINY)
    assert run.metrics["cold_ttft"].value == cold


def test_a_launch_whose_first_workload_is_served_tells_its_cold_request(server: FakeServer) -> None:
    (run,) = measure(live(server.url, launched=True), TINY)
    assert (run.metrics["cold_ttft"].value or 0) > 0


def test_every_pass_has_as_many_workers_as_were_asked_for(server: FakeServer) -> None:
    hired: list[int] = []

    class Counting(Processes):
        def hire(self, first: int, count: int) -> list[Child]:
            hired.append(first + count)
            return super().hire(first, count)

    on = live(server.url, launched=True, crew=lambda *_: Counting(wanted=2))
    passes: list[Callable[[], object]] = [
        lambda: on.warm_up(TINY),
        lambda: on.send(TINY, lambda: None),
        lambda: measure(on, TINY),
    ]
    for send in passes:
        hired.clear()
        send()
        assert max(hired) == 2


def test_turns_share_a_client_until_the_server_is_stopped(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[LoadClient] = []
    open_ = LoadClient.__init__

    def counted(client: LoadClient, target: Target, **how: Any) -> None:
        opened.append(client)
        open_(client, target, **how)

    monkeypatch.setattr(LoadClient, "__init__", counted)
    on = live(server.url)
    twice = replace(TINY, runs=2)
    sent = []
    for turn in range(2):
        before = len(server.truth)
        on.measure(twice, lambda *_: None, Measuring(bounds=LENIENT), turn=turn)
        sent.append(len(server.truth) - before)
    # the second turn sends its own requests and no more: nothing is tried or warmed up again
    assert sent[1] == TINY.requests
    assert sent[0] > sent[1]
    assert [run.index for run in on.runs[twice]] == [0, 1]
    (kept,) = opened
    (pid,) = kept.pids
    on.stop()
    assert not psutil.pid_exists(pid)
    measure(on, TINY)
    assert len(opened) == 2
    assert opened[1].pids == ()
