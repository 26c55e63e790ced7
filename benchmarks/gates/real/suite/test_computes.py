"""Losses planted inside SGLang's step, which computes longer; compared with SGLang as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asked import FIVE_PERCENT, TEN_PERCENT, load, slowed

if TYPE_CHECKING:
    from pytest_llmperf import LlmPerf

pytestmark = slowed("compute")


@load(TEN_PERCENT)
@pytest.mark.llm_no_regression(output_throughput="10%", e2e_mean="10%")
def test_ten_percent(llm_perf: LlmPerf) -> None:
    llm_perf.run()


@load(FIVE_PERCENT)
@pytest.mark.llm_no_regression(output_throughput="5%", e2e_mean="5%")
def test_five_percent(llm_perf: LlmPerf) -> None:
    llm_perf.run()
