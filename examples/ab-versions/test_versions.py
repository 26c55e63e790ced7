"""Is the new version of an engine slower than the one in use? Two environments, one suite."""

import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="tiny-r1-distill-qwen"),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=8, requests=64),
]


@pytest.mark.llm_no_regression(output_throughput="10%", ttft_p50="20%")
def test_chat(llm_perf):
    llm_perf.run()


@pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=1, requests=16)
@pytest.mark.llm_no_regression(tpot_mean="10%")
def test_one_user(llm_perf):
    llm_perf.run()
