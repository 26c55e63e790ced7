"""SGLang compared with itself: two loads, four gates each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from asked import ALSO_UNCHANGED, ARGS, ENV, MODEL, UNCHANGED, load

if TYPE_CHECKING:
    from pytest_llmperf import LlmPerf

pytestmark = [
    pytest.mark.llm_server(
        "sglang", model=MODEL, args=ARGS, env=ENV, reference={"args": ARGS, "env": ENV}
    ),
    pytest.mark.llm_no_regression(
        output_throughput="20%", tpot_mean="20%", e2e_mean="20%", ttft_mean="40%"
    ),
]


@load(UNCHANGED)
def test_one_load(llm_perf: LlmPerf) -> None:
    llm_perf.run()


@load(ALSO_UNCHANGED)
def test_another_load(llm_perf: LlmPerf) -> None:
    llm_perf.run()
