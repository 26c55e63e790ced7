"""Server-sent events: the same events however the bytes are split, and errors for garbage."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.read.sse import (
    MAX_LINE_BYTES,
    SseError,
    SseEvent,
    SseParser,
    _plain,
)


def parse(*pieces: bytes) -> list[SseEvent]:
    parser = SseParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_every_line_ending_separates_events(end: str) -> None:
    text = "data: one\n\ndata: two\n\n".replace("\n", end).encode()
    assert parse(text) == [SseEvent(b"one"), SseEvent(b"two")]


def test_data_lines_are_joined_and_comments_and_other_fields_skipped() -> None:
    text = b": hello\nevent: error\nid: 7\nretry: 10\ndata: a\ndata:b\ndata:  c\n\n"
    assert parse(text) == [SseEvent(b"a\nb\n c", "error")]


def test_a_byte_order_mark_is_dropped_even_when_it_comes_in_pieces() -> None:
    assert parse(b"\xef", b"\xbb", b"\xbfdata: x\n\n") == [SseEvent(b"x")]


def test_a_stream_may_begin_with_an_empty_line() -> None:
    assert parse(b"\ndata: x\n\n") == [SseEvent(b"x")]
    assert parse(b"\xef", b"\xbb\xbf\ndata: x\n\n") == [SseEvent(b"x")]


@pytest.mark.parametrize(
    ("data", "begun"),
    [(b"", False), (b"\xef\xbb", False), (b"\xef\xbb\xbf", True), (b"d", True), (b"\xefd", True)],
)
def test_a_stream_has_begun_once_no_mark_can_come_any_more(data: bytes, begun: bool) -> None:
    parser = SseParser()
    assert parser.begun is False
    parser.feed(data)
    assert parser.begun is begun


def test_a_name_that_is_no_text_is_kept_as_well_as_may_be() -> None:
    assert parse(b"event: a\xff\ndata: x\n\n") == [SseEvent(b"x", "a\ufffd")]


def test_an_event_without_data_is_none_and_its_name_is_forgotten() -> None:
    assert parse(b"event: error\n\ndata: x\n\n") == [SseEvent(b"x")]


def test_an_unfinished_event_is_pending_and_not_an_event() -> None:
    parser = SseParser()
    assert parser.feed(b"data: x\n") == []
    assert parser.pending
    assert parser.feed(b"\n") == [SseEvent(b"x")]
    assert not parser.pending


@pytest.mark.parametrize("garbage", [b"{}\n", b"<html>\r\n", b"\x00\xff\n", b"dato: 1\n"])
def test_garbage_is_an_error(garbage: bytes) -> None:
    with pytest.raises(SseError, match="not a field"):
        parse(garbage)


@pytest.mark.parametrize("cut", [0, 5, 9, 10])
def test_an_error_hands_on_what_was_complete_before_it(cut: int) -> None:
    text = b"data: x\n\n{}\n"
    parser = SseParser()
    events = parser.feed(text[:cut])
    with pytest.raises(SseError) as caught:
        parser.feed(text[cut:])
    assert [*events, *caught.value.before] == [SseEvent(b"x")]


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_without_end_is_an_error(end: bytes) -> None:
    parser = SseParser()
    parser.feed(b"x" * MAX_LINE_BYTES)
    with pytest.raises(SseError, match="a line of more than"):
        parser.feed(b"x" + end)


def test_a_line_too_long_is_an_error_even_where_it_comes_whole() -> None:
    parser = SseParser()
    parser.feed(b"data: x\n\n")
    with pytest.raises(SseError, match="a line of more than"):
        parser.feed(b"data: " + b"x" * MAX_LINE_BYTES + b"\n\n")


def test_between_events_nothing_is_owed() -> None:
    parser = SseParser()
    parser.feed(b"data: x\n\n")
    assert parser.between_events
    parser.feed(b"event: y\n")
    assert not parser.between_events
    parser.feed(b"\r")
    assert not parser.pending
    assert not parser.between_events, "a line feed may follow that is part of the same line end"
    parser.feed(b"\n")
    assert parser.between_events


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"data: a\n\n", [b"a"]),
        (b"data: \n\n", [b""]),
        (b"data: a\n\ndata:  b \n\n", [b"a", b" b "]),
        (b"data: data: a\n\n", [b"data: a"]),
    ],
)
def test_what_nearly_all_servers_send_needs_no_parsing(data: bytes, lines: list[bytes]) -> None:
    """A stream of a million events depends on it: the parser takes many times as long."""
    assert _plain(data) == [SseEvent(line) for line in lines]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"data: a\n",
        b"data:a\n\n",
        b"Data: a\n\n",
        b"data: a\r\n\r\n",
        b"data: a\rb\n\n",
        b"data: a\ndata: b\n\n",
        b"data: a\n\ndata:b\n\n",
        b"data: a\n\n\n\n",
        b"event: e\ndata: a\n\n",
        b"data: a\n\nevent: e\ndata: a\n\n",
    ],
)
def test_whatever_is_not_plain_is_parsed(data: bytes) -> None:
    assert _plain(data) is None


def test_plain_events_are_no_longer_than_a_line_may_be() -> None:
    longest = b"data: " + b"x" * (MAX_LINE_BYTES - 8) + b"\n\n"
    assert _plain(longest) is not None
    assert _plain(b"data: x" + longest[6:]) is None


DATA = st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=12)


@given(
    events=st.lists(st.lists(DATA, min_size=1, max_size=3), max_size=5),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    bom=st.booleans(),
    data=st.data(),
)
def test_any_split_gives_the_same_events(
    events: list[list[str]], end: str, bom: bool, data: st.DataObject
) -> None:
    lines = "".join("".join(f"data: {line}{end}" for line in event) + end for event in events)
    text = (b"\xef\xbb\xbf" if bom else b"") + lines.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    expected = [SseEvent("\n".join(event).encode()) for event in events]
    assert parse(*pieces) == expected
    assert parse(*(text[at : at + 1] for at in range(len(text)))) == expected


LINES = st.lists(
    st.sampled_from([b"data: a", b"data", b": x", b"event: e", b"id:1", b"{}", b"\xef\xbb\xbf"])
    | st.binary(max_size=8),
    max_size=12,
)
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b""])


@given(LINES, ENDS, st.lists(st.integers(0, 200), max_size=5))
def test_arbitrary_bytes_end_in_the_same_events_and_error_for_every_split(
    lines: list[bytes], end: bytes, cuts: list[int]
) -> None:
    text = end.join(lines) + end

    def outcome(pieces: Iterable[bytes]) -> tuple[list[SseEvent], str]:
        parser = SseParser()
        events: list[SseEvent] = []
        try:
            for piece in pieces:
                events += parser.feed(piece)
        except SseError as error:
            return [*events, *error.before], str(error)
        return events, ""

    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    found = outcome(text[a:b] for a, b in pairwise(places))
    assert found == outcome([text])
    assert found == outcome(text[at : at + 1] for at in range(len(text)))
