"""What is learnt from a server before anything is measured."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from pytest_llmperf.errors import ServerError
from pytest_llmperf.load.compose.asking import Target
from pytest_llmperf.load.compose.rehearsal import Recipe, Rehearsal
from pytest_llmperf.load.send.connect import parse_origin
from pytest_llmperf.records import Api, Source, TokenizeCall, Workload
from pytest_llmperf.testing import FakeServer, Script
from tiny_load import TOKENIZE

WORKLOAD = Workload(
    name="tiny", input_tokens=40, output_tokens=8, concurrency=1, requests=1, warmup_requests=1,
    runs=1, request_timeout_s=20,
)  # fmt: skip
QUICK = Script(ttft_ms=0, itl_ms=0)


def rehearse(
    url: str,
    workload: Workload,
    *,
    tokenize: TokenizeCall | None = None,
    longest: tuple[int, int] | None = None,
) -> Recipe:
    target = Target(url=url, model="sim", tokenize=tokenize)
    return asyncio.run(Rehearsal(parse_origin(url), target).recipe(workload, longest))


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("tokenize", [TOKENIZE, None])
@pytest.mark.parametrize("api", ["chat", "completions", "generate"])
def test_every_api_is_learnt_with_and_without_a_tokenizer(
    api: Api, tokenize: TokenizeCall | None, stream: bool
) -> None:
    with FakeServer(QUICK) as server:
        recipe = rehearse(server.url, replace(WORKLOAD, api=api, stream=stream), tokenize=tokenize)
        asked = [(each.api, each.prompt_tokens, each.stream) for each in server.truth]
    takes_ids = tokenize is not None and api != "chat"
    assert (recipe.pool is not None, recipe.units is not None) == (takes_ids, not takes_ids)
    assert recipe.usage == "continuous"
    assert asked[-1] == (api, 40, True)


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("api", ["chat", "completions", "generate"])
def test_a_refusal_is_quoted(api: Api, stream: bool) -> None:
    workload = replace(WORKLOAD, api=api, stream=stream)
    with (
        FakeServer(replace(QUICK, max_context_tokens=45)) as server,
        pytest.raises(ServerError, match="maximum context length of 45 tokens") as caught,
    ):
        rehearse(server.url, workload)
    assert "40 tokens in, 8 tokens out" in caught.value.summary
    assert "48 tokens" in caught.value.remedy


def test_the_largest_request_is_tried() -> None:
    spread = replace(WORKLOAD, length_spread=0.5)
    with FakeServer(QUICK) as server:
        rehearse(server.url, spread)
        assert (server.truth[-1].prompt_tokens, server.truth[-1].asked_tokens) == (60, 12)
        rehearse(server.url, replace(WORKLOAD, turns=3, turn_input_tokens=20))
        assert server.truth[-1].prompt_tokens == 40 + 2 * 28
        rehearse(server.url, WORKLOAD, longest=(77, 5))
        assert (server.truth[-1].prompt_tokens, server.truth[-1].asked_tokens) == (77, 5)


def test_prompts_of_a_file_are_only_asked_for_usage() -> None:
    source = Source(kind="prompts", path="x", sha256="0")
    workload = replace(WORKLOAD, input_tokens=None, output_tokens=None, source=source)
    with FakeServer(replace(QUICK, usage="final")) as server:
        recipe = rehearse(server.url, workload)
        assert len(server.truth) == 2  # whether it keeps connections, and what it takes
    assert (recipe.units, recipe.pool, recipe.usage) == (None, None, "continuous")


def test_usage_is_asked_for_as_far_as_the_server_takes_it() -> None:
    with serving(lambda asked: "stream_options" in asked) as url:
        assert rehearse(url, WORKLOAD).usage == "none"
    with serving(lambda asked: "continuous_usage_stats" in asked.get("stream_options", {})) as url:
        assert rehearse(url, WORKLOAD).usage == "final"


def test_a_server_that_cannot_stream_is_asked_for_whole_responses() -> None:
    with serving(lambda asked: bool(asked.get("stream"))) as url:
        assert rehearse(url, replace(WORKLOAD, stream=False)).units is not None
        with pytest.raises(ServerError, match="HTTP 400: I would rather not"):
            rehearse(url, WORKLOAD)


def test_what_a_further_pair_of_messages_costs() -> None:
    workload = replace(WORKLOAD, turns=3, turn_input_tokens=20)
    with serving(lambda _: False) as url:
        recipe = rehearse(url, workload)
        assert rehearse(url, WORKLOAD).message_overhead == 0
    # Each message has three tokens of the template's and one lead.
    assert recipe.message_overhead == 2 * (3 + 1)
    # The template opens with one token, and closes with two to be answered behind.
    assert recipe.overhead == 1 + (3 + 1) + 2


def test_a_prompt_that_leaves_no_room_is_refused() -> None:
    with serving(lambda _: False) as url, pytest.raises(ServerError, match="alone takes 7 tokens"):
        rehearse(url, replace(WORKLOAD, input_tokens=7))


class Strict(BaseHTTPRequestHandler):
    """A chat server whose template puts tokens around each message, and drops thoughts."""

    protocol_version = "HTTP/1.1"
    refuses: Callable[[dict[str, Any]], bool]

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.refuses(asked):
            self.answer(400, "application/json", {"error": {"message": "I would rather not"}})
            return
        said = [message["content"].rpartition("</think>")[2] for message in asked["messages"]]
        count = 3 + sum(3 + len(text.split()) for text in said)
        usage = {"prompt_tokens": count, "completion_tokens": 1}
        if not asked["stream"]:
            choices = [{"message": {"content": "a"}, "finish_reason": "length"}]
            self.answer(200, "application/json", {"choices": choices, "usage": usage})
            return
        event = {"choices": [{"delta": {"content": "a"}}]}
        self.answer(200, "text/event-stream", event, b"\ndata: %b\n\ndata: [DONE]\n\n")

    def answer(self, status: int, kind: str, document: object, form: bytes = b"%b") -> None:
        data = form % json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        pass


@contextmanager
def serving(refuses: Callable[[dict[str, Any]], bool]) -> Iterator[str]:
    handler = type("Handler", (Strict,), {"refuses": staticmethod(refuses)})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
