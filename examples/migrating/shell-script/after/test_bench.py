"""After: the same load and thresholds, with the address in --llmperf-url.

A p95 takes 200 requests: ten of them lie beyond it then. Of the script's 64 the p99 was about
the slowest one.
"""

import pytest

pytestmark = [
    pytest.mark.llm_server("endpoint", url="http://127.0.0.1:30000"),
    pytest.mark.llm_workload(
        "chat", input_tokens=64, output_tokens=32, concurrency=8, requests=200
    ),
]


@pytest.mark.llm_floor(output_throughput="600 tok/s", success_rate="0.99", remote=True)
@pytest.mark.llm_ceiling(ttft_p95="500 ms", remote=True)
def test_bench(llm_perf):
    llm_perf.run()
