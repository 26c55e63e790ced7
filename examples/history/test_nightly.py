"""Every night the same measurement, remembered, and judged by an accepted level."""

import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="tiny-r1-distill-qwen"),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=8, requests=64),
]


@pytest.mark.llm_no_regression(output_throughput="20%", tpot_mean="20%")
def test_chat(llm_perf):
    llm_perf.run()
