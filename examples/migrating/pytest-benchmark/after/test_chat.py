"""After: one user, and sixteen at once, which one request after the other never shows.

"sim" is the simulator, and launches of it differ by 5 %; with SGLang it is
`llm_server("sglang", model=MODEL)`.
"""

import pytest

pytestmark = pytest.mark.llm_server(
    "sim", model="toy", args="--ttft-ms 20 --itl-ms 4 --launch-cv 0.05"
)


@pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=1, requests=20)
@pytest.mark.llm_no_regression(e2e_mean="10%")
def test_one_user(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0


@pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=16, requests=96)
@pytest.mark.llm_no_regression(output_throughput="10%")
def test_many_users(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0
