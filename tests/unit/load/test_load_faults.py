"""Every scripted fault, over every API, streamed and not, against what the server knows."""

from __future__ import annotations

import asyncio
import tempfile
from functools import cache

import pytest

from pytest_llmperf import clock
from pytest_llmperf.load.merge import merged
from pytest_llmperf.load.messages import Failed, Finished, Go, OpenTarget, Prepare, Ready, Start
from pytest_llmperf.load.read.spill import SpillWriter
from pytest_llmperf.load.worker import Worker
from pytest_llmperf.records import Api, RequestRecord, Workload
from pytest_llmperf.testing import FAULTS, FakeServer, Fault, Script, Truth

TOKENS = 8
APIS: tuple[Api, ...] = ("chat", "completions", "generate")


def workload(
    api: Api,
    *,
    requests: int = 12,
    concurrency: int = 1,
    stream: bool = True,
    timeout_s: float = 20,
) -> Workload:
    return Workload(
        name="tiny",
        input_tokens=24,
        output_tokens=TOKENS,
        concurrency=concurrency,
        requests=requests,
        warmup_requests=1,
        runs=1,
        api=api,
        stream=stream,
        request_timeout_s=timeout_s,
    )


def opening(server: FakeServer) -> OpenTarget:
    return OpenTarget(url=server.url, model="sim", api_fields={}, tokenize=None, headers=[])


def measure(server: FakeServer, asked: Workload) -> list[RequestRecord]:
    """One pass by a worker that lives in this process."""
    said: list[object] = []

    async def obey(worker: Worker) -> None:
        await worker.obey(opening(server))
        await worker.obey(Prepare(asked))
        await worker.obey(Go(workload=asked, seed=1, part="measured"))
        await worker.obey(Start(clock.now_ns()))

    with tempfile.TemporaryFile() as file:
        asyncio.run(obey(Worker(said.append, SpillWriter(file.fileno()))))
        assert not [each for each in said if isinstance(each, Failed)]
        assert isinstance(said[0], Ready)
        finished = said[-1]
        assert isinstance(finished, Finished)
        return list(merged([finished], [file.fileno()]))


def both(server: FakeServer, asked: Workload) -> list[tuple[RequestRecord, Truth]]:
    """Records beside the truth of the same requests, in order of sending (one at a time)."""
    records = measure(server, asked)
    return list(zip(records, server.truth[-len(records) :], strict=True))


@cache
def asked_beforehand(api: Api, stream: bool) -> int:
    """Generation requests that a client sends before it measures."""
    with FakeServer(Script(ttft_ms=0, itl_ms=0)) as server:
        records = measure(server, workload(api, stream=stream, requests=1))
        return len(server.truth) - len(records)


EXPECTED: dict[str, str | None] = {
    "error": "stream_error",
    "abort": "aborted",
    "cut": "cut",
    "reset": "cut",
    "http_500": "http_500",
    "http_503": "http_503",
    "http_429": "http_429",
    "redirect": "http_302",
    "wrong_type": "garbage",
    "stall": "timeout",
    "infinite": "long",
    "drip": None,
    "garbage": "garbage",
    "half_json": "garbage",
    "no_finish": "no_finish",
    "no_done": "no_done",
    "short": "short",
    "long": "long",
    "empty": "empty",
    "no_usage": None,
}
#: Where a response in one piece differs: it has no end marker, its one chunk counts no tokens, and
#: nothing is known of it before its end.
EXPECTED_WHOLE = EXPECTED | {"no_done": None, "no_usage": "no_usage", "infinite": "timeout"}


def expected_failure(fault: Fault, api: Api, *, stream: bool) -> str | None:
    if fault == "no_usage" and api == "generate":
        return None  # its token ids are counted
    return (EXPECTED if stream else EXPECTED_WHOLE)[fault]


def test_every_fault_of_the_fake_server_is_expected_here() -> None:
    assert set(EXPECTED) == set(FAULTS)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "whole"])
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_response_is_named_and_the_others_succeed(
    api: Api, fault: Fault, stream: bool
) -> None:
    spared = asked_beforehand(api, stream)
    script = Script(
        ttft_ms=1, itl_ms=0.2, fault=fault, fault_every=4, fault_from=spared, role_first=True
    )
    expected = expected_failure(fault, api, stream=stream)
    timeout_s = 1.5 if fault in ("stall", "infinite") else 20
    with FakeServer(script) as server:
        pairs = both(server, workload(api, stream=stream, timeout_s=timeout_s, requests=8))
    befallen = [pair for pair in pairs if pair[1].fault]
    assert len(befallen) == 2
    for record, truth in pairs:
        assert record.failure == (expected if truth.fault else None), record.detail
        if record.failure is None:
            assert record.output_tokens == truth.tokens == TOKENS
            assert record.streamed is stream


@pytest.mark.parametrize("api", APIS)
def test_faults_are_counted_exactly_with_several_requests_in_flight(api: Api) -> None:
    script = Script(ttft_ms=2, itl_ms=0.5, fault="cut", fault_every=3, fault_from=4)
    with FakeServer(script) as server:
        records = measure(server, workload(api, requests=30, concurrency=6))
        truth = server.truth[-30:]
    assert sum(record.failure == "cut" for record in records) == sum(
        each.fault == "cut" for each in truth
    )
    assert sum(record.ok for record in records) == sum(not each.fault for each in truth)
    assert any(record.connect_ns for record in records), "a cut connection must be replaced"


def test_a_response_without_usage_is_counted_by_chunks_and_says_so() -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=0.2, usage="none")) as server:
        records = measure(server, workload("chat"))
    assert {record.token_source for record in records} == {"chunks"}
    assert {record.output_tokens for record in records} == {TOKENS}
    assert all(record.ok for record in records)


def test_chunks_of_several_tokens_without_usage_cannot_be_counted() -> None:
    with FakeServer(Script(ttft_ms=1, usage="none", tokens_per_chunk=4)) as server:
        records = measure(server, workload("chat"))
    assert {record.failure for record in records} == {"no_usage"}


@pytest.mark.parametrize("api", APIS)
def test_four_tokens_a_chunk_are_counted_from_usage(api: Api) -> None:
    with FakeServer(Script(ttft_ms=1, tokens_per_chunk=4)) as server:
        records = measure(server, workload(api))
    for record in records:
        assert record.ok
        assert record.output_tokens == TOKENS
        assert [c.cumulative_tokens for c in record.chunks if c.kind != "none"] == [4, 8]


def test_reasoning_and_answer_are_told_apart() -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=0.2, reasoning_fraction=0.5)) as server:
        pairs = both(server, workload("chat"))
    for record, truth in pairs:
        kinds = [chunk.kind for chunk in record.chunks if chunk.kind != "none"]
        assert kinds == [chunk.kind for chunk in truth.chunks]
        assert record.reasoning_tokens == TOKENS // 2


@pytest.mark.parametrize("api", APIS)
def test_think_tags_in_plain_content_are_recognised(api: Api) -> None:
    script = Script(ttft_ms=1, itl_ms=0.2, reasoning_fraction=0.5, think_tags=True)
    with FakeServer(script) as server:
        pairs = both(server, workload(api))
    for record, truth in pairs:
        kinds = [chunk.kind for chunk in record.chunks if chunk.kind != "none"]
        assert kinds == [chunk.kind for chunk in truth.chunks]


def test_a_role_only_chunk_starts_nothing() -> None:
    with FakeServer(Script(ttft_ms=30, itl_ms=0.2, role_first=True)) as server:
        pairs = both(server, workload("chat", requests=3))
    for record, truth in pairs:
        assert record.chunks[0].kind == "none"
        first = next(chunk for chunk in record.chunks if chunk.kind != "none")
        assert first.at_ns >= truth.chunks[0].at_ns


@pytest.mark.parametrize("api", APIS)
def test_prompts_have_exactly_the_length_asked_for(api: Api) -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=0.1)) as server:
        records = measure(server, workload(api, requests=40, concurrency=4))
    assert {record.prompt_tokens for record in records} == {24}


@pytest.mark.parametrize("api", APIS)
def test_no_prompt_of_a_pass_begins_like_another_for_long(api: Api) -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=0.1, prefix_cache=True, cache_page=16)) as server:
        records = measure(server, workload(api, requests=40, concurrency=4))
    assert {record.cached_tokens for record in records} == {0}


def test_a_refused_workload_is_reported_in_the_servers_words() -> None:
    said: list[object] = []
    worker = Worker(said.append, SpillWriter(-1))
    asked = workload("chat")
    with FakeServer(Script(max_context_tokens=30)) as server:

        async def obey() -> None:
            await worker.obey(opening(server))
            await worker.obey(Prepare(asked))

        asyncio.run(obey())
    failed = said[-1]
    assert isinstance(failed, Failed)
    assert "maximum context length of 30 tokens" in failed.summary
    assert "32 tokens" in failed.remedy
