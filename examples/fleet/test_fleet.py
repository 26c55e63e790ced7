"""One suite for every kind of accelerator: what holds everywhere, and what is one kind's alone."""

import os

import pytest

SLOW = os.environ.get("PRETEND") == "older"
pytestmark = pytest.mark.llm_server("sim", model="m", args=f"--itl-ms {4 if SLOW else 2}")
CHAT = pytest.mark.llm_workload(
    "chat", input_tokens=32, output_tokens=32, concurrency=4, requests=32
)


@CHAT
@pytest.mark.llm_floor(output_throughput="50 tok/s")
def test_everywhere(llm_perf):
    llm_perf.run()


@pytest.mark.skipif(SLOW, reason="needs the newer kind")
@CHAT
@pytest.mark.llm_ceiling(tpot_mean="1 s")
def test_on_the_newer_kind(llm_perf):
    llm_perf.run()
