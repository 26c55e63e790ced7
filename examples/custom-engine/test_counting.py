"""A server that nobody else knows, measured and judged like any other."""

import pytest

pytestmark = [
    pytest.mark.llm_server("counting", model="counter", args="--pause-ms 5"),
    pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=24, concurrency=4, requests=32),
]


@pytest.mark.llm_floor(output_throughput="10 tok/s")
@pytest.mark.llm_ceiling(tpot_mean="500 ms")
def test_counts_fast_enough(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0
