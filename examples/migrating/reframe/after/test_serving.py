"""After: a floor and a ceiling for each accelerator, as ReFrame's `reference` has them.

A lower bound of -5 % below 1,300 tok/s is 1,235; an upper one of +20 % on 50 ms is 60. "sim" is
the simulator; with SGLang it is `llm_server("sglang", model=MODEL)`.
"""

import pytest

pytestmark = [
    pytest.mark.llm_server("sim", model="toy", args="--ttft-ms 20 --itl-ms 4"),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=8, requests=64),
]


@pytest.mark.llm_floor(output_throughput="1235 tok/s", on="H200")
@pytest.mark.llm_floor(output_throughput="1045 tok/s", on="MI300X")
@pytest.mark.llm_ceiling(ttft_p50="60 ms", on="H200")
@pytest.mark.llm_ceiling(ttft_p50="72 ms", on="MI300X")
def test_serving(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0
