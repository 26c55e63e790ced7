"""When a run is not to be judged, and what is said then."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.engines.counters import Counters
from pytest_llmperf.metrics.bounds import HealthBounds
from pytest_llmperf.metrics.health import counted_hits, invalid_reasons
from pytest_llmperf.metrics.steady import Trend, steady_span
from pytest_llmperf.metrics.summary import reduce_pass
from pytest_llmperf.records import (
    NO_CHUNKS,
    ClientHealth,
    LoadWorker,
    Pass,
    RequestRecord,
    Run,
    Source,
    SourceKind,
    Workload,
)

MS = 1_000_000
HEALTHY = ClientHealth(
    cpu_share=0.1,
    loop_lag_ms_p99=1.0,
    loop_lag_ms_max=2.0,
    peak_rss_bytes=50_000_000,
    mean_in_flight=2.0,
)
CLOSED = Workload(
    name="tiny",
    input_tokens=10,
    output_tokens=4,
    concurrency=2,
    requests=4,
    warmup_requests=1,
    runs=1,
)
OPEN = replace(CLOSED, arrivals="poisson", rate=10.0, concurrency=None)


def request(
    index: int, *, written_ms: float | None = None, lasts_ms: float = 100, **more: Any
) -> RequestRecord:
    """The request ``index`` of a closed loop with two slots, each busy all the time."""
    written = round((index // 2 * 100 if written_ms is None else written_ms) * MS)
    record = RequestRecord(
        index=index,
        written_ns=written,
        ended_ns=written + round(lasts_ms * MS),
        status=200,
        failure=None,
        finish_reason="length",
        prompt_tokens=10,
        cached_tokens=0,
        output_tokens=4,
        reasoning_tokens=None,
        token_source="usage",
        chunks=NO_CHUNKS,
        asked_input=10,
    )
    return replace(record, **more)


SOME = [request(index) for index in range(8)]


def reasons(
    records: Sequence[RequestRecord] = SOME,
    *,
    workload: Workload = CLOSED,
    bounds: HealthBounds | None = None,
    trend: Trend | None = None,
    **client: Any,
) -> tuple[str, ...]:
    pass_ = Pass(
        seed=1,
        started_at="2026-01-01T00:00:00+00:00",
        started_ns=0,
        records=tuple(records),
        client=replace(HEALTHY, **client),
    )
    steady = steady_span(records, workload, 0)
    return invalid_reasons(pass_, workload, bounds or HealthBounds(), steady=steady, trend=trend)


def test_a_run_without_trouble_is_judged() -> None:
    assert reasons() == ()
    assert reasons([], workload=OPEN) == ()


# --- the client


@pytest.mark.parametrize(
    ("client", "said"),
    [
        ({"cpu_share": 0.97}, "the load client used 97% of a core (bound 90%)"),
        ({"loop_lag_ms_p99": 31.0}, "31.0 ms late at p99 (bound 25 ms)"),
        ({"send_delay_ms_p99": 7.25}, "7.2 ms behind their schedule at p99 (bound 5 ms)"),
        (
            {"offered_rate": 200.0, "achieved_rate": 183.5},
            "183.5 of 200 requests per second went out (91.8%, bound 99%)",
        ),
    ],
)
def test_a_client_at_its_limit_says_by_how_much_and_what_to_do(
    client: dict[str, Any], said: str
) -> None:
    (reason,) = reasons(workload=OPEN, **client)
    assert reason.startswith("client-bound: ")
    assert said in reason
    assert "--llmperf-client-processes" in reason


@pytest.mark.parametrize(
    ("bound", "client"),
    [
        ("cpu_share", {"cpu_share": 2.0}),
        ("loop_lag_ms_p99", {"loop_lag_ms_p99": 500.0}),
        ("send_delay_ms_p99", {"send_delay_ms_p99": 500.0}),
        ("delivered_share", {"offered_rate": 9.0, "achieved_rate": 1.0}),
    ],
)
def test_every_bound_can_be_moved_and_switched_off(bound: str, client: dict[str, Any]) -> None:
    off: HealthBounds = replace(HealthBounds(), **{bound: None})  # type: ignore[arg-type]
    assert reasons(workload=OPEN, **client)
    assert reasons(workload=OPEN, bounds=off, **client) == ()


def test_waiting_for_a_slot_is_not_the_clients_delay() -> None:
    capped = replace(OPEN, concurrency=2)
    assert reasons(workload=capped, send_delay_ms_p99=900.0, held_back=True) == ()
    assert reasons(workload=capped, send_delay_ms_p99=900.0, held_back=False) != ()


def test_a_closed_loop_with_empty_slots_is_the_clients_fault() -> None:
    # Each slot rests for 30 ms after 100 ms of work.
    gaps = [request(index, written_ms=index // 2 * 130) for index in range(8)]
    (reason,) = reasons(gaps)
    assert reason.startswith("client-bound: 1.54 of 2 requests were in flight on the average")
    assert reasons(gaps, bounds=HealthBounds(in_flight_share=0.7)) == ()
    assert reasons(gaps, bounds=HealthBounds(in_flight_share=None)) == ()
    assert reasons(gaps, workload=replace(CLOSED, think_time_s=0.03)) == ()
    assert reasons(gaps, workload=OPEN) == ()


def test_connecting_is_not_idling() -> None:
    connecting = [
        request(index, written_ms=index // 2 * 130, connect_ns=30 * MS) for index in range(8)
    ]
    assert reasons(connecting) == ()


def test_the_drain_of_a_closed_loop_is_not_idling() -> None:
    # The second slot has nothing left to do while the last request goes on for long.
    assert reasons([*SOME, request(8, lasts_ms=10_000)]) == ()


# --- the set-up


def test_prefix_cache_hits_make_a_run_invalid_unless_they_are_meant() -> None:
    hit = [request(0, cached_tokens=9), request(1)]
    strict = HealthBounds(template_tokens=0)
    (reason,) = reasons(hit, bounds=strict)
    assert reason.startswith("prefix-cache hits: 9 of 20 prompt tokens (45%)")
    assert reasons(hit, bounds=HealthBounds(cached_share=None)) == ()
    assert reasons([request(0, cached_tokens=1)], bounds=strict) == ()
    assert reasons(hit, bounds=strict, workload=replace(CLOSED, shared_prefix_tokens=5)) == ()


def test_what_a_chat_template_shares_is_no_cache_hit() -> None:
    assert reasons([request(0, cached_tokens=8)]) == ()
    assert reasons([request(0, cached_tokens=9)]) != ()


def test_hits_that_nobody_reported_are_unknown() -> None:
    assert reasons([request(0, cached_tokens=None)]) == ()


def a_run(**changed: Any) -> Run:
    run = Run(
        launch_id="L", index=0, seed=1, started_at="", duration_s=1.0, valid=True,
        invalid_reasons=(), metrics={}, sent=4, succeeded=4, failed={}, input_tokens_mean=100.0,
        output_tokens_mean=4.0, reasoning_tokens_mean=None, cached_tokens_total=None,
        token_source="usage", client=HEALTHY,
    )  # fmt: skip
    return replace(run, **changed)


def grew(cached: float | None, *, prompt: float = 400, requests: float = 4) -> Counters:
    return Counters(requests=requests, prompt_tokens=prompt, cached_tokens=cached)


def counted(
    growth: Counters | None,
    *,
    run: Run | None = None,
    workload: Workload = CLOSED,
    keeps_cache: bool = False,
    **bounds: Any,
) -> str | None:
    run = run or a_run()
    return counted_hits(growth, run, workload, HealthBounds(**bounds), keeps_cache=keeps_cache)


def test_hits_that_only_the_counters_show_make_a_run_invalid() -> None:
    assert counted(grew(180)) == (
        "prefix-cache hits: 180 of 400 prompt tokens (45%) came from the server's cache "
        "(bound 10%); flush it between runs"
    )
    assert counted(grew(180), keeps_cache=True) == counted(grew(180))
    assert counted(grew(40)) is None
    assert counted(grew(41)) is not None
    assert counted(grew(180), cached_share=None) is None
    assert counted(grew(180), workload=replace(CLOSED, shared_prefix_tokens=5)) is None


def test_what_a_chat_template_shares_is_no_counted_hit() -> None:
    assert counted(grew(32, prompt=80)) is None
    assert counted(grew(33, prompt=80)) is not None


def test_without_counters_the_servers_own_reports_decide() -> None:
    assert counted(None) is None
    assert counted(grew(None)) is None
    assert counted(None, run=a_run(cached_tokens_total=40)) is None
    assert counted(None, run=a_run(cached_tokens_total=200)) is not None
    assert counted(None, run=a_run(cached_tokens_total=9, input_tokens_mean=None)) is None


def test_hits_are_told_once() -> None:
    assert counted(grew(180), run=a_run(invalid_reasons=("prefix-cache hits: 9 of 20",))) is None


def of_file(kind: SourceKind = "prompts", **changed: Any) -> Workload:
    source = Source(kind=kind, path="some.jsonl", sha256="1")
    return replace(CLOSED, input_tokens=None, source=source, **changed)


def test_a_file_on_a_cache_that_nobody_empties_must_not_be_answered_from_it() -> None:
    reason = counted(grew(400), workload=of_file(), keeps_cache=True) or ""
    assert reason.startswith("prefix-cache hits: this file's prompts were sent before")
    assert "400 of 400 prompt tokens (100%)" in reason
    assert counted(grew(9), workload=of_file(), keeps_cache=True) is None
    # Emptied before each run, what hits is alike within the file.
    assert counted(grew(400), workload=of_file()) is None
    assert counted(grew(400), workload=of_file(flush=False), keeps_cache=True) is None
    assert counted(grew(400), workload=of_file("trace"), keeps_cache=True) is None


def test_prompts_of_another_length_than_asked_make_a_run_invalid() -> None:
    wrong = [request(0, prompt_tokens=12), request(1), request(2, asked_input=11)]
    (reason,) = reasons(wrong)
    assert reason == (
        "prompt length not as asked: 2 of 3 prompts differ, at worst 12 tokens where 10 were "
        "asked for"
    )
    assert reasons(wrong, bounds=HealthBounds(prompt_error=0.2)) == ()


def test_a_text_of_unknown_length_and_an_uncounted_prompt_cannot_be_wrong() -> None:
    assert reasons([request(0, asked_input=None, prompt_tokens=99)]) == ()
    assert reasons([request(0, prompt_tokens=None)]) == ()


# --- the load


def test_a_certain_and_large_trend_makes_a_run_invalid() -> None:
    (reason,) = reasons(trend=Trend(retention=0.7, p_value=1e-6))
    assert reason.startswith("not steady: the output rate fell by 30% from the first to the last")
    assert "(bound 20%, p = 1e-06)" in reason
    (reason,) = reasons(trend=Trend(retention=1.5, p_value=1e-6))
    assert "rose by 50%" in reason


def test_a_small_or_doubtful_trend_does_not() -> None:
    assert reasons(trend=Trend(retention=0.81, p_value=1e-9)) == ()
    assert reasons(trend=Trend(retention=0.5, p_value=0.01)) == ()
    assert reasons(trend=Trend(retention=0.1, p_value=0), bounds=HealthBounds(drift=None)) == ()


def worker(node: str, **more: Any) -> LoadWorker:
    quiet = LoadWorker(node=node, cpu_share=0.1, loop_lag_ms_p99=1.0, peak_rss_bytes=1)
    return replace(quiet, **more)


def test_a_worker_at_its_limit_is_named() -> None:
    workers = (
        worker("node-a"),
        worker("node-b", cpu_share=0.97),
        worker("node-c", loop_lag_ms_p99=31),
    )
    found = reasons(cpu_share=0.97, loop_lag_ms_p99=31.0, workers=workers)
    assert len(found) == 2
    assert "client-bound: the load client's worker on node-b used 97% of a core" in found[0]
    assert "the load client's worker on node-c ran 31.0 ms late" in found[1]
    assert all("--llmperf-ray-workers" in reason for reason in found)


def test_clocks_that_could_move_a_throughput_spoil_a_run() -> None:
    """Both ends of the window may be told by the workers whose clocks are known worst."""
    span = steady_span(SOME, CLOSED, 0)
    assert span is not None
    half_ms = span.seconds * 1e3 * 0.001 / 2
    known = (
        worker("a", clock_error_ms=half_ms * 0.99),
        worker("b", clock_error_ms=half_ms),
        worker("c"),
    )
    assert reasons(workers=known) == ()
    worst = (*known, worker("d", clock_error_ms=half_ms * 1.02))
    (reason,) = reasons(workers=worst)
    assert reason.startswith("clock-error: the ends of the window are known to ")
    assert "the clock of d is known worst" in reason
    assert reasons(workers=worst, bounds=HealthBounds(clock_share=None)) == ()


def test_a_run_without_a_steady_part_is_as_long_as_its_requests() -> None:
    whole_ms = (max(r.ended_ns for r in SOME) - min(r.written_ns for r in SOME)) / MS
    known, unknown = (worker("a", clock_error_ms=whole_ms * 0.001 * by) for by in (0.99, 1.01))
    trace = replace(OPEN, arrivals="trace", rate=None)
    assert reasons(workload=trace, workers=(known,)) == ()
    (reason,) = reasons(workload=trace, workers=(unknown,))
    assert reason.startswith("clock-error: ")
    assert reasons([], workload=trace, workers=(unknown,)) == ()


@pytest.mark.parametrize("workers", [None, (worker("a", clock_error_ms=0.1),)])
def test_the_steady_part_is_looked_for_once(
    monkeypatch: pytest.MonkeyPatch, workers: tuple[LoadWorker, ...] | None
) -> None:
    looked: list[int] = []

    def last_ns(records: Sequence[RequestRecord], workload: Workload) -> int:
        looked.append(len(records))
        return max(each.written_ns for each in records)

    monkeypatch.setattr("pytest_llmperf.metrics.steady._last_ns", last_ns)
    client = replace(HEALTHY, workers=workers)
    pass_ = Pass(seed=1, started_at="", started_ns=0, records=tuple(SOME), client=client)
    reduce_pass(pass_, workload=CLOSED, launch_id="l", index=0, devices=1)
    assert looked == [len(SOME)]


def test_a_worker_that_was_cut_off_spoils_a_run() -> None:
    cut_off = (worker("a", silent_s=0.6), worker("b", silent_s=5.2))
    (reason,) = reasons(workers=cut_off)
    assert "nothing was heard of the load's worker on b for 5.2 s (bound 2 s)" in reason
    assert reasons(workers=cut_off, bounds=HealthBounds(silence_s=None)) == ()


def test_of_this_machines_processes_nothing_is_asked_about_clocks() -> None:
    assert reasons(workers=None) == ()
