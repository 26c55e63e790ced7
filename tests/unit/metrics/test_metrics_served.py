"""What the server's counters say about a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_llmperf.engines.counters import Counters
from pytest_llmperf.metrics.served import accept_length, cache_hit_rate, server_metrics
from pytest_llmperf.records import ClientHealth, MetricValue, Run

RUN = Run(
    launch_id="L",
    index=0,
    seed=0,
    started_at="",
    duration_s=1.0,
    valid=True,
    invalid_reasons=(),
    metrics={},
    sent=5,
    succeeded=4,
    failed={"cut": 1},
    input_tokens_mean=100.0,
    output_tokens_mean=10.0,
    reasoning_tokens_mean=None,
    cached_tokens_total=120,
    token_source="usage",
    client=ClientHealth(
        cpu_share=0.1,
        loop_lag_ms_p99=None,
        loop_lag_ms_max=None,
        peak_rss_bytes=1,
        mean_in_flight=None,
    ),
)
GROWTH = Counters(
    requests=4, prompt_tokens=400, cached_tokens=100, output_tokens=44, drafting_steps=16
)


def values(growth: Counters | None, run: Run = RUN) -> tuple[float | None, float | None]:
    found = server_metrics(growth, run)
    return found["accept_length"].value, found["cache_hit_rate"].value


def test_the_prompts_own_token_is_no_draft() -> None:
    # Four requests of eleven tokens: one each by the prompt's pass, ten by four steps.
    assert accept_length(GROWTH) == 2.5


def test_where_accepted_drafts_are_counted_the_steps_own_token_is_added() -> None:
    assert accept_length(replace(GROWTH, accepted_tokens=24)) == 2.5


@pytest.mark.parametrize("changed", [{"drafting_steps": 0}, {"drafting_steps": None}])
def test_without_drafts_there_is_no_length(changed: dict[str, float | None]) -> None:
    assert accept_length(replace(GROWTH, **changed)) is None
    assert accept_length(replace(GROWTH, output_tokens=None)) is None


def test_hits_are_a_share_of_all_prompt_tokens() -> None:
    assert cache_hit_rate(GROWTH) == 0.25
    assert cache_hit_rate(replace(GROWTH, prompt_tokens=0)) is None
    assert cache_hit_rate(replace(GROWTH, cached_tokens=None)) is None


def test_the_counters_go_before_what_answers_reported() -> None:
    assert values(GROWTH) == (2.5, 0.25)
    assert values(None) == (None, 0.3)
    assert values(None, replace(RUN, cached_tokens_total=None)) == (None, None)
    assert values(None, replace(RUN, input_tokens_mean=None)) == (None, None)


def test_no_hits_are_a_measured_zero() -> None:
    assert server_metrics(replace(GROWTH, cached_tokens=0), RUN)["cache_hit_rate"] == MetricValue(
        value=0.0
    )
