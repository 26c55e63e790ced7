from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.sweep import Search
from pytest_llmperf.records import ClientHealth, MetricValue, Run, Slo, Source, Workload
from pytest_llmperf.session.measurement import Measurement
from pytest_llmperf.session.sweep import Points, Sweep, run_sweep

TTFT = Slo(metric="ttft", limit_ms=1500.0)
CHAT = Workload(
    name="chat",
    input_tokens=8,
    output_tokens=4,
    concurrency=4,
    requests=40,
    warmup_requests=4,
    runs=2,
    seed=7,
)
CLIENT = ClientHealth(
    cpu_share=0.1,
    loop_lag_ms_p99=None,
    loop_lag_ms_max=None,
    peak_rss_bytes=1,
    mean_in_flight=None,
)
CLOSED = Search(over="concurrency", low=1, high=256)
OPEN = Search(over="rate", low=1, high=256)


def closed(declared: Workload = CHAT, **more: int | float | bool) -> Points:
    return replace(Points(declared=declared, over="concurrency", slos=(TTFT,)), **more)  # type: ignore[arg-type]


def opened(declared: Workload = CHAT, **more: int | float | bool) -> Points:
    return replace(Points(declared=declared, over="rate", slos=(TTFT,)), **more)  # type: ignore[arg-type]


# --- the workload of a point -----------------------------------------------------------------


def test_a_point_is_the_declared_workload_at_its_load() -> None:
    point = closed().workload(8)
    changed = {"concurrency": 8, "requests": 1000, "warmup_requests": 8, "slo": (TTFT,)}
    assert point == replace(CHAT, seed=point.seed, **changed)  # type: ignore[arg-type]


@pytest.mark.parametrize("points", [closed(), opened()])
def test_seeds_differ_between_points_and_from_the_declared_but_not_between_times(
    points: Points,
) -> None:
    seeds = [points.workload(load).seed for load in range(1, 65)]
    assert len({CHAT.seed, *seeds}) == 65
    assert seeds == [points.workload(load).seed for load in range(1, 65)]
    other = replace(points, declared=replace(CHAT, seed=8))
    assert other.workload(1).seed != seeds[0]


def test_requests_are_enough_for_the_percentile_and_for_every_slot() -> None:
    assert closed().workload(1).requests == 1000
    assert closed().workload(256).requests == 2560
    assert closed(slos=()).workload(1).requests == 10  # type: ignore[arg-type]
    assert opened().workload(2).requests == 1000
    assert opened().workload(50).requests == 3000


def test_what_the_user_says_holds_unless_the_load_could_not_be_whole() -> None:
    assert closed(requests=50).workload(4).requests == 50
    assert closed(requests=50).workload(64).requests == 128
    assert opened(requests=50).workload(64).requests == 50
    timed = closed(duration_s=30.0).workload(4)
    assert (timed.duration_s, timed.requests) == (30.0, None)


def test_a_declared_duration_holds_for_every_point() -> None:
    declared = replace(CHAT, requests=None, duration_s=90.0)
    assert closed(declared).workload(64).duration_s == 90.0
    counted = closed(declared, requests=50).workload(1)
    assert (counted.duration_s, counted.requests) == (None, 50)
    assert closed(declared, short=True).workload(4).requests == 8


def test_sessions_stay_whole() -> None:
    declared = replace(CHAT, turns=3, turn_input_tokens=4, requests=120)
    assert closed(declared).workload(4).requests == 1002
    assert closed(declared).workload(64).requests == 1920
    assert closed(declared, requests=50).workload(1).requests == 51


def test_short_points_keep_the_load_up() -> None:
    short = closed(short=True).workload(8)
    assert (short.requests, short.warmup_requests) == (16, 1)
    assert opened(short=True).workload(8).requests == 16


def test_a_rate_makes_a_closed_loop_open() -> None:
    point = opened(replace(CHAT, ramp_up_s=2.0)).workload(2.5)
    assert (point.arrivals, point.rate, point.concurrency) == ("poisson", 2.5, None)
    assert point.warmup_requests == CHAT.warmup_requests


def test_a_declared_open_loop_keeps_its_arrivals_and_its_cap() -> None:
    declared = replace(CHAT, arrivals="gamma", rate=1.0, final_rate=9.0, burstiness=0.5)
    point = opened(declared).workload(2.0)
    assert (point.arrivals, point.rate, point.final_rate) == ("gamma", 2.0, None)
    assert (point.burstiness, point.concurrency) == (0.5, 4)
    closed_again = closed(declared).workload(2)
    assert (closed_again.arrivals, closed_again.rate, closed_again.concurrency) == (
        "closed",
        None,
        2,
    )


# --- driving ---------------------------------------------------------------------------------


def measured(workload: Workload, latency: float, throughput: float) -> Measurement:
    metrics = {
        "ttft_p99": MetricValue(value=latency),
        "output_throughput": MetricValue(value=throughput),
    }
    run = Run(
        launch_id="l",
        index=0,
        seed=0,
        started_at="",
        duration_s=1.0,
        valid=True,
        invalid_reasons=(),
        metrics=metrics,
        sent=workload.requests or 0,
        succeeded=0,
        failed={},
        input_tokens_mean=None,
        output_tokens_mean=None,
        reasoning_tokens_mean=None,
        cached_tokens_total=None,
        token_source=None,
        client=CLIENT,
    )
    return Measurement(
        id=f"x{workload.seed}", server_id="s", workload=workload, runs=(run,), summary={}
    )


class Server:
    """Gets slower with every request in flight, and no faster than at ten of them."""

    def __init__(self, latency: Callable[[int], float] = lambda load: 120.0 * load) -> None:
        self.asked: list[str] = []
        self._latency = latency

    def __call__(self, workload: Workload, doing: str) -> Measurement:
        self.asked.append(doing)
        load = workload.concurrency or 0
        return measured(workload, self._latency(load), min(load, 10) * 100.0)


def test_a_sweep_finds_the_highest_load_and_says_how_far_it_is() -> None:
    server = Server()
    sweep = run_sweep(CLOSED, closed(), "sim-1", server)
    assert sweep.highest == 12
    assert [point.load for point in sweep.points] == sorted(sweep.measurements)
    assert server.asked[0] == "concurrency 1, point 1 of at most 12"
    assert sweep.best is sweep.measurements[11 if 11 in sweep.measurements else 12]
    assert sweep.id.startswith("sim-1:sweep-")


def test_other_sweeps_have_other_ids() -> None:
    ids = {
        run_sweep(search, points, "sim-1", Server()).id
        for search in (CLOSED, replace(CLOSED, high=128))
        for points in (closed(), closed(requests=50))
    }
    assert len(ids) == 4


def test_a_sweep_reads_as_a_table() -> None:
    sweep = run_sweep(CLOSED, closed(requests=50), "sim-1", Server())
    lines = str(sweep).splitlines()
    assert lines[0] == "sweep over concurrency (requests in flight), output throughput in tok/s"
    assert lines[1] == "within: p99 TTFT <= 1,500 ms"
    (marked,) = (line for line in lines if "<- highest" in line)
    assert marked.split()[0] == "12"
    assert max(map(len, lines)) <= 80
    assert "With 50 requests in a run" in " ".join(line.strip() for line in lines)
    assert repr(sweep).startswith("<Sweep over concurrency 1, 2, 4, 8, 11, 12, 13, 16: highest 12,")


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (closed(requests=8, duration_s=1.0), "give one of them"),
        (
            closed(
                replace(
                    CHAT,
                    arrivals="trace",
                    source=Source(kind="trace", path="t.jsonl", sha256="0" * 64),
                )
            ),
            "replays a trace",
        ),
        (
            replace(closed(), slos=(Slo(metric="ttft_from_schedule", limit_ms=1.0),)),
            "closed loop",
        ),
    ],
)
def test_what_cannot_be_asked_is_told_before_anything_is_measured(
    points: Points, said: str
) -> None:
    server = Server()
    with pytest.raises(UsageMistake, match=said):
        run_sweep(CLOSED, points, "sim-1", server)
    assert server.asked == []


def test_a_sweep_is_a_value() -> None:
    sweep: Sweep = run_sweep(OPEN, opened(), "s", lambda w, doing: measured(w, 9e9, 1.0))
    assert (sweep.highest, sweep.best, sweep.knee) == (None, None, None)
    assert sweep.over == "rate"
    assert "Already 1 req/s" in sweep.reason
