"""Losses planted inside SGLang's step, each compared with SGLang as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asked import (
    ARGS,
    ENV,
    FIVE_COMPUTES,
    FIVE_SLEEPS,
    TEN_COMPUTES,
    TEN_SLEEPS,
    UNCHANGED,
    load,
    planted,
)

if TYPE_CHECKING:
    from pytest_llmperf import LlmPerf

pytestmark = pytest.mark.llm_server(
    "sglang", model="small-r1-distill-qwen", args=ARGS, env=planted(), reference={"env": ENV}
)


@load(UNCHANGED)
@pytest.mark.llm_no_regression(
    output_throughput="10%", tpot_mean="10%", e2e_mean="10%", ttft_mean="20%"
)
def test_unchanged(llm_perf: LlmPerf) -> None:
    llm_perf.run()


@load(TEN_SLEEPS)
@pytest.mark.llm_no_regression(output_throughput="10%")
def test_ten_percent_by_sleeping(llm_perf: LlmPerf) -> None:
    llm_perf.run()


@load(TEN_COMPUTES)
@pytest.mark.llm_no_regression(output_throughput="10%")
def test_ten_percent_by_computing(llm_perf: LlmPerf) -> None:
    llm_perf.run()


@load(FIVE_SLEEPS)
@pytest.mark.llm_no_regression(output_throughput="5%")
def test_five_percent_by_sleeping(llm_perf: LlmPerf) -> None:
    llm_perf.run()


@load(FIVE_COMPUTES)
@pytest.mark.llm_no_regression(output_throughput="5%")
def test_five_percent_by_computing(llm_perf: LlmPerf) -> None:
    llm_perf.run()
