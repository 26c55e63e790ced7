"""HTTP taken apart: what plain framing says is what a parser says, and doubt means the parser."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.read.framing import Http, Plain, may_be_head, may_go_on, plain_events
from pytest_llmperf.load.read.sse import MAX_LINE_BYTES, SseParser

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: Chunked\r\n\r\n"
HELD = 256 * 1024


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


def event(data: bytes) -> bytes:
    return chunk(b"data: " + data + b"\n\n")


def test_a_head_is_read_once_it_is_complete() -> None:
    http = Http()
    assert http.status is None
    assert http.feed(CHUNKED[:-2])
    assert http.status is None
    assert http.feed(b"\r\n")
    assert http.status == 200
    assert http.media_type == b"text/event-stream"
    assert http.location == b""
    assert http.error == ""
    assert not http.complete


def test_a_redirect_says_where_to() -> None:
    http = Http()
    assert http.feed(b"HTTP/1.1 307 No\r\nLOCATION: http://there/\r\nContent-Length: 0\r\n\r\n")
    assert (http.status, http.location, http.media_type) == (307, b"http://there/", b"")
    assert http.complete


def test_a_trailer_changes_nothing_that_the_head_said() -> None:
    http = Http()
    assert http.feed(CHUNKED + chunk(b"x") + b"0\r\nContent-Type: text/html\r\n\r\n")
    assert http.media_type == b"text/event-stream"
    assert http.complete
    assert http.pieces == [b"x"]


def test_after_garbage_nothing_is_read_any_more() -> None:
    http = Http()
    assert not http.feed(b"SSH-2.0-OpenSSH\r\n")
    assert "HTTP" in http.error
    said = http.error
    assert not http.feed(CHUNKED)
    assert http.error == said
    assert http.status is None


def test_garbage_past_the_head_is_an_error_and_the_status_is_kept() -> None:
    http = Http()
    assert not http.feed(CHUNKED + b"zz\r\n")
    assert http.status == 200
    assert http.error
    assert not http.between_chunks


def test_between_chunks_is_after_the_head_and_after_each_whole_chunk() -> None:
    http = Http()
    assert not http.between_chunks
    assert http.feed(CHUNKED)
    assert http.between_chunks
    assert http.feed(b"3\r\n")
    assert not http.between_chunks, "a chunk has begun"
    assert http.feed(b"abc")
    assert not http.between_chunks, "its line end is missing"
    assert http.feed(b"\r\n")
    assert http.between_chunks
    assert http.feed(b"0\r\n\r\n")
    assert http.complete
    assert not http.between_chunks, "the body is over"


def test_a_chunk_that_ends_in_a_line_end_is_not_taken_for_a_whole_one() -> None:
    http = Http()
    assert http.feed(CHUNKED + b"4\r\nab\r\n")
    assert not http.between_chunks


@pytest.mark.parametrize("length", [b"Content-Length: 5\r\n", b"Transfer-Encoding: gzip\r\n", b""])
def test_a_body_that_is_not_chunked_has_no_chunks_to_be_between(length: bytes) -> None:
    http = Http()
    http.feed(HEAD + length + b"\r\n")
    assert not http.between_chunks


# --- framing that is plain -------------------------------------------------------------------


def test_plain_events_have_their_data_and_their_size_on_the_wire() -> None:
    first, second = event(b"{}"), event(b"x" * 300)
    plain = plain_events(first + second)
    assert plain is not None
    assert list(plain.datas) == [b"{}", b"x" * 300]
    assert plain.sizes == [len(first), len(second)]
    assert plain.size == len(first) + len(second)


def test_what_comes_after_the_last_whole_event_is_left() -> None:
    plain = plain_events(event(b"a") + b"ff\r\ndata: {")
    assert plain is not None
    assert plain.size == len(event(b"a"))
    assert list(plain.datas) == [b"a"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"data: a\n\n",
        b"0\r\n\r\n",
        chunk(b"data: a\n"),
        chunk(b"data:a\n\n"),
        chunk(b"Data: a\n\n"),
        chunk(b"event: e\ndata: a\n\n"),
        chunk(b"data: a\ndata: b\n\n"),
        chunk(b"data: a\rdata: b\n\n"),
        chunk(b"data: a\n\ndata: b\n\n"),
        chunk(b"data: a\n") + chunk(b"\n"),
        event(b"a") + chunk(b": comment\n\n"),
        b"0a;name=value\r\ndata: abc\n\n\r\n",
        b"0B\r\ndata: abc\n\n\r\n",
        b"zz\r\ndata: abc\n\n\r\n",
    ],
)
def test_whatever_is_not_plain_is_left_to_the_parser(data: bytes) -> None:
    assert plain_events(data) is None


def test_what_is_longer_than_any_line_may_be_is_left_to_the_parser() -> None:
    filling = b"x" * (MAX_LINE_BYTES - len(b"ffffff\r\ndata: \n\n\r\n"))
    whole = event(filling)
    assert len(whole) == MAX_LINE_BYTES
    assert plain_events(whole) is not None
    assert plain_events(event(filling + b"x")) is None


@given(
    datas=st.lists(st.binary(max_size=40), min_size=1, max_size=6),
    rest=st.binary(max_size=12),
)
def test_plain_framing_says_what_the_parsers_say(datas: list[bytes], rest: bytes) -> None:
    data = b"".join(map(event, datas)) + rest
    plain = plain_events(data)
    if plain is None:
        return
    http = Http()
    assert http.feed(CHUNKED + data[: plain.size])
    sse = SseParser()
    assert [each.data for each in sse.feed(b"".join(http.pieces))] == list(plain.datas)
    assert http.between_chunks
    assert sse.between_events


@given(st.lists(st.text(st.characters(exclude_characters="\r\n"), max_size=20), min_size=1))
def test_clean_data_is_always_plain(texts: list[str]) -> None:
    datas = [text.encode("utf-8", "replace") for text in texts]
    plain = plain_events(b"".join(map(event, datas)))
    assert plain is not None
    assert list(plain.datas) == datas


def test_each_event_has_the_stamp_of_the_read_that_completed_it() -> None:
    events = [event(b"a"), event(b"bb"), event(b"ccc")]
    plain = plain_events(b"".join(events))
    assert plain is not None
    assert list(plain.stamps(events, [10, 20, 30])) == [10, 20, 30]
    assert list(plain.stamps([*events, b"more"], [10, 20, 30, 40])) == [10, 20, 30]
    assert list(plain.stamps([b"".join(events)], [7])) == [7, 7, 7]
    assert list(plain.stamps([events[0] + events[1], events[2]], [1, 2])) == [1, 1, 2]


@pytest.mark.parametrize(("late", "stamp"), [(0, 1), (1, 1), (2, 1), (3, 2), (4, 2)])
def test_an_event_needs_no_line_end_of_its_chunk(late: int, stamp: int) -> None:
    """The event's own last byte is the one before the two that close the chunk."""
    one = event(b"a")
    plain = plain_events(one)
    assert plain is not None
    cut = len(one) - late
    assert list(plain.stamps([one[:cut], one[cut:]], [1, 2])) == [stamp]


def test_what_may_still_become_an_event_is_waited_for() -> None:
    assert may_go_on(b"ff\r\ndata: {")
    assert may_go_on(b"x" * (HELD - 1))
    assert not may_go_on(b"x" * HELD)
    assert not may_go_on(event(b"a") + b"ff")
    assert not may_go_on(b"0\r\n\r\n")
    assert may_go_on(b"0\r\n\r\n0")


def test_a_head_is_waited_for_as_long_as_it_may_be_one() -> None:
    assert may_be_head(b"")
    assert may_be_head(b"x" * (HELD - 1))
    assert not may_be_head(b"x" * HELD)


def test_the_size_is_that_of_all() -> None:
    assert Plain([b"a", b"b"], [3, 4]).size == 7


def test_the_parser_is_the_one_that_is_meant() -> None:
    """A response without reason or version is none: what httptools says is handed on."""
    http = Http()
    assert not http.feed(b"HTTP/9.9 200 OK\r\n\r\n")
    with pytest.raises(httptools.HttpParserError) as caught:
        httptools.HttpResponseParser(object()).feed_data(b"HTTP/9.9 200 OK\r\n\r\n")
    assert http.error == str(caught.value)
