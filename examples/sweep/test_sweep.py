"""How many users at once? The highest load within limits, searched for on a real server.

``tiny-r1-distill-qwen`` is made on the spot, with the architecture, special tokens and chat
template of DeepSeek-R1's distilled Qwen models. The limits here suit such a model on a laptop's
CPU; with a real model on an accelerator write ``slo="mlperf-r1-interactive"``, and leave
``requests`` and ``runs`` out, so that the 99th percentile has the requests that it needs.
"""

import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="tiny-r1-distill-qwen"),
    pytest.mark.llm_workload("chat", input_tokens=64, output_tokens=32, concurrency=1),
]


def test_users_at_once(llm_perf):
    sweep = llm_perf.sweep(slo={"ttft": "10 s", "tpot": "1 s"}, high=8, requests=32, runs=1)
    assert sweep.highest >= 2, sweep


def test_where_throughput_stops_growing(llm_perf):
    sweep = llm_perf.sweep(values=[1, 2, 4, 8, 16], requests=32, runs=1)
    assert sweep.best.success_rate == 1.0
