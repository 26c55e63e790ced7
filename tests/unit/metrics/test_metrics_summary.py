"""Passes reduced to runs: values, failures, directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.summary import (
    SINGLE,
    Reduction,
    reduce_pass,
    standard_names,
)
from pytest_llmperf.metrics.units import METRICS, STANDARD_STATISTICS
from pytest_llmperf.records import (
    Chunk,
    Chunks,
    ClientHealth,
    MetricValue,
    Pass,
    RequestRecord,
    Run,
    Slo,
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
WORKLOAD = Workload(
    name="tiny",
    input_tokens=10,
    output_tokens=4,
    concurrency=2,
    requests=4,
    warmup_requests=1,
    runs=1,
    slo=(Slo(metric="ttft", limit_ms=1000),),
)


def request(
    index: int,
    *,
    ttft_ms: float = 100,
    gap_ms: float = 10,
    slow: float = 1.0,
    failure: str | None = None,
    answers: bool = True,
    **more: Any,
) -> RequestRecord:
    """Four tokens: two of reasoning, two of answer; ``slow`` stretches every time."""
    start = round(index * 50 * slow * MS)
    tokens = 0 if failure else 4
    chunks = Chunks.of(
        Chunk(
            at_ns=start + round((ttft_ms + position * gap_ms) * slow * MS),
            kind="answer" if position >= 2 and answers else "reasoning",
            characters=3,
            cumulative_tokens=position + 1,
        )
        for position in range(tokens)
    )
    record = RequestRecord(
        index=index,
        written_ns=start,
        ended_ns=start + round(500 * slow * MS),
        status=200,
        failure=failure,
        finish_reason=None if failure else "length",
        prompt_tokens=None if failure else 10,
        cached_tokens=0,
        output_tokens=tokens,
        reasoning_tokens=2,
        token_source="usage",
        chunks=chunks,
        scheduled_ns=start,
        asked_input=10,
    )
    return replace(record, **more)


def a_pass(records: Sequence[RequestRecord], client: ClientHealth = HEALTHY) -> Pass:
    return Pass(
        seed=1, started_at="2026-01-01T00:00:00+00:00", started_ns=0, records=tuple(records),
        client=client,
    )  # fmt: skip


def reduced(
    records: Sequence[RequestRecord], *, devices: int = 1, workload: Workload = WORKLOAD
) -> Run:
    return reduce_pass(a_pass(records), workload=workload, launch_id="L1", index=0, devices=devices)


def value(run: Run, name: str) -> float:
    found = run.metrics[name].value
    assert found is not None, name
    return found


# --- values


def test_a_run_carries_every_metric_of_the_table_with_the_standard_statistics() -> None:
    run = reduced([request(index) for index in range(40)])
    wanted = {
        name if not metric.per_request else f"{name}_{statistic}"
        for name, metric in METRICS.items()
        for statistic in (STANDARD_STATISTICS if metric.per_request else ("",))
        if metric.source == "requests"
    }
    assert set(run.metrics) == wanted == set(standard_names())
    assert all(each.value is not None for each in run.metrics.values())


def test_the_values_are_those_of_the_definitions() -> None:
    run = reduced([request(0), request(1, ttft_ms=140)], devices=2)
    # first written at 0, last token of the second at 50 + 140 + 30 = 220 ms
    assert run.duration_s == pytest.approx(0.220)
    assert value(run, "output_throughput") == pytest.approx(8 / 0.220)
    assert value(run, "total_throughput") == pytest.approx(28 / 0.220)
    assert value(run, "request_throughput") == pytest.approx(2 / 0.220)
    assert value(run, "throughput_per_accelerator") == pytest.approx(4 / 0.220)
    assert value(run, "throughput_per_user") == pytest.approx(100)
    assert value(run, "ttft_mean") == pytest.approx(120)
    assert value(run, "ttft_max") == pytest.approx(140)
    assert value(run, "ttfat_mean") == pytest.approx(140)
    assert value(run, "tpot_p95") == pytest.approx(10)
    assert value(run, "e2e_mean") == pytest.approx(150)
    assert value(run, "success_rate") == 1.0
    assert (run.sent, run.succeeded, run.failed) == (2, 2, {})
    assert (run.input_tokens_mean, run.output_tokens_mean) == (10, 4)
    assert (run.reasoning_tokens_mean, run.cached_tokens_total) == (2, 0)
    assert run.token_source == "usage"
    assert run.valid


#: Shares of requests or of rates: the same at any speed, as long as it stays the same.
SCALE_FREE = {"success_rate", "goodput_share", "throughput_retention"}


@pytest.mark.parametrize("name", sorted(standard_names()))
def test_twice_as_slow_moves_every_metric_the_way_its_direction_says(name: str) -> None:
    before = reduced([request(index) for index in range(40)])
    after = reduced([request(index, slow=2.0) for index in range(40)])
    base = name if name in METRICS else name.rpartition("_")[0]
    if base in SCALE_FREE:
        assert value(after, name) == value(before, name)
    elif METRICS[base].direction == "lower":
        assert value(after, name) == pytest.approx(2 * value(before, name))
    else:
        assert value(after, name) == pytest.approx(value(before, name) / 2)


@pytest.mark.parametrize("name", sorted(SCALE_FREE))
def test_what_is_the_same_at_any_speed_falls_when_it_gets_worse(name: str) -> None:
    assert METRICS[name].direction == "higher"
    good = [request(index) for index in range(40)]
    # The last third answers late, too late for the objective, and then not at all.
    bad = [
        request(index, ttft_ms=1200 if index > 26 else 100, failure="cut" if index > 36 else None)
        for index in range(40)
    ]
    assert value(reduced(bad), name) < value(reduced(good), name)


def test_a_failure_lowers_the_success_rate() -> None:
    run = reduced([request(0), request(1, failure="cut")])
    assert value(run, "success_rate") == 0.5


# --- goodput


def with_slo(*slo: Slo) -> Workload:
    return replace(WORKLOAD, slo=slo)


def test_good_is_what_meets_every_objective() -> None:
    records = [request(0), request(1, ttft_ms=300), request(2, gap_ms=40), request(3)]
    strict = with_slo(Slo(metric="ttft", limit_ms=200), Slo(metric="tpot", limit_ms=10))
    run = reduced(records, workload=strict)
    assert value(run, "goodput_share") == 0.5
    assert value(run, "goodput") == pytest.approx(value(run, "request_throughput") / 2)


def test_failed_requests_and_those_without_the_metric_are_not_good() -> None:
    run = reduced(
        [request(0), request(1, failure="cut"), request(2, answers=False), request(3)],
        workload=with_slo(Slo(metric="ttfat", limit_ms=1e9)),
    )
    assert value(run, "goodput_share") == 0.5


def test_without_objectives_there_is_no_goodput() -> None:
    run = reduced([request(0)], workload=with_slo())
    assert run.metrics["goodput"] == run.metrics["goodput_share"] == MetricValue(value=None)


def test_an_objective_for_what_a_request_has_many_of_is_a_mistake() -> None:
    with pytest.raises(UsageMistake, match="'itl' is no number of one request"):
        reduced([request(0)], workload=with_slo(Slo(metric="itl", limit_ms=1)))


# --- where something is missing


def test_a_closed_loop_has_no_schedule() -> None:
    run = reduced([request(index, scheduled_ns=None) for index in range(4)])
    failed = reduced([request(0, scheduled_ns=None, failure="cut")])
    for name in ("ttft_from_schedule_p50", "ttfat_from_schedule_max", "e2e_from_schedule_mean"):
        assert run.metrics[name] == failed.metrics[name] == MetricValue(value=None)
    assert failed.metrics["e2e_mean"].unbounded


def test_responses_in_one_piece_have_only_their_end() -> None:
    run = reduced([request(index, streamed=False) for index in range(40)])
    missing = {name for name, each in run.metrics.items() if each.value is None}
    assert {name.rpartition("_")[0] for name in missing} == {
        *(name for name in SINGLE if not name.startswith("e2e")),
        *("itl", "icl", "steady_output", "throughput", "throughput_per"),
    }
    assert value(run, "e2e_mean") == 500
    assert value(run, "e2e_from_schedule_p99") == 500
    assert value(run, "output_throughput") == pytest.approx(160 / (39 * 0.05 + 0.5))


def test_without_a_workload_what_depends_on_it_is_not_measured() -> None:
    measured = a_pass([request(index) for index in range(40)])
    for name in ("goodput", "steady_output_throughput", "throughput_retention"):
        assert Reduction(measured).value(name) == MetricValue(value=None)
        assert Reduction(measured, workload=WORKLOAD).value(name).value is not None


def test_no_time_at_all_gives_no_rate() -> None:
    at_once = request(0, ttft_ms=0, gap_ms=0)
    run = reduced([at_once])
    assert run.duration_s == 0
    for name in ("output_throughput", "request_throughput", "throughput_per_user", "goodput"):
        assert run.metrics[name] == MetricValue(value=None), name
    assert value(run, "ttft_mean") == 0


# --- failures


def test_failed_requests_are_infinitely_late_and_bring_no_tokens() -> None:
    clean = reduced([request(index) for index in range(10)])
    run = reduced([request(index, failure="cut" if index == 4 else None) for index in range(10)])
    assert run.failed == {"cut": 1}
    assert run.metrics["ttft_p50"] == MetricValue(value=100.0, failed=1)
    for name in ("ttft_p95", "ttft_max", "ttft_mean", "e2e_p99", "tpot_p99", "itl_p99", "icl_mean"):
        assert run.metrics[name] == MetricValue(value=None, unbounded=True, failed=1), name
    assert value(run, "output_throughput") == pytest.approx(value(clean, "output_throughput") * 0.9)
    assert value(run, "throughput_per_user") == pytest.approx(90)


def test_when_every_request_failed_throughput_is_zero_and_latency_unbounded() -> None:
    run = reduced([request(index, failure="http_500") for index in range(3)])
    assert value(run, "output_throughput") == 0.0
    assert value(run, "success_rate") == 0.0
    assert value(run, "throughput_per_user") == 0.0
    assert run.metrics["ttft_p50"] == MetricValue(value=None, unbounded=True, failed=3)
    assert run.metrics["itl_mean"].unbounded
    assert (run.input_tokens_mean, run.token_source) == (None, None)


def test_a_pass_without_requests_measured_nothing() -> None:
    run = reduced([])
    assert {each.value for each in run.metrics.values()} == {None}
    assert not any(each.unbounded for each in run.metrics.values())


def test_a_request_that_never_answered_is_late_in_ttfat_only() -> None:
    run = reduced([request(0), request(1), request(2, answers=False)])
    assert run.metrics["ttfat_p99"].unbounded
    assert value(run, "ttfat_p50") == pytest.approx(120)
    assert value(run, "ttft_p99") == pytest.approx(100)


def test_where_nobody_answers_ttfat_is_not_measured() -> None:
    run = reduced([request(index, answers=False) for index in range(3)])
    assert run.metrics["ttfat_p99"] == MetricValue(value=None)


def test_unknown_prompt_tokens_leave_total_throughput_unmeasured() -> None:
    run = reduced([replace(request(0), prompt_tokens=None)])
    assert run.metrics["total_throughput"] == MetricValue(value=None)
    assert run.metrics["output_throughput"].value is not None


# --- on demand


def test_any_statistic_can_be_had_by_name() -> None:
    measured = a_pass([request(index, ttft_ms=100 + index) for index in range(100)])
    assert Reduction(measured).value("ttft_p75").value == pytest.approx(175)
    assert Reduction(measured).value("ttft_p999").value == pytest.approx(199)
    assert Reduction(measured).value("startup_time") == MetricValue(value=None)
    with pytest.raises(UsageMistake, match="ttft_p95"):
        Reduction(measured).value("tftt_p95")


def test_extra_statistics_are_added_to_the_run() -> None:
    run = reduce_pass(
        a_pass([request(0)]),
        workload=WORKLOAD,
        launch_id="L1",
        index=0,
        devices=1,
        extra=["ttft_p999", "ttft_from_schedule_p99", "startup_time", "accept_length"],
    )
    assert {"ttft_p999", "ttft_from_schedule_p99"} <= set(run.metrics)
    assert not {"startup_time", "accept_length"} & set(run.metrics)


def test_an_invalid_run_still_shows_its_metrics() -> None:
    run = reduce_pass(
        a_pass([request(0)], replace(HEALTHY, cpu_share=1.0)),
        workload=WORKLOAD,
        launch_id="L1",
        index=2,
        devices=1,
    )
    assert not run.valid
    assert run.index == 2
    assert value(run, "output_throughput") > 0
