"""A load that is over in a moment, and what a server saw of it."""

from __future__ import annotations

from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.records import Pass, TokenizeCall, Workload
from pytest_llmperf.testing import FakeServer

TOKENIZE = TokenizeCall(path="/tokenize", text_field="prompt", tokens_field="tokens")
TINY = Workload(
    name="tiny",
    input_tokens=24,
    output_tokens=8,
    concurrency=4,
    requests=12,
    warmup_requests=3,
    runs=1,
    request_timeout_s=120,
)


def target(server: FakeServer) -> Target:
    return Target(url=server.url, model="sim", tokenize=TOKENIZE)


def measured(
    client: LoadClient, server: FakeServer, workload: Workload
) -> tuple[Pass, list[int], int]:
    """A pass, the digests of the prompts that the server got for it, and the tokens it sent."""
    client.warm_up(workload, 1)
    before = len(server.truth)
    pass_ = client.measure(workload, 1)
    truth = server.truth[before:]
    return pass_, sorted(each.digest for each in truth), sum(each.tokens for each in truth)
