"""DeepSeek-R1 at full size over two nodes of eight devices, and a model that one device holds.

PERF_ENGINE and PERF_MODEL put another engine and model in their place, PERF_ARGS other arguments.
"""

import os

import pytest

ENGINE = os.environ.get("PERF_ENGINE", "sglang")
R1 = os.environ.get("PERF_MODEL", "deepseek-ai/DeepSeek-R1-0528")
DISTILLED = os.environ.get("PERF_MODEL", "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B")
REASONING = pytest.mark.llm_workload(
    "reasoning", input_tokens=256, output_tokens=512, concurrency=16, requests=64
)


@pytest.mark.llm_server(ENGINE, model=DISTILLED)
@REASONING
@pytest.mark.llm_no_regression(output_throughput="10%")
def test_one_device(llm_perf):
    llm_perf.run()


@pytest.mark.llm_server(
    ENGINE, model=R1, nodes=2, args=os.environ.get("PERF_ARGS", "--tp 16"), timeout=3600
)
@REASONING
@pytest.mark.llm_no_regression(output_throughput="10%")
@pytest.mark.llm_ceiling(ttft_p50="20 s", remote=True)
def test_two_nodes(llm_perf):
    llm_perf.run()
