"""What the fake counts, read as one would read SGLang's."""

from __future__ import annotations

import http.client
import json
import re
import socket

import pytest

from processes import until
from pytest_llmperf.testing import FakeServer, Script

SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")


def ask(server: FakeServer, method: str, path: str, content: object = None) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path, json.dumps(content) if content is not None else None)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def generate(server: FakeServer, text: str, tokens: int, *, stream: bool = False) -> bytes:
    asked = {"text": text, "sampling_params": {"max_new_tokens": tokens}, "stream": stream}
    status, body = ask(server, "POST", "/generate", asked)
    assert status == 200
    return body


def totals(server: FakeServer) -> dict[str, float]:
    """Each metric, summed over its labels."""
    found: dict[str, float] = {}
    for line in ask(server, "GET", "/metrics")[1].decode().splitlines():
        if line.startswith("#"):
            continue
        sample = SAMPLE.match(line)
        assert sample is not None, line
        name = sample["name"].removeprefix("sglang:")
        found[name] = found.get(name, 0.0) + float(sample["value"])
    return found


def internal_state(server: FakeServer) -> dict[str, float]:
    (state,) = json.loads(ask(server, "GET", "/server_info")[1])["internal_states"]
    assert isinstance(state, dict)
    return state


def test_counters_are_what_went_in_and_out() -> None:
    with FakeServer(Script(ttft_ms=0, itl_ms=0, prefix_cache=True)) as server:
        assert "prompt_tokens_total" not in totals(server)  # as in SGLang before the first
        generate(server, "abcd", 5)
        generate(server, "abXY", 7, stream=True)
        found = totals(server)
        text = ask(server, "GET", "/metrics")[1].decode()
    assert found["num_requests_total"] == 2
    assert found["prompt_tokens_total"] == 8
    assert found["generation_tokens_total"] == 12
    assert found["cached_tokens_total"] == 2
    assert found["cache_hit_rate"] == 0.5
    assert found["num_running_reqs"] == 0
    assert found["sim:requests_total"] == 2
    assert "spec_verify_calls_total" not in found
    for stream, tokens in (("true", 7), ("false", 5)):
        labels = f'engine_type="unified",model_name="sim",is_streaming="{stream}"'
        assert f"sglang:generation_tokens_total{{{labels}}} {tokens}.0\n" in text
    assert "# TYPE sglang:generation_tokens_total counter\n" in text


def test_a_models_name_is_escaped_as_prometheus_asks() -> None:
    with FakeServer(Script(model='a"b\\c')) as server:
        text = ask(server, "GET", "/metrics")[1].decode()
    assert r'model_name="a\"b\\c"' in text


@pytest.mark.parametrize(("tokens", "accept_length"), [(9, 1.0), (9, 3.7), (40, 2.5)])
def test_acceptance_is_what_was_scripted(tokens: int, accept_length: float) -> None:
    with FakeServer(Script(ttft_ms=0, itl_ms=0, accept_length=accept_length)) as server:
        assert internal_state(server) == {}
        for _ in range(40):
            generate(server, "hello", tokens)
        found, told = totals(server), internal_state(server)["avg_spec_accept_length"]
    # The first token of a response comes from its prompt, not from a step.
    by_counters = (found["generation_tokens_total"] - found["num_requests_total"]) / found[
        "spec_verify_calls_total"
    ]
    assert by_counters == pytest.approx(accept_length, rel=0.02)
    assert told == found["spec_accept_length"] == pytest.approx(by_counters)


def test_a_response_tells_its_own_acceptance() -> None:
    with FakeServer(Script(ttft_ms=0, itl_ms=0, accept_length=2)) as server:
        meta = json.loads(generate(server, "hello", 9))["meta_info"]
    assert meta["spec_verify_ct"] == 4
    assert meta["spec_num_correct_drafts"] == 4
    assert meta["spec_accept_length"] == 9 / 4


def test_a_flush_forgets_the_mean_and_keeps_the_counters() -> None:
    with FakeServer(Script(ttft_ms=0, itl_ms=0, accept_length=2)) as server:
        generate(server, "hello", 9)
        assert ask(server, "GET", "/flush_cache")[0] == 200
        assert internal_state(server) == {}
        found = totals(server)
    assert (found["spec_verify_calls_total"], found["generation_tokens_total"]) == (4, 9)


def test_what_failed_before_generating_is_no_request_to_the_counters() -> None:
    with FakeServer(Script(fault="http_503")) as server:
        ask(server, "POST", "/generate", {"text": "a"})
        found = totals(server)
    assert "num_requests_total" not in found
    assert found["sim:requests_total"] == 1


def test_the_cache_is_not_flushed_while_requests_run() -> None:
    asked = json.dumps({"text": "hello", "stream": True}).encode()
    head = f"POST /generate HTTP/1.1\r\nHost: h\r\nContent-Length: {len(asked)}\r\n\r\n"
    with FakeServer(Script(ttft_ms=0, fault="stall")) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(head.encode() + asked)
            sock.recv(65536)
            assert ask(server, "POST", "/flush_cache") == (400, b"Flush cache failed.\n")
            assert totals(server)["num_running_reqs"] == 1
            assert server.flushes == 0
        flushed = until(lambda: ask(server, "POST", "/flush_cache")[0] == 200)
        assert flushed, "a client that left must end its request"
        assert server.flushes == 1
        assert server.truth[0].ended_ns is not None
