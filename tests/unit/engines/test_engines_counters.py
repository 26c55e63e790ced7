"""Counters read from metrics pages as SGLang 0.5.23 and vLLM 0.32 print them."""

from __future__ import annotations

import pytest

from pytest_llmperf.engines.counters import (
    LLAMACPP,
    SGLANG,
    VLLM,
    CounterNames,
    Counters,
    grown,
    read_counters,
)
from pytest_llmperf.engines.endpoint import Endpoint
from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.engines.sim import Sim

_OF = 'engine_type="unified",model_name="m"'
SGLANG_PAGE = f"""\
# HELP sglang:prompt_tokens_total Number of prefill tokens processed.
# TYPE sglang:prompt_tokens_total counter
sglang:prompt_tokens_total{{{_OF},is_streaming="true"}} 4096.0
sglang:prompt_tokens_total{{{_OF},is_streaming="false"}} 24.0
# HELP sglang:generation_tokens_total Number of generation tokens processed.
# TYPE sglang:generation_tokens_total counter
sglang:generation_tokens_total{{{_OF},is_streaming="true"}} 1024.0
# HELP sglang:spec_verify_calls_total Number of speculative decoding verification calls.
# TYPE sglang:spec_verify_calls_total counter
# HELP sglang:cached_tokens_total Number of cached prompt tokens by source (device/host/storage).
# TYPE sglang:cached_tokens_total counter
sglang:cached_tokens_total{{cache_source="device",{_OF}}} 100.0
sglang:cached_tokens_total{{cache_source="host",{_OF}}} 28.0
# HELP sglang:num_requests_total Number of requests processed.
# TYPE sglang:num_requests_total counter
sglang:num_requests_total{{{_OF},is_streaming="true"}} 4.0
sglang:num_requests_total{{{_OF},is_streaming="false"}} 2.0
# HELP sglang:cache_hit_rate The prefix cache hit rate.
# TYPE sglang:cache_hit_rate gauge
sglang:cache_hit_rate{{{_OF},tp_rank="0"}} NaN
"""
VLLM_PAGE = """\
# HELP vllm:prefix_cache_queries_total Prefix cache queries, in terms of number of queried tokens.
# TYPE vllm:prefix_cache_queries_total counter
vllm:prefix_cache_queries_total{engine="0",model_name="m"} 2.5e+06
# TYPE vllm:prefix_cache_queries_created gauge
vllm:prefix_cache_queries_created{engine="0",model_name="m"} 1.7e+09
# TYPE vllm:prefix_cache_hits_total counter
vllm:prefix_cache_hits_total{engine="0",model_name="m"} 500000.0
# TYPE vllm:generation_tokens_total counter
vllm:generation_tokens_total{engine="0",model_name="m"} 300.0
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 1.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 9.0
vllm:request_success_total{engine="0",finished_reason="abort",model_name="m"} 0.0
# TYPE vllm:spec_decode_num_drafts_total counter
vllm:spec_decode_num_drafts_total{engine="0",model_name="m"} 100.0
# TYPE vllm:spec_decode_num_accepted_tokens_total counter
vllm:spec_decode_num_accepted_tokens_total{engine="0",model_name="m"} 150.0
"""


def test_sglangs_page_is_summed_over_labels_and_what_never_counted_is_zero() -> None:
    assert read_counters(SGLANG_PAGE, SGLANG) == Counters(
        requests=6,
        prompt_tokens=4120,
        cached_tokens=128,
        output_tokens=1024,
        drafting_steps=0,
        accepted_tokens=None,
    )


def test_vllms_page() -> None:
    assert read_counters(VLLM_PAGE, VLLM) == Counters(
        requests=10,
        prompt_tokens=2_500_000,
        cached_tokens=500_000,
        output_tokens=300,
        drafting_steps=100,
        accepted_tokens=150,
    )


@pytest.mark.parametrize(
    "page", ["", "<html>not here</html>", "sglang:prompt_tokens_total 4\n", "a{b 1"]
)
def test_a_page_that_counts_no_requests_tells_nothing(page: str) -> None:
    assert read_counters(page, SGLANG) is None


def test_what_is_not_finite_is_not_counted() -> None:
    page = "r 1\nt{a='x'} NaN\nt{a=\"y\"} 2\n".replace("'", '"')
    found = read_counters(page, CounterNames(requests="r", output_tokens="t"))
    assert found == Counters(requests=1, output_tokens=2)


def test_without_a_count_of_requests_what_is_missing_is_unknown() -> None:
    page = "llamacpp:prompt_tokens_total 30\nllamacpp:tokens_predicted_total 7\n"
    assert read_counters(page, LLAMACPP) == Counters(requests=None, output_tokens=7)
    cached = f"{page}llamacpp:prompt_tokens_cached_total 10\n"
    assert read_counters(cached, LLAMACPP) == Counters(
        requests=None, prompt_tokens=40, cached_tokens=10, output_tokens=7
    )


def test_growth_is_the_difference_of_every_counter_that_is_known_twice() -> None:
    before = Counters(requests=1, prompt_tokens=10, drafting_steps=None, output_tokens=5)
    after = Counters(requests=4, prompt_tokens=40, drafting_steps=7, output_tokens=None)
    assert grown(before, after) == Counters(requests=3, prompt_tokens=30)


@pytest.mark.parametrize("name", ["requests", "cached_tokens"])
def test_a_counter_that_fell_means_another_server(name: str) -> None:
    high = {"requests": 9.0, "cached_tokens": 9.0}
    assert grown(Counters(**high), Counters(**high)) is not None
    assert grown(Counters(**high), Counters(**{**high, name: 8.0})) is None


def test_engines_with_counters_say_where_they_are() -> None:
    assert (SGLang({}).counters, SGLang({}).metrics_path) == (SGLANG, "/metrics")
    assert (Sim().counters, Sim().metrics_path) == (SGLANG, "/metrics")
    assert (Endpoint().counters, Endpoint().metrics_path) == (None, None)
