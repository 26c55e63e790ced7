"""Does this branch of an engine make it slower? The checkout against its merge base."""

import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="tiny-r1-distill-qwen"),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=8, requests=64),
]


@pytest.mark.llm_no_regression(output_throughput="10%", tpot_mean="10%")
def test_chat(llm_perf):
    llm_perf.run()
