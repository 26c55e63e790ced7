"""What the sequences ask of the server: loads that differ in one token, and so can be told apart
inside the server by the plugin that slows its step."""

from __future__ import annotations

import os

import pytest

SLOW_STEP = os.environ.get("LLMPERF_SLOW_STEP_PATH", "")
# A share of a step that costs this much of the throughput: 1 / (1 + share) = 1 - loss.
TEN, FIVE = 1 / 0.90 - 1, 1 / 0.95 - 1
UNCHANGED, TEN_SLEEPS, TEN_COMPUTES, FIVE_SLEEPS, FIVE_COMPUTES = range(48, 53)
PLANTED = {
    TEN_SLEEPS: f"sleep:{TEN:.4f}",
    TEN_COMPUTES: f"compute:{TEN:.4f}",
    FIVE_SLEEPS: f"sleep:{FIVE:.4f}",
    FIVE_COMPUTES: f"compute:{FIVE:.4f}",
}
#: Neither the weights nor what is said matter to a step's time.
ARGS = "--load-format dummy"
#: One thread: a step is too small to share, and threads that wait for each other are noise.
ENV = {"OMP_NUM_THREADS": "1"}


def planted() -> dict[str, str]:
    """The environment of a server whose step is slow for some of the loads."""
    spec = " ".join(f"{tokens}={how}" for tokens, how in PLANTED.items())
    return {**ENV, "PYTHONPATH": SLOW_STEP, "LLMPERF_SLOW_STEP": spec}


def load(output_tokens: int) -> pytest.MarkDecorator:
    """Eight users, some seconds on one core."""
    return pytest.mark.llm_workload(
        "chat",
        input_tokens=32,
        output_tokens=output_tokens,
        length_spread=0,
        concurrency=8,
        requests=16,
        warmup_requests=8,
    )
