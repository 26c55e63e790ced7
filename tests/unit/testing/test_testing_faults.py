"""Each scripted fault as the bytes that a client gets, streamed and whole."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import dataclass

import pytest

from pytest_llmperf.testing import FAULTS, FakeServer, Fault, Script, Truth

CHAT, COMPLETIONS, GENERATE = "/v1/chat/completions", "/v1/completions", "/generate"
APIS = (CHAT, COMPLETIONS, GENERATE)
TOKENS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What came over a socket, and how that ended."""

    head: str
    body: bytes
    end: str
    truth: Truth

    @property
    def status(self) -> int:
        return int(self.head.split()[1])

    @property
    def events(self) -> list[bytes]:
        """Data of each event; chunked framing undone."""
        left, parts = self.body, []
        while left:
            size, _, left = left.partition(b"\r\n")
            parts.append(left[: int(size, 16)])
            left = left[int(size, 16) + 2 :]
        events = b"".join(parts).split(b"\n\n")
        return [each.removeprefix(b"data: ") for each in events if each]


def body_for(path: str, *, stream: bool) -> bytes:
    asked: dict[str, object] = {"stream": stream}
    if path == GENERATE:
        asked |= {"text": "hello", "sampling_params": {"max_new_tokens": TOKENS}}
    else:
        asked |= {"prompt": "hello", "messages": [{"role": "user", "content": "hello"}]}
        asked |= {"max_tokens": TOKENS}
    if stream and path != GENERATE:
        asked["stream_options"] = {"include_usage": True}
    return json.dumps(asked).encode()


def see(fault: Fault, path: str, *, stream: bool, patience_s: float = 10) -> Seen:
    """The response to one request that the fault befalls, read until it ends by itself."""
    content = body_for(path, stream=stream)
    request = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with FakeServer(Script(ttft_ms=1, itl_ms=0.2, fault=fault)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=patience_s) as sock:
            sock.sendall(request + content)
            received, end = _read(sock)
        (truth,) = server.truth
    head, _, body = received.partition(b"\r\n\r\n")
    return Seen(head=head.decode(), body=body, end=end, truth=truth)


def _read(sock: socket.socket) -> tuple[bytes, str]:
    received = b""
    while not _complete(received):
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            return received, "reset"
        except TimeoutError:
            return received, "silence"
        if not data:
            return received, "closed"
        received += data
    return received, "complete"


def _complete(received: bytes) -> bool:
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return False
    if b"content-length: " in head:
        return len(body) >= int(head.partition(b"content-length: ")[2].split()[0])
    return body.endswith(b"\r\n0\r\n\r\n")


def texts(event: bytes) -> str:
    document = json.loads(event)
    if "text" in document:
        return str(document["text"])
    choice = document["choices"][0] if document["choices"] else {}
    return str(choice.get("text") or choice.get("delta", {}).get("content") or "")


def timeless(event: bytes) -> bytes:
    """Without the only thing in it that is never the same twice."""
    return re.sub(rb',"e2e_latency":[^,}]+', b"", event)


def finish(document: dict[str, object]) -> object:
    if "meta_info" in document:
        return document["meta_info"]["finish_reason"]  # type: ignore[index]
    return document["choices"][0]["finish_reason"]  # type: ignore[index]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    ("fault", "status"),
    [("http_500", 500), ("http_429", 429), ("http_503", 503), ("redirect", 302)],
)
def test_a_status_that_is_not_200(fault: Fault, status: int, stream: bool) -> None:
    for path in APIS:
        seen = see(fault, path, stream=stream)
        assert (seen.status, seen.end) == (status, "complete")
        assert json.loads(seen.body)["error"]["message"] == "scripted failure"
        assert ("location: /moved" in seen.head) == (fault == "redirect")
        assert ("retry-after: 1" in seen.head) == (fault == "http_429")
        assert seen.truth.tokens == 0
        assert seen.truth.fault == fault


@pytest.mark.parametrize("stream", [True, False])
def test_a_page_for_people(stream: bool) -> None:
    seen = see("wrong_type", CHAT, stream=stream)
    assert (seen.status, seen.end) == (200, "complete")
    assert "content-type: text/html" in seen.head
    assert seen.body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize(("fault", "end"), [("cut", "closed"), ("reset", "reset")])
def test_a_connection_that_ends_in_the_middle(path: str, fault: Fault, end: str) -> None:
    streamed = see(fault, path, stream=True)
    assert (streamed.end, streamed.truth.tokens) == (end, 2)
    assert b"[DONE]" not in streamed.body
    whole = see(fault, path, stream=False)
    length = int(whole.head.partition("content-length: ")[2].split()[0])
    assert whole.end == end
    assert 0 < len(whole.body) < length
    assert whole.truth.tokens == 0


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", APIS)
def test_silence_in_the_middle(path: str, stream: bool) -> None:
    seen = see("stall", path, stream=stream, patience_s=0.3)
    assert seen.end == "silence"
    assert seen.body
    assert seen.truth.tokens == (2 if stream else 0)


@pytest.mark.parametrize("path", APIS)
def test_tokens_without_end(path: str) -> None:
    seen = see_first("infinite", path)
    assert seen.truth.tokens > 3 * TOKENS
    assert b"[DONE]" not in seen.body
    assert see("infinite", path, stream=False, patience_s=0.2).body == b""


def see_first(fault: Fault, path: str) -> Seen:
    """What comes until there is more than three times what was asked for."""
    content = body_for(path, stream=True)
    request = f"POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    received = b""
    with FakeServer(Script(ttft_ms=0, itl_ms=0, fault=fault)) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(request + content)
            while received.count(b"data: ") <= 3 * TOKENS:
                received += sock.recv(65536)
        (truth,) = server.truth
    head, _, body = received.partition(b"\r\n\r\n")
    return Seen(head=head.decode(), body=body, end="left", truth=truth)


@pytest.mark.parametrize("path", APIS)
def test_an_error_told_with_status_200(path: str) -> None:
    seen = see("error", path, stream=True)
    assert seen.end == "complete"
    error = json.loads(seen.events[-2])["error"]
    assert (error["message"], seen.events[-1]) == ("scripted failure", b"[DONE]")
    if path == GENERATE:
        assert (error["type"], error["retryable"]) == ("invalid_request_error", False)
    assert seen.truth.tokens == 2
    whole = see("error", path, stream=False)
    assert (whole.status, whole.end) == (200, "complete")
    assert json.loads(whole.body)["error"]["message"] == "scripted failure"


@pytest.mark.parametrize("path", APIS)
def test_an_abort_is_a_finish_like_any_other(path: str) -> None:
    seen = see("abort", path, stream=True)
    assert seen.events[-1] == b"[DONE]"
    reasons = [finish(json.loads(each)) for each in seen.events[:-1] if b'"choices":[]' not in each]
    whole = see("abort", path, stream=False)
    told = finish(json.loads(whole.body))
    if path == GENERATE:
        assert reasons[:2] == [None, None]
        assert reasons[2]["type"] == "abort"  # type: ignore[index]
        assert reasons[2]["status_code"] == 500  # type: ignore[index]
        assert told["type"] == "abort"  # type: ignore[index]
    else:
        assert (reasons, told) == ([None, None, "abort"], "abort")
    assert seen.truth.tokens == whole.truth.tokens == 2


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("fault", ["garbage", "half_json"])
def test_what_is_no_json(fault: Fault, stream: bool) -> None:
    for path in APIS:
        seen = see(fault, path, stream=stream)
        assert (seen.status, seen.end) == (200, "complete")
        broken = 0
        for event in seen.events if stream else [seen.body]:
            try:
                json.loads(event) if event != b"[DONE]" else None
            except (ValueError, UnicodeDecodeError):
                broken += 1
        assert broken >= 1
        assert seen.truth.tokens == (2 if stream else 0)


def test_half_an_event_hides_in_a_stream_that_ends_well() -> None:
    events = see("half_json", CHAT, stream=True).events
    assert events[2].startswith(b'{"id":"sim-0"')
    assert events[-1] == b"[DONE]"
    assert json.loads(events[-2])["usage"]["completion_tokens"] == TOKENS


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize(
    ("fault", "tokens"), [("short", TOKENS - 1), ("long", TOKENS + 1), ("empty", 0)]
)
def test_another_number_of_tokens_than_asked_for(path: str, fault: Fault, tokens: int) -> None:
    for stream in (True, False):
        seen = see(fault, path, stream=stream)
        assert seen.end == "complete"
        assert seen.truth.tokens == tokens
        told = seen.events[-2] if stream else seen.body
        assert f'"completion_tokens":{tokens}'.encode() in told


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_response_without_usage(path: str, stream: bool) -> None:
    seen = see("no_usage", path, stream=stream)
    assert (seen.end, seen.truth.tokens) == ("complete", TOKENS)
    assert b"completion_tokens" not in seen.body


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_response_without_a_reason_to_end(path: str, stream: bool) -> None:
    seen = see("no_finish", path, stream=stream)
    assert (seen.end, seen.truth.tokens) == ("complete", TOKENS)
    assert b'"length"' not in seen.body


@pytest.mark.parametrize("path", APIS)
def test_a_stream_without_its_mark_at_the_end(path: str) -> None:
    seen = see("no_done", path, stream=True)
    assert (seen.end, seen.truth.tokens) == ("complete", TOKENS)
    assert b"[DONE]" not in seen.body


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize("stream", [True, False])
def test_a_few_bytes_at_a_time_say_the_same(path: str, stream: bool) -> None:
    dripped, plain = (see(fault, path, stream=stream) for fault in ("drip", "no_done"))
    if stream:
        told = list(map(timeless, dripped.events))
        assert told == [*map(timeless, plain.events), b"[DONE]"]
        assert "".join(map(texts, dripped.events[:-1])).endswith("w5 ")
    else:
        assert (dripped.status, timeless(dripped.body)) == (plain.status, timeless(plain.body))
    assert dripped.truth.tokens == TOKENS


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_befalls_only_those_it_is_scripted_for(fault: Fault) -> None:
    content = body_for(CHAT, stream=True)
    request = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    script = Script(ttft_ms=0, itl_ms=0, fault=fault, fault_from=1, fault_every=2)
    with FakeServer(script) as server:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
                sock.sendall(request + content)
                assert _read(sock)[0].endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")
        assert [truth.fault for truth in server.truth] == [None, None]


def test_a_fault_in_the_middle_comes_to_the_shortest_responses_too() -> None:
    script = Script(ttft_ms=0, itl_ms=0, fault="cut", fault_after_tokens=100)
    content = body_for(CHAT, stream=True)
    request = f"POST {CHAT} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with FakeServer(script) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(request + content)
            received, end = _read(sock)
        (truth,) = server.truth
    assert (end, truth.tokens) == ("closed", TOKENS)
    assert b"finish_reason" in received
    assert b'"length"' not in received
