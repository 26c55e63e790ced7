"""Two servers that run already, somewhere: is the one slower than the other?"""

import pytest

pytestmark = [
    pytest.mark.llm_server(
        "endpoint",
        url="http://127.0.0.1:30000",
        reference={"url": "http://127.0.0.1:30001"},
    ),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=8, requests=64),
]


@pytest.mark.llm_no_regression(output_throughput="5%", ttft_p50="20%")
def test_chat(llm_perf):
    llm_perf.run()
