"""What docs/testing.md says our load client calls each fault is what it calls it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pytest_llmperf.load.client import LoadClient, Target
from pytest_llmperf.records import TokenizeCall, Workload
from pytest_llmperf.testing import FAULTS, FakeServer, Fault, Script

TEXT = (Path(__file__).parents[3] / "docs" / "testing.md").read_text(encoding="utf-8")
TOKENIZE = TokenizeCall(path="/tokenize", text_field="prompt", tokens_field="tokens")
TOKENS = 8
WORKLOAD = Workload(
    name="tiny",
    input_tokens=24,
    output_tokens=TOKENS,
    concurrency=1,
    requests=4,
    warmup_requests=0,
    runs=1,
    request_timeout_s=1.0,
)


def said_of(fault: str) -> str | None:
    """The last cell of the fault's row; ``None`` for a success."""
    (row,) = re.findall(rf"^\| `{fault}` \|.*\| ([^|]+) \|$", TEXT, re.MULTILINE)
    if row.startswith("success"):
        return None
    return str(row).strip("`")


def requests_to_prepare() -> int:
    """Generation requests that a client sends before the measured ones."""
    with FakeServer(Script(ttft_ms=1, itl_ms=0.2)) as server:
        with LoadClient(Target(url=server.url, model="sim", tokenize=TOKENIZE)) as client:
            client.prepare(WORKLOAD)
        return len(server.truth)


@pytest.fixture(scope="module")
def spared() -> int:
    return requests_to_prepare()


@pytest.mark.parametrize("fault", FAULTS)
def test_the_verdict_is_the_one_that_is_documented(fault: Fault, spared: int) -> None:
    script = Script(ttft_ms=1, itl_ms=0.2, fault=fault, fault_from=spared, fault_every=2)
    with FakeServer(script) as server:
        with LoadClient(Target(url=server.url, model="sim", tokenize=TOKENIZE)) as client:
            records = client.measure(WORKLOAD, 1).records
        truth = server.truth[spared:]
    assert [each.fault for each in truth] == [None, fault, None, fault]
    verdict = said_of(fault)
    assert [record.failure for record in records] == [None, verdict, None, verdict]
    assert [record.output_tokens for record in records if record.ok] == [
        each.tokens for each, record in zip(truth, records, strict=True) if record.ok
    ]
