"""Connections: where a response ends, however it is framed and however its bytes are split."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.planned import Asked, Turn
from pytest_llmperf.load.send.connect import Origin, open_connection, parse_origin
from pytest_llmperf.load.send.wire import Connection, Exchange

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


EVENTS = [b'data: {"a": 1}\n\n', b"data: {}\n\n", b"data: [DONE]\n\n"]
STREAM = CHUNKED + b"".join(chunk(event) for event in EVENTS) + b"0\r\n\r\n"
RESPONSES = {
    "chunked": STREAM,
    "chunked with carriage returns": CHUNKED
    + chunk(b"data: {}\r\n\r\n")
    + chunk(b"data: [DONE]\r\n\r\n")
    + b"0\r\n\r\n",
    "chunked with a trailer": CHUNKED + chunk(EVENTS[2]) + b"0\r\nx-more: 1\r\n\r\n",
    "a body that looks like an end": CHUNKED
    + chunk(b"x\r\n0\r\n\r\n")
    + chunk(b"y")
    + b"0\r\n\r\n",
    "counted": HEAD + b"Content-Length: 5\r\n\r\nhello",
    "counted with an end inside": HEAD + b"content-length: 9\r\n\r\na\r\n0\r\n\r\nb",
    "empty": HEAD + b"content-length: 0\r\n\r\n",
}


def get() -> Exchange:
    """A request nobody reads."""
    return Exchange(Turn(index=0, payload=b"GET", asked=Asked(output_tokens=1, api="chat")))


class FakeSocket(socket.socket):
    """A socket that takes everything."""

    def __init__(self) -> None:
        pass

    def __del__(self) -> None:
        pass

    def send(self, data: object, flags: int = 0) -> int:
        assert isinstance(data, bytes)
        return len(data)


def fed(pieces: Sequence[bytes]) -> tuple[Exchange, list[int]]:
    """The exchange after ``pieces`` were read, and after how many of them it had ended."""
    ended: list[int] = []
    read = 0
    connection = Connection(lambda _: ended.append(read), FakeSocket())
    exchange = get()
    connection.send(exchange)
    for read, piece in enumerate(pieces, 1):  # noqa: B007 - seen by the callback
        connection.data_received(piece)
    return exchange, ended


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_a_response_ends_exactly_with_its_last_byte(response: bytes) -> None:
    exchange, ended = fed([response])
    assert ended == [1]
    assert exchange.outcome == "complete"
    bytewise = [response[at : at + 1] for at in range(len(response))]
    exchange, ended = fed(bytewise)
    assert ended == [len(response)]
    assert b"".join(exchange.reads) == response
    assert len(exchange.stamps) == len(exchange.reads)
    assert exchange.ended_ns == exchange.stamps[-1]


@given(st.sampled_from(sorted(RESPONSES)), st.lists(st.integers(0, 400), max_size=6))
def test_any_split_ends_once_and_at_the_end(name: str, cuts: list[int]) -> None:
    response = RESPONSES[name]
    places = sorted({min(cut, len(response)) for cut in cuts})
    pieces = [
        response[a:b] for a, b in zip([0, *places], [*places, len(response)], strict=True) if a < b
    ]
    _, ended = fed(pieces)
    assert ended == [len(pieces)]


@pytest.mark.parametrize("response", RESPONSES.values(), ids=RESPONSES)
def test_a_response_without_its_last_byte_has_not_ended(response: bytes) -> None:
    _, ended = fed([response[:-1]])
    assert not ended


def test_what_is_not_http_is_given_up() -> None:
    exchange, ended = fed([b"x" * (300 * 1024)])
    assert ended == [1]
    assert exchange.outcome == "garbage"


def test_broken_chunks_are_given_up() -> None:
    exchange, ended = fed([CHUNKED, b"zz\r\nnonsense\r\n\r\n"])
    assert ended == [2]
    assert exchange.outcome == "garbage"


def test_a_body_without_length_ends_with_the_connection() -> None:
    done: list[Connection] = []
    connection = Connection(done.append, FakeSocket())
    exchange = get()
    connection.send(exchange)
    connection.data_received(HEAD + b"\r\ndata: x\n\n")
    assert not done
    connection.connection_lost(None)
    assert (exchange.outcome, len(done)) == ("complete", 1)


@pytest.mark.parametrize("so_far", [b"", HEAD, STREAM[:-9]])
def test_a_lost_connection_cuts_what_was_not_complete(so_far: bytes) -> None:
    connection = Connection(lambda _: None, FakeSocket())
    exchange = get()
    connection.send(exchange)
    if so_far:
        connection.data_received(so_far)
    connection.connection_lost(None)
    assert exchange.outcome == "cut"
    assert exchange.detail == "the server closed the connection"


def test_a_server_that_closes_after_each_response_leaves_the_connection_unusable() -> None:
    connection = Connection(lambda _: None, FakeSocket())
    connection.usable = True
    connection.send(get())
    connection.data_received(HEAD + b"Connection: close\r\ncontent-length: 2\r\n\r\nok")
    assert not connection.usable


def test_addresses() -> None:
    assert parse_origin("http://127.0.0.1:30000") == Origin(
        host="127.0.0.1", port=30000, tls=False, base_path=""
    )
    assert parse_origin("https://api.example.com/v1/") == Origin(
        host="api.example.com", port=443, tls=True, base_path="/v1"
    )
    assert parse_origin("http://[::1]:80").authority == "[::1]:80"
    with pytest.raises(ValueError, match="not an http or https address"):
        parse_origin("ftp://x")


def test_a_port_where_nobody_listens_is_an_os_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        origin = Origin(host="127.0.0.1", port=taken.getsockname()[1], tls=False, base_path="")
        with pytest.raises(OSError, match=r"111|refused|failed"):
            asyncio.run(open_connection(origin, lambda _: None, timeout_s=5))
