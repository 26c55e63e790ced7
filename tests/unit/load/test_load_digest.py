"""However a response's bytes are grouped on their way in, its record is the same."""

from __future__ import annotations

import gc
import json
import tracemalloc
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_llmperf.load.planned import Asked, Turn
from pytest_llmperf.load.read.decode import decode
from pytest_llmperf.load.read.digest import Digest
from pytest_llmperf.load.read.reading import to_record
from pytest_llmperf.load.read.thinking import Thinking
from pytest_llmperf.load.send.wire import Exchange, Outcome
from pytest_llmperf.records import Api, RequestRecord

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"

calmly = settings(deadline=None)


def turn(api: Api = "chat", asked: int = 4) -> Turn:
    return Turn(index=0, payload=b"", asked=Asked(output_tokens=asked, api=api))


def exchange(asked: Turn, reads: Sequence[bytes], outcome: Outcome = "complete") -> Exchange:
    made = Exchange(asked)
    made.outcome = outcome
    made.reads.extend(reads)
    made.stamps.extend(range(1000, 1000 + len(reads)))
    return made


def in_pieces(asked: Turn, reads: Sequence[bytes], cuts: Sequence[int]) -> RequestRecord:
    """The record where the reads are taken in several goes."""
    digest = Digest(asked)
    made = exchange(asked, reads)
    for a, b in pairwise([0, *sorted(min(cut, len(reads)) for cut in cuts), len(reads)]):
        digest.take(made.reads[a:b], made.stamps[a:b])
    row, chunks = digest.finish(made)
    return to_record(row, chunks)


def at_once(asked: Turn, reads: Sequence[bytes]) -> RequestRecord:
    row, chunks = decode(exchange(asked, reads), asked)
    return to_record(row, chunks)


def reads_of(whole: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({min(cut, len(whole)) for cut in cuts})
    return [whole[a:b] for a, b in pairwise([0, *places, len(whole)]) if a < b]


def framed(pieces: Sequence[bytes], *, end: bool = True) -> bytes:
    chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces if piece]
    return HEAD + b"".join(chunks) + (b"0\r\n\r\n" if end else b"")


def delta(content: str | None, tokens: int | None, finish: str | None = None) -> bytes:
    document: dict[str, object] = {
        "choices": [{"delta": {"content": content}, "finish_reason": finish}]
    }
    if tokens is not None:
        document["usage"] = {"prompt_tokens": 3, "completion_tokens": tokens}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


GOOD = [
    delta("", None),
    delta("<think>", 1),
    delta("hm", 2),
    delta("</th", 3),
    delta("ink>é", 4),
    delta(None, None, "length"),
    DONE,
]
ODD = [
    b": ping\n\n",
    b"data: {nonsense\n\n",
    b'data: {"error": {"message": "no"}}\n\n',
    b"event: error\ndata: {}\n\n",
    b"data: a\ndata: b\n\n",
    b"data:\n\n",
    b"data: {}{}\n\n",
    b"\xef\xbb\xbfdata: {}\n\n",
    b"data: {}\r\n\r\n",
    b'data: {"choices": [{"text": "\r"}]}\n\n',
    b'data: {"choices":\r[]}\n\n',
    b"data: [DONE]\n\n<html>\n",
    b"<html>\n",
    b"\n",
    b"data: {}",
    b"event: error\n",
    b"\r",
    DONE,
]
PIECES = st.lists(st.sampled_from([*GOOD, *ODD]), max_size=12)
CUTS = st.lists(st.integers(0, 1500), max_size=10)


def slowly(asked: Turn, pieces: Sequence[bytes], *, end: bool = True) -> RequestRecord:
    """The record by the slow way alone, which a chunk extension forces."""
    chunks = b"".join(b"%x;slowly\r\n%b\r\n" % (len(each), each) for each in pieces if each)
    return at_once(asked, [HEAD + chunks + (b"0\r\n\r\n" if end else b"")])


def of_the_same_times(
    asked: Turn, whole: bytes, reads: Sequence[bytes]
) -> tuple[RequestRecord, list[int]]:
    """The record of the bytes taken one at a time, and for each chunk the read that ended it."""
    found = at_once(asked, [whole[at : at + 1] for at in range(len(whole))])
    ends = [sum(map(len, reads[: index + 1])) for index in range(len(reads))]
    places = [
        next(index for index, end in enumerate(ends) if end > at_ns - 1000)
        for at_ns in found.chunks.at_ns
    ]
    return found, places


def alike(one: RequestRecord, other: RequestRecord) -> None:
    """All but the times."""
    names = ("status", "failure", "detail", "finish_reason", "prompt_tokens", "output_tokens",
             "token_source")  # fmt: skip
    assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]
    for column in ("kinds", "characters", "cumulative"):
        assert list(getattr(one.chunks, column)) == list(getattr(other.chunks, column))


@calmly
@given(PIECES | st.just(GOOD), CUTS, CUTS, st.booleans())
def test_any_grouping_gives_the_same_record(
    pieces: list[bytes], byte_cuts: list[int], read_cuts: list[int], end: bool
) -> None:
    whole = framed(pieces, end=end)
    reads = reads_of(whole, byte_cuts)
    asked = turn()
    found = in_pieces(asked, reads, read_cuts)
    bytewise, places = of_the_same_times(asked, whole, reads)
    alike(found, bytewise)
    alike(found, slowly(asked, pieces, end=end))
    assert [at - 1000 for at in found.chunks.at_ns] == places
    assert found == at_once(asked, reads)


def generated(count: int, *, repeats: bool, last: bool) -> bytes:
    words = ["<think>", "", "</think>", "", "é", " yes"]
    text = "".join(words[:count]) if repeats else words[count - 1]
    ids = [7] * (count if repeats else 1)
    finish = {"type": "length", "length": count} if last else None
    meta = {"prompt_tokens": 3, "completion_tokens": count, "finish_reason": finish}
    document = {"text": text, "output_ids": ids, "meta_info": meta}
    return b"data: " + json.dumps(document).encode() + b"\n\n"


@calmly
@given(st.booleans(), CUTS, CUTS)
def test_any_grouping_of_sglangs_own_stream_gives_the_same_record(
    repeats: bool, byte_cuts: list[int], read_cuts: list[int]
) -> None:
    events = [generated(at, repeats=repeats, last=at == 6) for at in range(1, 7)]
    whole = framed([*events, DONE])
    reads = reads_of(whole, byte_cuts)
    asked = turn("generate", 6)
    found = in_pieces(asked, reads, read_cuts)
    bytewise, places = of_the_same_times(asked, whole, reads)
    alike(found, bytewise)
    assert [at - 1000 for at in found.chunks.at_ns] == places
    assert (found.failure, found.output_tokens) == (None, 6)
    assert "".join(chunk.kind[0] for chunk in found.chunks) == "rrraaa"
    assert list(found.chunks.characters) == [7, 0, 8, 0, 1, 4]


@pytest.mark.parametrize("size", [60_000, 300_000, 3_000_000])
def test_events_of_any_size(size: int) -> None:
    events = [delta("x" * size, 1), delta("y", 2), delta("z" * size, 3), delta("", 4, "length")]
    whole = framed([*events, DONE])
    reads = [whole[at : at + 50_000] for at in range(0, len(whole), 50_000)]
    asked = turn()
    found = in_pieces(asked, reads, range(len(reads)))
    assert found.failure is None
    assert list(found.chunks.characters) == [size, 1, size, 0]
    assert found == at_once(asked, reads)


def test_a_digest_leaves_nothing_to_the_garbage_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        digest = Digest(turn())
        digest.take([framed(GOOD)], [1])
        del digest
        assert gc.collect() == 0
    finally:
        gc.enable()


@calmly
@given(st.integers(0, 12), CUTS)
def test_one_odd_piece_among_many_plain_ones(place: int, read_cuts: list[int]) -> None:
    plain = [delta("a", at + 1) for at in range(12)]
    for odd in ODD:
        pieces = [*plain[:place], odd, *plain[place:], delta(None, None, "length"), DONE]
        reads = [HEAD, *(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces), b"0\r\n\r\n"]
        asked = turn(asked=12)
        found = in_pieces(asked, reads, [*read_cuts, 14])
        assert found == in_pieces(asked, reads, range(len(reads)))
        assert found == at_once(asked, reads)
        alike(found, slowly(asked, pieces))


def test_a_plain_chunk_in_the_middle_of_an_event() -> None:
    pieces = [b": ping\n\n", b"event: error\n", delta("a", 1), DONE]
    reads = [HEAD, *(b"%x\r\n%b\r\n" % (len(each), each) for each in pieces), b"0\r\n\r\n"]
    found = in_pieces(turn(), reads, [3])
    assert found.failure == "stream_error"
    alike(found, slowly(turn(), pieces))


@pytest.mark.parametrize("form", [b"%x\r\n%b\r\n", b"%04X\r\n%b\r\n", b"%x;x=y\r\n%b\r\n"])
@pytest.mark.parametrize("more", [[], [GOOD[1]], [GOOD[1], GOOD[1].replace(b"\n", b"\r\n")]])
def test_every_single_place_to_cut(form: bytes, more: list[bytes]) -> None:
    whole, ends = HEAD, []
    for piece in [*more, *GOOD]:
        whole += form % (len(piece), piece)
        # The line feed of a last line's end is not waited for.
        ends.append(len(whole) - len(b"\r\n") - piece.endswith(b"\r\n"))
    whole += b"0\r\n\r\n"
    asked = turn()
    expected = slowly(asked, [*more, *GOOD])
    assert expected.failure is None
    for cut in range(1, len(whole)):
        reads = [whole[:cut], whole[cut:]]
        for cuts in ([], [1]):
            found = in_pieces(asked, reads, cuts)
            alike(found, expected)
            assert list(found.chunks.at_ns) == [1000 + (end > cut) for end in ends[:-1]]


@calmly
@given(
    st.lists(st.sampled_from(["<th", "ink>", "<think>", "</", "think>", "</think>", " ", "a", ""])),
    st.booleans(),
)
def test_thoughts_are_found_in_pieces_as_in_the_whole(texts: list[str], suffices: bool) -> None:
    thinking = Thinking(closing_suffices=suffices)
    for text in texts:
        if not thinking.over:
            thinking.take(text)
    whole = "".join(texts)
    opened, at = whole.lstrip().startswith("<think>"), whole.find("</think>")
    expected = None if opened else 0
    if at >= 0 and (opened or suffices):
        expected = at + len("</think>")
    assert thinking.characters == expected


@calmly
@given(st.binary(max_size=300), CUTS, st.sampled_from(["raw", "body", "event"]))
def test_garbage_is_a_failure_however_it_comes(data: bytes, cuts: list[int], shape: str) -> None:
    whole = {
        "raw": data,
        "body": framed([data]),
        "event": framed([b"data: " + data + b"\n\n", DONE]),
    }[shape]
    reads = reads_of(whole, cuts)
    found = in_pieces(turn(), reads, cuts)
    assert found.failure is not None
    alike(found, at_once(turn(), [whole] if whole else []))


@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"transfer-encoding: chunked\r\n", b"")])
@pytest.mark.parametrize("size", [1, 7, 100, 10_000])
def test_framing_of_other_kinds(head: bytes, size: int) -> None:
    body = b"".join(GOOD)
    if b"chunked" in head:
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        body = b"".join(b"%04X;x=y\r\n%b\r\n" % (len(each), each) for each in pieces)
        body += b"0\r\nX-Trailer: 1\r\n\r\n"
    whole = head + body
    reads = [whole[at : at + 50] for at in range(0, len(whole), 50)]
    found = in_pieces(turn(), reads, range(0, len(reads), 3))
    assert found.failure is None
    assert "".join(chunk.kind[0] for chunk in found.chunks) == "nrrran"


def test_it_knows_when_a_response_is_complete() -> None:
    whole = framed(GOOD)
    digest = Digest(turn())
    for at in range(len(whole)):
        assert not digest.complete
        digest.take([whole[at : at + 1]], [at])
    assert digest.complete
    assert not digest.garbage


def test_it_knows_when_a_response_is_not_http() -> None:
    digest = Digest(turn())
    digest.take([framed(GOOD, end=False), b"zz\r\n\r\n"], [1, 2])
    assert digest.garbage
    assert not digest.complete


@pytest.mark.parametrize("pieces_a_chunk", [1, 2])
def test_a_long_response_is_held_as_columns_alone(pieces_a_chunk: int) -> None:
    tokens = 20_000
    events = [delta("some words of text", at + 1) for at in range(tokens)]
    asked = turn(asked=tokens)
    digest = Digest(asked)
    digest.take([HEAD], [0])
    tracemalloc.start()
    for begin in range(0, tokens, 100):
        group = events[begin : begin + 100]
        bodies = [
            b"".join(group[at : at + pieces_a_chunk]) for at in range(0, len(group), pieces_a_chunk)
        ]
        reads = [b"%x\r\n%b\r\n" % (len(body), body) for body in bodies]
        digest.take(reads, range(begin, begin + len(reads)))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 17 * tokens * 1.3 + 20_000
    end = delta(None, None, "length")
    digest.take([b"%x\r\n%b\r\n" % (len(each), each) for each in (end, DONE)], [tokens, tokens])
    row, chunks = digest.finish(exchange(asked, []))
    assert (row.failure, row.output_tokens) == (None, tokens)
    assert len(chunks) == tokens + 1


def test_a_response_that_repeats_itself_is_not_kept() -> None:
    tokens = 1500
    asked = turn("generate", tokens)
    digest = Digest(asked)
    tracemalloc.start()
    digest.take([HEAD], [0])
    for count in range(1, tokens + 1):
        meta = {
            "completion_tokens": count,
            "finish_reason": {"type": "length"} if count == tokens else None,
        }
        document = {"text": "word " * count, "output_ids": [9] * count, "meta_info": meta}
        event = b"data: " + json.dumps(document).encode() + b"\n\n"
        digest.take([b"%x\r\n%b\r\n" % (len(event), event)], [count])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 200_000
    digest.take([b"e\r\n" + DONE + b"\r\n0\r\n\r\n"], [tokens])
    row, chunks = digest.finish(exchange(asked, []))
    assert row.failure is None
    assert set(chunks.characters) == {5}
