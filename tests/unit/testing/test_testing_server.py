"""The fake server, asked with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.testing import CHAT_OVERHEAD_TOKENS, FakeServer, Script


def ask(port: int, method: str, path: str, content: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, json.dumps(content) if content is not None else None)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def ask_json(port: int, method: str, path: str, content: object = None) -> dict[str, object]:
    status, body = ask(port, method, path, content)
    assert status == 200
    document = json.loads(body)
    assert isinstance(document, dict)
    return document


CHAT = {
    "model": "sim",
    "messages": [{"role": "user", "content": "hello"}],
    "max_tokens": 6,
    "stream": True,
    "stream_options": {"include_usage": True, "continuous_usage_stats": True},
}


def events(body: bytes) -> list[dict[str, object]]:
    lines = [line.removeprefix(b"data: ") for line in body.split(b"\n\n") if line]
    assert lines[-1] == b"[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_side_calls() -> None:
    with FakeServer(Script(model="m", max_context_tokens=77)) as server:
        for path in ("/health", "/health_generate", "/model_info"):
            assert ask(server.port, "GET", path)[0] == 200
        info = ask_json(server.port, "GET", "/server_info")
        models = ask_json(server.port, "GET", "/v1/models")
        tokens = ask_json(server.port, "POST", "/tokenize", {"prompt": "ab"})
        assert ask(server.port, "POST", "/flush_cache")[0] == 200
        assert b"sim:requests_total 0" in ask(server.port, "GET", "/metrics")[1]
        assert ask(server.port, "GET", "/nowhere")[0] == 404
        assert ask(server.port, "POST", "/tokenize", [1])[0] == 400
        assert server.flushes == 1
    assert info["simulated"] is True
    assert (info["model_path"], info["context_length"]) == ("m", 77)
    assert info["sim_itl_ms"] == 2.0
    assert models["data"] == [{"id": "m", "object": "model", "max_model_len": 77}]
    assert tokens["tokens"] == [97, 98]


def test_a_streamed_chat_says_exactly_what_was_scripted() -> None:
    script = Script(ttft_ms=1, itl_ms=0.1, reasoning_fraction=0.5, role_first=True)
    with FakeServer(script) as server:
        status, body = ask(server.port, "POST", "/v1/chat/completions", CHAT)
        (truth,) = server.truth
    assert status == 200
    found = events(body)
    assert len(found) == 1 + 6 + 1 + 1
    assert b'"role":"assistant"' in body
    assert body.count(b"reasoning_content") == 3
    usage = found[-1]["usage"]
    assert isinstance(usage, dict)
    assert usage["completion_tokens"] == 6 == truth.tokens
    assert usage["prompt_tokens"] == 5 + CHAT_OVERHEAD_TOKENS == truth.prompt_tokens
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 3}
    times = [truth.received_ns, *(chunk.at_ns for chunk in truth.chunks), truth.ended_ns or 0]
    assert times == sorted(times)


def test_a_whole_chat_tells_thinking_and_answer_apart() -> None:
    asked = {**CHAT, "stream": False}
    with FakeServer(Script(ttft_ms=20, itl_ms=2, reasoning_fraction=0.5)) as server:
        answer = ask_json(server.port, "POST", "/v1/chat/completions", asked)
        (truth,) = server.truth
    choice = answer["choices"][0]  # type: ignore[index]
    assert choice["finish_reason"] == "length"
    assert choice["message"] == {
        "role": "assistant",
        "content": "w3 w4 w5 ",
        "reasoning_content": "w0 w1 w2 ",
    }
    assert answer["usage"] == {
        "prompt_tokens": 10,
        "completion_tokens": 6,
        "total_tokens": 16,
        "prompt_tokens_details": {"cached_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    assert [(chunk.tokens, chunk.kind) for chunk in truth.chunks] == [
        *[(1, "reasoning")] * 3,
        *[(1, "answer")] * 3,
    ]
    assert truth.chunks[0].at_ns - truth.received_ns >= (20 + 5 * 2) * 1e6
    assert not truth.stream


def test_completions_without_a_place_for_thinking_put_it_between_tags() -> None:
    asked = {"prompt": "ab", "max_tokens": 4}
    with FakeServer(Script(ttft_ms=1, itl_ms=0, reasoning_fraction=0.5)) as server:
        answer = ask_json(server.port, "POST", "/v1/completions", asked)
    assert answer["choices"][0]["text"] == "<think></think>w2 w3 "  # type: ignore[index]


@pytest.mark.parametrize(
    ("path", "asked", "said"),
    [
        ("/v1/chat/completions", {"messages": []}, "Messages cannot be empty."),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, "a message's content"),
        ("/v1/completions", {"prompt": ["a", "b"]}, "prompt: one text or one list"),
        ("/v1/completions", {"prompt": "a", "max_tokens": -1}, "-1 is no number of tokens"),
        ("/generate", {"input_ids": [[1], [2]]}, "input_ids: one text or one list"),
        ("/generate", {}, "text: one text or one list"),
        ("/generate", [], "not a JSON object"),
    ],
)
def test_what_cannot_be_served_is_refused_in_words(path: str, asked: object, said: str) -> None:
    with FakeServer() as server:
        status, body = ask(server.port, "POST", path, asked)
        assert server.truth == []
    assert status == 400
    assert said in json.loads(body)["error"]["message"]


def test_several_parts_of_a_message_are_one_text() -> None:
    parts = [{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}]
    asked = {"messages": [{"role": "user", "content": parts}], "max_tokens": 1}
    with FakeServer(Script(ttft_ms=1)) as server:
        ask_json(server.port, "POST", "/v1/chat/completions", asked)
        (truth,) = server.truth
    assert truth.prompt_tokens == 3 + CHAT_OVERHEAD_TOKENS


def generate(server: FakeServer, tokens: int = 3, **fields: object) -> bytes:
    asked = {"sampling_params": {"max_new_tokens": tokens, "ignore_eos": True}, **fields}
    status, body = ask(server.port, "POST", "/generate", asked)
    assert status == 200
    return body


def test_generate_streams_all_that_was_said_in_every_event() -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=0)) as server:
        body = generate(server, input_ids=[5, 6], stream=True)
    found = events(body)
    assert [each["text"] for each in found] == ["w0 ", "w0 w1 ", "w0 w1 w2 "]
    assert [each["output_ids"] for each in found] == [[1000], [1000, 1001], [1000, 1001, 1002]]
    metas = [each["meta_info"] for each in found]
    assert [meta["completion_tokens"] for meta in metas] == [1, 2, 3]  # type: ignore[index]
    ends = [None, None, {"type": "length", "length": 3}]
    assert [meta["finish_reason"] for meta in metas] == ends  # type: ignore[index]
    last = dict(metas[-1])  # type: ignore[call-overload]
    assert 0 < last.pop("e2e_latency") < 10
    assert last == {
        "id": "sim-0",
        "finish_reason": {"type": "length", "length": 3},
        "weight_version": "default",
        "num_retractions": 0,
        "prompt_tokens": 2,
        "reasoning_tokens": 0,
        "completion_tokens": 3,
        "cached_tokens": 0,
        "cached_tokens_details": None,
        "dp_rank": None,
    }


def test_generate_streams_only_what_is_new_when_incremental() -> None:
    script = Script(ttft_ms=1, itl_ms=0, incremental=True, tokens_per_chunk=2)
    with FakeServer(script) as server:
        found = events(generate(server, text="hi", stream=True))
    assert [each["text"] for each in found] == ["w0 w1 ", "w2 "]
    assert [each["output_ids"] for each in found] == [[1000, 1001], [1002]]
    metas = [each["meta_info"] for each in found]
    assert [meta["completion_tokens"] for meta in metas] == [2, 3]  # type: ignore[index]


def test_generate_answers_whole_when_not_streamed() -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=0, reasoning_fraction=0.5)) as server:
        answer = json.loads(generate(server, 4, text="hi"))
        (truth,) = server.truth
    assert answer["text"] == "<think></think>w2 w3 "
    assert answer["output_ids"] == [1000, 1001, 1002, 1003]
    assert answer["meta_info"]["reasoning_tokens"] == 2
    assert answer["meta_info"]["finish_reason"] == {"type": "length", "length": 4}
    assert (truth.api, truth.tokens, truth.asked_tokens) == ("generate", 4, 4)


def test_generate_counts_no_tokens_where_usage_is_off() -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=0, usage="none")) as server:
        found = events(generate(server, text="hi", stream=True))
    assert all("completion_tokens" not in str(each["meta_info"]) for each in found)


def test_completions_take_token_ids_and_answer_whole_when_not_streamed() -> None:
    asked = {"model": "sim", "prompt": [1, 2, 3], "max_tokens": 4}
    with FakeServer(Script(ttft_ms=1)) as server:
        answer = ask_json(server.port, "POST", "/v1/completions", asked)
    assert answer["usage"]["prompt_tokens"] == 3  # type: ignore[index]
    assert answer["usage"]["completion_tokens"] == 4  # type: ignore[index]


def test_tokens_are_paced_as_scripted() -> None:
    with FakeServer(Script(ttft_ms=30, itl_ms=5, tokens_per_chunk=2)) as server:
        ask(server.port, "POST", "/v1/chat/completions", CHAT)
        (truth,) = server.truth
    assert [chunk.tokens for chunk in truth.chunks] == [2, 2, 2]
    assert truth.chunks[0].at_ns - truth.received_ns >= 30e6
    assert truth.chunks[-1].at_ns - truth.received_ns >= (30 + 20) * 1e6


def test_launches_differ_in_speed_by_their_seed() -> None:
    def pace(seed: int) -> object:
        with FakeServer(Script(launch_cv=0.1, seed=seed)) as server:
            return ask_json(server.port, "GET", "/server_info")["pace"]

    assert pace(1) == pace(1) != pace(2)


def test_a_context_that_is_too_short_is_refused_in_words() -> None:
    with FakeServer(Script(max_context_tokens=8)) as server:
        status, body = ask(server.port, "POST", "/v1/chat/completions", CHAT)
    assert status == 400
    assert b"maximum context length of 8 tokens" in body


def test_generate_tells_a_stream_that_its_prompt_is_too_long_inside_the_stream() -> None:
    with FakeServer(Script(max_context_tokens=8)) as server:
        (found,) = events(generate(server, 7, text="hi", stream=True))
        asked = {"text": "hi", "sampling_params": {"max_new_tokens": 7}}
        status, whole = ask(server.port, "POST", "/generate", asked)
        assert server.truth == []
    error = found["error"]
    assert "maximum context length of 8 tokens" in error["message"]  # type: ignore[index]
    assert (error["code"], error["retryable"]) == (400, False)  # type: ignore[index]
    assert (status, list(json.loads(whole)["error"])) == (400, ["message"])


@pytest.mark.parametrize("script", [Script(die_after=1), Script(fail_start="no")])
def test_a_server_inside_the_test_process_must_not_end_it(script: Script) -> None:
    with pytest.raises(ValueError, match="process of its own"):
        FakeServer(script)


# --- as a process


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "pytest_llmperf.testing", *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        try:
            yield child
        finally:
            child.terminate()


def free_port() -> int:
    with FakeServer() as server:
        return server.port


def test_as_a_process_it_says_when_it_is_ready_and_logs_the_truth(tmp_path: Path) -> None:
    port = free_port()
    log = tmp_path / "truth.jsonl"
    with process("--port", str(port), "--ttft-ms", "1", "--truth-log", str(log)) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == f"sim: ready on http://127.0.0.1:{port}\n"
        ask(port, "POST", "/v1/chat/completions", CHAT)
    (line,) = log.read_text().splitlines()
    assert sum(chunk["tokens"] for chunk in json.loads(line)["chunks"]) == 6


def test_it_dies_when_told_to() -> None:
    port = free_port()
    with process("--port", str(port), "--die-after", "1", "--die-status", "42") as child:
        assert child.stdout is not None
        child.stdout.readline()
        ask(port, "POST", "/v1/chat/completions", CHAT)
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            ask(port, "POST", "/v1/chat/completions", CHAT)
        assert child.wait(60) == 42


def test_it_fails_to_start_with_the_text_it_is_given() -> None:
    with process("--fail-start", "CUDA out of memory", "--die-status", "3") as child:
        assert child.stderr is not None
        assert child.stderr.read() == "CUDA out of memory\n"
        assert child.wait(60) == 3


def test_half_of_a_tls_identity_is_refused() -> None:
    with process("--tls-cert", "cert.pem") as child:
        assert child.stderr is not None
        assert "give both or neither" in child.stderr.read()
        assert child.wait(60) == 2


@pytest.mark.parametrize(
    "wrong", [{"accept_length": 0.5}, {"cache_page": 0}, {"fault": "gremlins"}]
)
def test_a_script_that_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Script(**wrong)


def test_an_unknown_fault_is_refused() -> None:
    with process("--fault", "gremlins") as child:
        assert child.stderr is not None
        assert "'gremlins' is none of error, cut" in child.stderr.read()
        assert child.wait(60) == 2
