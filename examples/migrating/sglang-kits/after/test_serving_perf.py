"""After: the same load and the same limits, and a gate on what the limits leave room for.

"sim" is the simulator; with SGLang it is `llm_server("sglang", model=MODEL, args=...)`.
"""

import pytest

pytestmark = [
    pytest.mark.llm_server("sim", model="toy", args="--ttft-ms 20 --itl-ms 4"),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=8, requests=64),
]


@pytest.mark.llm_floor(output_throughput="1200 tok/s", on="H200")
@pytest.mark.llm_floor(output_throughput="1000 tok/s", on="MI300X")
@pytest.mark.llm_floor(output_throughput="600 tok/s", on="cpu")
@pytest.mark.llm_ceiling(ttft_p50="100 ms", on="H200")
@pytest.mark.llm_ceiling(ttft_p50="120 ms", on="MI300X")
@pytest.mark.llm_ceiling(ttft_p50="500 ms", on="cpu")
def test_within_limits(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0


@pytest.mark.llm_no_regression(output_throughput="5%", ttft_p50="20%")
def test_no_slower_than_before(llm_perf):
    llm_perf.run()
