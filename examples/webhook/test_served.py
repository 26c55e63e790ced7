"""Two limits that any machine meets; put your own in their place."""

import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="tiny-r1-distill-qwen"),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=4, requests=24),
]


@pytest.mark.llm_floor(output_throughput="1 tok/s")
@pytest.mark.llm_ceiling(ttft_p50="20 s")
def test_chat(llm_perf):
    llm_perf.run()
