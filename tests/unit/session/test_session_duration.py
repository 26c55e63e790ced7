"""How long launches took, and what a plan makes of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pytest_llmperf.records import (
    ClientHealth,
    MetricValue,
    NoiseProfile,
    RegressionGate,
    Run,
    ServerRequest,
    Workload,
)
from pytest_llmperf.session.duration import Pace, mean_span_s, mean_startup_s, pace_of
from pytest_llmperf.session.planning import Asked, Premises, plan_lines

GATE = RegressionGate(metric="output_throughput", loss_to_catch=0.1, allow=0.0, source="t.py:1")
LOAD = Workload(
    name="chat", input_tokens=8, output_tokens=8, concurrency=4, requests=8, warmup_requests=1,
    runs=2,
)  # fmt: skip
SERVER = ServerRequest(engine="sglang", model="m")
PROFILE = NoiseProfile(
    key="k",
    created="2026-11-22T10:00:00+00:00",
    launches=6,
    run_sigma={},
    launch_sigma={},
    pair_sigma={"output_throughput": 0.02},
    pair_df=5,
    startup_s=50.0,
    measure_s=10.0,
)


def planned(
    profile: NoiseProfile | None, budget_s: float | None = None, *, devices: int = 1
) -> str:
    premises = Premises(
        launches=3,
        most_pairs=12,
        family=1,
        family_alpha=0.01,
        assumed_sigma=0.04,
        noise=lambda _request, _workload: profile,
        budget_s=budget_s,
        devices=lambda _: devices,
    )
    against = replace(SERVER, reference=replace(SERVER, args=("--flag",)))
    return "\n".join(
        plan_lines(
            [
                Asked(request=against, workloads=[LOAD], gates={LOAD: [GATE]}),
                Asked(request=SERVER, workloads=[LOAD], gates={}),
            ],
            premises,
        )
    )


def test_a_plan_tells_the_time_by_a_calibration() -> None:
    said = planned(PROFILE)
    # a launch takes a minute
    assert "4 to 12 pairs of launches (10 to 26 launches in all, about 10 to 26 min)" in said
    assert "sglang | m: 3 launches, about 3.0 min" in said


def test_without_a_calibration_no_time_is_told() -> None:
    for unknown in (None, replace(PROFILE, startup_s=None), replace(PROFILE, measure_s=None)):
        assert " min" not in planned(unknown)


def test_devices_are_counted() -> None:
    assert "about 10 to 26 min, 80 to 208 device-minutes" in planned(PROFILE, devices=8)


def test_a_budget_bounds_the_pairs_that_a_plan_reckons_with() -> None:
    assert "4 to 6 pairs of launches (10 to 14 launches in all" in planned(PROFILE, 15 * 60)
    assert "4 to 12 pairs" in planned(PROFILE, 60 * 60)


def test_a_budget_that_is_too_small_is_told() -> None:
    said = planned(PROFILE, 5 * 60)
    assert "NO TIME: a pair of launches takes about 2.0 min, and 4 do not fit into" in said
    assert "--llmperf-budget 5m" in said


def test_workloads_on_one_launch_add_up() -> None:
    pace = pace_of([PROFILE, PROFILE], 1)
    assert pace == Pace(launch_s=70.0)
    assert pace.affordable(600) == 4
    assert pace_of([], 1) is None


HEALTHY = ClientHealth(
    cpu_share=0.1, loop_lag_ms_p99=0.1, loop_lag_ms_max=0.1, peak_rss_bytes=1, mean_in_flight=4
)

# --- what a calibration saw --------------------------------------------------------------------


def run(launch: str, minute: int, seconds: float, startup: float | None) -> Run:
    return Run(
        launch_id=launch,
        index=0,
        seed=0,
        started_at=f"2026-11-22T10:{minute:02}:00+00:00",
        duration_s=seconds,
        valid=True,
        invalid_reasons=(),
        metrics={"startup_time": MetricValue(value=startup)},
        sent=1,
        succeeded=1,
        failed={},
        input_tokens_mean=None,
        output_tokens_mean=None,
        reasoning_tokens_mean=None,
        cached_tokens_total=None,
        token_source=None,
        client=HEALTHY,
    )


@pytest.mark.parametrize(
    ("runs", "startup", "span"),
    [
        ([], None, None),
        ([run("a", 0, 10, None)], None, 10),
        ([run("a", 0, 10, 20), run("a", 1, 10, 20), run("b", 5, 30, 40)], 30, 50),
    ],
)
def test_launches_are_timed(runs: Sequence[Run], startup: float | None, span: float | None) -> None:
    assert mean_startup_s(runs) == startup
    assert mean_span_s(runs) == span
