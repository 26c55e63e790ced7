"""The bytes of requests."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from pytest_llmperf.load.compose.asking import Prompt, Target, api_path, body, post
from pytest_llmperf.load.send.connect import parse_origin
from pytest_llmperf.records import Api, Workload

TARGET = Target(url="http://h:1", model="m", api_fields={"ignore_eos": True})
WORKLOAD = Workload(
    name="tiny", input_tokens=24, output_tokens=8, concurrency=1, requests=1, warmup_requests=1,
    runs=1, temperature=0.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("url", "api", "path"),
    [
        ("http://h:1", "chat", "/v1/chat/completions"),
        ("http://h:1/v1", "chat", "/v1/chat/completions"),
        ("http://h:1/proxy/v1/", "completions", "/proxy/v1/completions"),
        ("http://h:1", "generate", "/generate"),
        ("http://h:1/v1", "generate", "/generate"),
        ("http://h:1/proxy/v1", "generate", "/proxy/generate"),
    ],
)
def test_where_each_api_lives(url: str, api: Api, path: str) -> None:
    assert api_path(parse_origin(url), api) == path


def test_a_chat_request() -> None:
    assert body(TARGET, WORKLOAD, "hello", usage="continuous") == {
        "model": "m",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 8,
        "temperature": 0.5,
        "top_p": 1.0,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        "ignore_eos": True,
    }


@pytest.mark.parametrize(("prompt", "field"), [("hello", "text"), ([1, 2], "input_ids")])
def test_a_request_of_sglangs_own(prompt: Prompt, field: str) -> None:
    workload = replace(WORKLOAD, api="generate")
    assert body(TARGET, workload, prompt, usage="continuous") == {
        field: prompt,
        "sampling_params": {
            "max_new_tokens": 8,
            "temperature": 0.5,
            "top_p": 1.0,
            "ignore_eos": True,
        },
        "stream": True,
    }


@pytest.mark.parametrize("api", ["chat", "completions"])
def test_a_whole_response_is_not_asked_for_a_streams_usage(api: Api) -> None:
    asked = body(TARGET, replace(WORKLOAD, api=api), "x", usage="continuous", stream=False)
    assert asked["stream"] is False
    assert "stream_options" not in asked


def test_a_length_that_nobody_knows_cannot_be_asked_for() -> None:
    workload = replace(WORKLOAD, output_tokens=None)
    with pytest.raises(ValueError, match="'tiny' does not say how many tokens"):
        body(TARGET, workload, "x", usage="none")
    assert body(TARGET, workload, "x", usage="none", max_tokens=3)["max_tokens"] == 3


def test_the_bytes_of_a_post() -> None:
    sent = post(parse_origin("http://h:1"), "/x", {"a": "é"}, [("Authorization", "Bearer k")])
    head, _, content = sent.partition(b"\r\n\r\n")
    assert json.loads(content) == {"a": "é"}
    lines = head.split(b"\r\n")
    assert lines[:2] == [b"POST /x HTTP/1.1", b"Host: h:1"]
    assert b"Content-Length: %d" % len(content) in lines
    assert b"Authorization: Bearer k" in lines
