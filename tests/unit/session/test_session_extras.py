"""What few engines need: flushes that may be refused, requests kept out of the cache, answers that
need not come, and models in another form."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from live_servers import live
from pytest_llmperf.engines.base import Extras
from pytest_llmperf.engines.llamacpp import LlamaCpp
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.engines.vllm import VLLM
from pytest_llmperf.records import (
    HttpCall,
    Json,
    ServerIdentity,
    Workload,
)
from pytest_llmperf.session import server as session_server
from pytest_llmperf.session.bring_up import identify

NOWHERE = "http://127.0.0.1:9"
PLAIN = Workload(
    name="w",
    input_tokens=40,
    output_tokens=2,
    concurrency=2,
    requests=4,
    warmup_requests=1,
    runs=1,
)


class Scripted:
    """Answers each path with its bodies in turn, and again and again with the last one."""

    def __init__(self, answers: dict[str, list[tuple[int, Json]]]) -> None:
        self.answers = {path: list(given) for path, given in answers.items()}
        self.asked: list[str] = []

    def answer(self, path: str) -> tuple[int, Json]:
        self.asked.append(path)
        given = self.answers.get(path, [(404, None)])
        return given.pop(0) if len(given) > 1 else given[0]


@contextmanager
def serving(script: Scripted) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            status, body = script.answer(self.path)
            raw = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        do_GET = do_POST = answer  # noqa: N815 - the names of its base

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_flush_that_was_refused_is_asked_for_again() -> None:
    path = "/reset_prefix_cache"
    said: list[tuple[int, Json]] = [(200, {"success": done}) for done in (False, False, True)]
    script = Scripted({path: said})
    with serving(script) as url:
        live(url, engine=VLLM(), launched=True).flush()
    assert script.asked == [path] * 3


def test_a_flush_that_is_always_refused_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session_server, "FLUSH_TIMEOUT_S", 0.2)
    script = Scripted({"/reset_prefix_cache": [(200, {"success": False})]})
    with (
        serving(script) as url,
        pytest.raises(Exception, match=r'would not flush .* answered 200 \{"success": false\}'),
    ):
        live(url, engine=VLLM(), launched=True).flush()


def test_a_call_without_a_refusal_is_done_whatever_is_answered() -> None:
    assert not HttpCall(method="POST", path="/x").refuses(b'{"success": false}')


@pytest.mark.parametrize(
    ("changed", "kept_out"),
    [
        ({}, True),
        ({"turns": 2, "turn_input_tokens": 8}, False),
        ({"shared_prefix_tokens": 16}, False),
        ({"flush": False}, False),
    ],
)
def test_requests_stay_out_of_the_cache_unless_hits_are_meant(
    changed: dict[str, Any], kept_out: bool
) -> None:
    fields = live(NOWHERE, engine=LlamaCpp()).clients.fields(replace(PLAIN, **changed))
    assert fields["ignore_eos"] is True
    assert ("cache_prompt" in fields) is kept_out
    assert not kept_out or fields["cache_prompt"] is False


def test_engines_without_extras_say_what_they_said() -> None:
    assert live(NOWHERE).clients.fields(PLAIN) == {"ignore_eos": True}


class Chatty(Sim):
    extras = Extras(more_info_paths=("/more",))

    def identify(self, answers: Any) -> ServerIdentity:
        return replace(super().identify(answers), args=dict(answers))


SURE: dict[str, list[tuple[int, Json]]] = {
    "/server_info": [(200, {})],
    "/v1/models": [(200, {"data": []})],
}


def test_what_need_not_be_answered_is_asked_too() -> None:
    with serving(Scripted({**SURE, "/more": [(200, {"a": 1})]})) as url:
        assert identify(Chatty(), url).args["/more"] == {"a": 1}


@pytest.mark.parametrize("status", [404, 500])
def test_what_is_not_answered_is_left_out(status: int) -> None:
    with serving(Scripted({**SURE, "/more": [(status, None)]})) as url:
        assert "/more" not in identify(Chatty(), url).args
