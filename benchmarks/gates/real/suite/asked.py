"""What the sequences ask of the server: loads that differ in one token, and so can be told apart
inside the server by the plugin that slows its step."""

from __future__ import annotations

import os

import pytest

SLOW_STEP = os.environ.get("LLMPERF_SLOW_STEP_PATH", "")
MODEL = "small-r1-distill-qwen"
#: Output tokens, one of them for each thing that is done to the step.
UNCHANGED, ALSO_UNCHANGED, TEN_PERCENT, FIVE_PERCENT = range(24, 28)
#: Neither the weights nor what is said matter to a step's time.
ARGS = "--load-format dummy"
#: One thread: a step is too small to share, and threads that wait for each other are noise.
ENV = {"OMP_NUM_THREADS": "1"}


def slowed(how: str) -> pytest.MarkDecorator:
    """A server whose step is slow for two of the loads, by sleeping or computing, and the same
    without."""
    # A share of a step that costs this much of the throughput: 1 / (1 + share) = 1 - loss.
    shares = {TEN_PERCENT: 1 / 0.90 - 1, FIVE_PERCENT: 1 / 0.95 - 1}
    spec = " ".join(f"{tokens}={how}:{share:.4f}" for tokens, share in shares.items())
    slow = {**ENV, "PYTHONPATH": SLOW_STEP, "LLMPERF_SLOW_STEP": spec}
    return pytest.mark.llm_server(
        "sglang", model=MODEL, args=ARGS, env=slow, reference={"env": ENV}
    )


def load(output_tokens: int) -> pytest.MarkDecorator:
    """Eight users at once, about a second on one core: runs of two servers that take turns are so
    near to each other that both mostly meet the same machine."""
    return pytest.mark.llm_workload(
        "chat",
        input_tokens=32,
        output_tokens=output_tokens,
        length_spread=0,
        concurrency=8,
        requests=8,
        warmup_requests=8,
    )
