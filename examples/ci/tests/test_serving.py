"""What CI measures: DeepSeek-R1's shape on SGLang.

PERF_ENGINE=sim puts the simulator in SGLang's place, to try a pipeline where there is no engine.
It needs no weights, and whatever it is asked for, every report says "SIMULATED". PERF_MODEL names
another model: a distilled one for pull requests, the full one for the night.
"""

import os

import pytest

ENGINE = os.environ.get("PERF_ENGINE", "sglang")
MODEL = os.environ.get("PERF_MODEL", "toy" if ENGINE == "sim" else "tiny-r1")
ARGS = {"sim": "--ttft-ms 5 --itl-ms 2"}.get(ENGINE, "")

pytestmark = [
    pytest.mark.llm_server(ENGINE, model=MODEL, args=ARGS),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=8, requests=64),
]


@pytest.mark.llm_ceiling(ttft_p50="20 s")
@pytest.mark.llm_no_regression(output_throughput="10%")
def test_many_users(llm_perf):
    run = llm_perf.run()
    assert run.success_rate == 1.0


@pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=1, requests=16)
@pytest.mark.llm_no_regression(tpot_mean="10%")
def test_one_user(llm_perf):
    llm_perf.run()
