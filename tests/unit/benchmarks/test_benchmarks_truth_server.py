"""The ground-truth server's log against what a plain socket reads."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from benchmarks.truth.log import TrueRequest
from benchmarks.truth.server import Fault, TruthServer, build
from processes import until
from pytest_llmperf import clock

END = b"\r\n0\r\n\r\n"


@dataclass
class Heard:
    """What came over a socket: each read's bytes, and when it was back (ns)."""

    reads: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def received(self) -> bytes:
        return b"".join(data for _, data in self.reads)

    @property
    def events(self) -> list[bytes]:
        body = self.received.partition(b"\r\n\r\n")[2]
        return [part.split(b"\n\n", 1)[0] for part in body.split(b"data: ")[1:]]

    @property
    def documents(self) -> list[dict[str, Any]]:
        return [json.loads(event) for event in self.events if event != b"[DONE]"]

    def arrival_ns(self, position: int) -> int:
        """When the end of the event at this position was read."""
        ends = [at + len(b"\n\n") for at in _ends(self.received)]
        reached = 0
        for at_ns, data in self.reads:
            reached += len(data)
            if reached >= ends[position]:
                return at_ns
        raise AssertionError("not that many events")


def _ends(received: bytes) -> Iterator[int]:
    at = received.find(b"data: ")
    while at >= 0:
        at = received.find(b"\n\n", at)
        yield at
        at = received.find(b"data: ", at)


def connect(server: TruthServer, *, receive_buffer: int | None = None) -> socket.socket:
    sock = socket.socket()
    sock.settimeout(20)
    if receive_buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    sock.connect(("127.0.0.1", urlsplit(server.url).port))
    return sock


def chat(content: object = "hello", *, tokens: int = 8, **fields: object) -> bytes:
    asked = {
        "model": "truth",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": tokens,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
    }
    return post("/v1/chat/completions", asked | fields)


def post(path: str, asked: object) -> bytes:
    body = json.dumps(asked).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def listen(sock: socket.socket, *, until: bytes = END, at_most: int = 65536) -> Heard:
    heard = Heard()
    while not heard.received.endswith(until):
        data = sock.recv(at_most)
        if not data:
            break
        heard.reads.append((clock.now_ns(), data))
    return heard


def ask(server: TruthServer, request: bytes, *, until: bytes = END) -> Heard:
    with closing(connect(server)) as sock:
        sock.sendall(request)
        return listen(sock, until=until)


def tokens_in(heard: Heard) -> int:
    return heard.documents[-1]["usage"]["completion_tokens"]  # type: ignore[no-any-return]


def test_every_chunk_is_logged_just_before_it_arrives() -> None:
    with TruthServer(ttft_ms=10, itl_ms=3) as server:
        before = clock.now_ns()
        heard = ask(server, chat(tokens=20))
        truth = server.truth()[0]
    assert [chunk.tokens for chunk in truth.chunks] == [1] * 20
    counts = [document["usage"]["completion_tokens"] for document in heard.documents]
    assert counts == [*range(1, 21), 20, 20]
    assert before <= truth.received_ns < truth.chunks[0].at_ns
    for position, chunk in enumerate(truth.chunks):
        assert chunk.at_ns <= heard.arrival_ns(position)
    assert truth.ended_ns >= truth.chunks[-1].at_ns
    assert truth.ok


def test_a_chunk_arrives_before_the_next_one_is_due() -> None:
    """One send for each chunk, at once: with a long gap none waits for another."""
    with TruthServer(ttft_ms=5, itl_ms=60) as server:
        heard = ask(server, chat(tokens=4))
        truth = server.truth()[0]
    arrivals = [heard.arrival_ns(position) for position in range(4)]
    leaving = [chunk.at_ns for chunk in truth.chunks]
    assert sorted([*arrivals, *leaving]) == [
        at for pair in zip(leaving, arrivals, strict=True) for at in pair
    ]


def due_ns(request: TrueRequest) -> list[int]:
    return [chunk.at_ns - chunk.late_ns for chunk in request.chunks]


def test_streams_step_together_on_one_clock() -> None:
    with TruthServer(ttft_ms=40, itl_ms=5) as server:
        socks = [connect(server) for _ in range(6)]
        for sock in socks:
            sock.sendall(chat(tokens=6))
        for sock in socks:
            listen(sock)
            sock.close()
        truth = server.truth()
    first = due_ns(truth[0])
    assert first == [truth[0].received_ns + 40_000_000 + step * 5_000_000 for step in range(6)]
    for request in truth[1:]:
        assert {(at - first[0]) % 5_000_000 for at in due_ns(request)} == {0}
        assert 35_000_000 < due_ns(request)[0] - request.received_ns <= 40_000_000


def test_free_streams_keep_their_own_time() -> None:
    with TruthServer(ttft_ms=7, itl_ms=3, free=True) as server:
        socks = [connect(server) for _ in range(3)]
        for sock in socks:
            sock.sendall(chat(tokens=5))
        for sock in socks:
            listen(sock)
            sock.close()
        truth = server.truth()
    for request in truth:
        start = request.received_ns + 7_000_000
        assert due_ns(request) == [start + step * 3_000_000 for step in range(5)]


@pytest.mark.parametrize(
    ("content", "count"),
    [
        ("hello", 5),
        ('a "quoted" line\n\\', 17),
        ("é€😀", 9),
        ([{"type": "text", "text": "ab"}, {"type": "text", "text": "c"}], 3),
    ],
)
def test_a_prompt_token_is_a_byte(content: object, count: int) -> None:
    with TruthServer(ttft_ms=1, itl_ms=1) as server:
        overhead = ask(server, chat("", tokens=1)).documents[-1]["usage"]["prompt_tokens"]
        heard = ask(server, chat(content, tokens=1))
        truth = server.truth()
    assert heard.documents[-1]["usage"]["prompt_tokens"] == overhead + count
    assert truth[1].prompt_tokens == overhead + count


@pytest.mark.parametrize(("prompt", "count"), [("abc", 3), ([7, 8, 9, 10], 4), (["ab", "c"], 3)])
def test_completions_take_texts_and_ids(prompt: object, count: int) -> None:
    asked = {"prompt": prompt, "max_tokens": 4, "stream": False, "ignored": {"stream": True}}
    with TruthServer(ttft_ms=1, itl_ms=1) as server:
        heard = ask(server, post("/v1/completions", asked), until=b"}}")
    answer = json.loads(heard.received.partition(b"\r\n\r\n")[2])
    assert answer["usage"]["prompt_tokens"] == count
    assert answer["usage"]["completion_tokens"] == 4
    assert len(answer["choices"][0]["text"].split()) == 4


def test_usage_is_given_as_asked() -> None:
    with TruthServer(ttft_ms=1, itl_ms=1) as server:
        none = ask(server, chat(stream_options=None)).documents
        final = ask(server, chat(stream_options={"include_usage": True})).documents
    assert not any(document["usage"] for document in none)
    assert [bool(document["usage"]) for document in final] == [False] * 9 + [True]
    assert final[-1]["choices"] == []


def test_a_server_without_usage_never_gives_it() -> None:
    with TruthServer(ttft_ms=1, itl_ms=1, no_usage=True) as server:
        documents = ask(server, chat()).documents
    assert len(documents) == 9
    assert not any(document["usage"] for document in documents)


def test_reasoning_comes_first_and_no_chunk_spans_its_end() -> None:
    with TruthServer(
        ttft_ms=1, itl_ms=1, reasoning_fraction=0.5, tokens_per_chunk=4, role_first=True
    ) as server:
        heard = ask(server, chat(tokens=12))
        truth = server.truth()[0]
    deltas = [document["choices"][0]["delta"] for document in heard.documents[:-1]]
    assert deltas[0] == {
        "role": "assistant",
        "content": "",
        "reasoning_content": None,
        "tool_calls": None,
    }
    thought = "".join(delta.get("reasoning_content") or "" for delta in deltas)
    said = "".join(delta.get("content") or "" for delta in deltas)
    assert (len(thought.split()), len(said.split())) == (6, 6)
    found = [(chunk.tokens, chunk.reasoning) for chunk in truth.chunks]
    assert found == [(4, True), (2, True), (4, False), (2, False)]
    assert heard.documents[-1]["usage"]["reasoning_tokens"] == 6


@pytest.mark.parametrize(
    ("fault", "until", "tokens"),
    [
        ("error", END, 3),
        ("cut", b"never", 3),
        ("garbage", END, 3),
        ("http_500", b"}}", 0),
        ("no_finish", END, 8),
        ("no_done", END, 8),
    ],
)
def test_faults_befall_every_nth_stream(fault: Fault, until: bytes, tokens: int) -> None:
    with TruthServer(ttft_ms=1, itl_ms=1, fault=fault, fault_every=2) as server:
        good = ask(server, chat())
        ask(server, chat(stream=False), until=b"}}")  # not streamed: not counted, never spoilt
        bad = ask(server, chat(), until=until)
        truth = server.truth()
    assert [request.ok for request in truth] == [True, True, False]
    assert (truth[2].fault, truth[2].tokens) == (fault, tokens)
    assert good.events[-1] == b"[DONE]"
    assert (b'"error"' in bad.received) == (fault in ("error", "http_500"))
    assert (bad.events[-1:] == [b"[DONE]"]) == (fault in ("error", "no_finish"))
    assert (b'"finish_reason":"length"' in bad.received) == (fault == "no_done")


def test_a_stall_ends_with_the_client() -> None:
    with TruthServer(ttft_ms=1, itl_ms=1, fault="stall", fault_every=1) as server:
        with closing(connect(server)) as sock:
            sock.sendall(chat())
            heard = listen(
                sock,
                until=b'"completion_tokens":3,"prompt_tokens_details":null,"reasoning'
                b'_tokens":0}}\n\n\r\n',
            )
            sock.settimeout(0.2)
            with pytest.raises(TimeoutError):
                sock.recv(1)
        truth = server.truth()[0]
    assert len(heard.documents) == 3
    assert (truth.end, truth.tokens) == ("stall", 3)


def test_a_slow_reader_loses_nothing() -> None:
    """More than the socket takes: the rest of a send is kept, and later chunks wait for it."""
    with TruthServer(ttft_ms=0, flood=64) as server:
        with closing(connect(server, receive_buffer=4096)) as sock:
            sock.sendall(chat(tokens=30_000))
            clock.sleep(0.3)
            heard = Heard()
            while not heard.reads or not heard.reads[-1][1].endswith(END):
                heard.reads.append((clock.now_ns(), sock.recv(1 << 16)))
        truth = server.truth()[0]
    assert truth.blocked > 0
    assert truth.tokens == 30_000
    counts = [document["usage"]["completion_tokens"] for document in heard.documents]
    assert counts == [*range(1, 30_001), 30_000, 30_000]


def test_a_request_may_come_in_pieces_and_two_at_once() -> None:
    request = chat("x" * 20_000, tokens=2)
    with TruthServer(ttft_ms=1, itl_ms=1) as server, closing(connect(server)) as sock:
        for at in range(0, len(request), 5_000):
            sock.sendall(request[at : at + 5_000])
            clock.sleep(0.005)
        last_piece_ns = clock.now_ns() - 5_000_000
        first = listen(sock)
        sock.sendall(request + request)
        second = listen(sock)
        if second.received.count(END) < 2:
            listen(sock)
        truth = server.truth()
    assert tokens_in(first) == 2
    assert len(truth) == 3
    assert {each.prompt_tokens for each in truth} == {truth[0].prompt_tokens}
    assert {each.connection for each in truth} == {truth[0].connection}
    assert truth[0].received_ns > last_piece_ns - 20_000_000


def test_reset_forgets_and_refuses_while_streams_run() -> None:
    with TruthServer(ttft_ms=1, itl_ms=1, fault="stall", fault_every=2) as server:
        ask(server, chat())
        with closing(connect(server)) as sock:
            sock.sendall(chat())
            sock.recv(100)
            with pytest.raises(RuntimeError, match="409"):
                server.reset()
        assert until(lambda: server.truth()[-1].end != "open")
        server.reset()
        assert server.truth() == []
        assert ask(server, chat()).events[-1] == b"[DONE]"  # the count of faults begins anew


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1/models HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /health HTTP/1.1\r\n\r\n", b"200"),
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"404"),
        (post("/v1/completions", "no object")[:-3] + b"[[[", b"400"),
        (chat(tokens=10_000_000), b"400"),
    ],
)
def test_other_requests(request_: bytes, status: bytes) -> None:
    with TruthServer(ttft_ms=1, itl_ms=1) as server:
        heard = ask(server, request_, until=b"}")
    assert heard.received.split(b" ")[1] == status


def test_no_compiler_is_said_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.truth.server._FLAGS", ("-O0",))  # so that nothing is built yet
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RuntimeError, match="no C compiler was found"):
        build()
