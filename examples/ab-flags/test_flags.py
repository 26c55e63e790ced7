"""What does a server flag cost? SGLang with the flag against SGLang without it.

``--max-running-requests 15`` makes one of sixteen users wait for the next turn, always: 240
requests take sixteen turns instead of fifteen, on any machine. Both are launched again and again.
"""

import pytest

pytestmark = [
    pytest.mark.llm_server(
        "sglang",
        model="tiny-r1-distill-qwen",
        args="--max-running-requests 15",
        reference={"args": ""},
    ),
    pytest.mark.llm_workload(
        "chat", input_tokens=64, output_tokens=32, concurrency=16, requests=240, runs=2
    ),
]


@pytest.mark.llm_no_regression(output_throughput="5%")
def test_throughput(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0
