"""The server that answers as an engine did."""

from __future__ import annotations

import http.client
import os
import socket
from collections.abc import Iterator

import pytest

from benchmarks.engines.replay import REWIND, Part, Script, replaying
from benchmarks.engines.tap import Call
from pytest_llmperf import clock
from pytest_llmperf.launch import ports

MS = 1_000_000
ASIDE = b"GET /server_info HTTP/1.1"
GENERATE = "/v1/chat/completions"


def answer(text: bytes, *, ms: int = 0, headers: bytes = b"") -> tuple[Part, ...]:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%s\r\n" % (len(text), headers)
    return Part(0, head), *(Part(ms * MS, bytes([each])) for each in text)


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    number = ports.claim_port("127.0.0.1")
    script = Script(
        generated=(answer(b"one", ms=40), answer(b"two", headers=b"connection: close\r\n")),
        others={ASIDE: answer(b"about")},
    )
    try:
        with replaying(script, number, min(os.sched_getaffinity(0))):
            yield number
    finally:
        ports.release_port(number)


@pytest.fixture
def connection(port: int) -> Iterator[http.client.HTTPConnection]:
    found = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    asked(found, REWIND.method, REWIND.path)
    yield found
    found.close()


def asked(connection: http.client.HTTPConnection, method: str, path: str) -> bytes:
    connection.request(method, path, body=b"{}" if method == "POST" else None)
    return connection.getresponse().read()


def test_answers_come_in_the_order_of_requests_and_begin_anew_when_told(
    connection: http.client.HTTPConnection,
) -> None:
    order = [asked(connection, "POST", GENERATE) for _ in range(3)]
    assert order == [b"one", b"two", b"one"]
    asked(connection, REWIND.method, REWIND.path)
    assert asked(connection, "POST", GENERATE) == b"one"


def test_parts_keep_their_distance_from_the_request(
    connection: http.client.HTTPConnection,
) -> None:
    watch = clock.Stopwatch()
    asked(connection, "POST", GENERATE)
    assert watch.elapsed >= 0.040


def test_other_questions_are_answered_out_of_turn(connection: http.client.HTTPConnection) -> None:
    assert asked(connection, "GET", "/server_info") == b"about"
    assert asked(connection, "GET", "/health") == b""
    assert asked(connection, "POST", GENERATE) == b"one"


@pytest.mark.usefixtures("connection")
def test_a_connection_ends_where_the_answer_says_so(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=30) as own:
        for _ in range(2):  # the second answer says that it is the last
            own.sendall(f"POST {GENERATE} HTTP/1.1\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        received = b"".join(iter(lambda: own.recv(4096), b""))
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert received.endswith(b"connection: close\r\n\r\ntwo")


def test_a_script_is_what_was_tapped() -> None:
    generation = Call(opened_ns=None, written_ns=10, reads=[b"a", b"b"], stamps=[15, 30])
    question = Call(opened_ns=None, written_ns=50, reads=[b"c"], stamps=[51])
    question.asked += ASIDE + b"\r\n\r\n"
    unanswered = Call(opened_ns=None, written_ns=60)
    script = Script.of([generation], [question, unanswered])
    assert script.generated == ((Part(5, b"a"), Part(20, b"b")),)
    assert script.others == {ASIDE: (Part(1, b"c"),)}
