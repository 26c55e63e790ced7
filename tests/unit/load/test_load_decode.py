"""Decoding: kept bytes become the same record however they arrived."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.planned import Asked, Turn
from pytest_llmperf.load.read.decode import decode
from pytest_llmperf.load.read.reading import to_record
from pytest_llmperf.load.send.wire import Exchange, Outcome
from pytest_llmperf.records import Api, RequestRecord

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
DONE = b"data: [DONE]\n\n"


def sse(document: object) -> bytes:
    return b"data: " + json.dumps(document).encode() + b"\n\n"


def delta(tokens: int | None = None, finish: str | None = None, **fields: object) -> bytes:
    document: dict[str, object] = {
        "choices": [{"index": 0, "delta": fields, "finish_reason": finish}]
    }
    if tokens is not None:
        document["usage"] = {"prompt_tokens": 5, "completion_tokens": tokens}
    return sse(document)


def usage(tokens: int, **more: object) -> bytes:
    return sse({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens, **more}})


def chunked(events: Sequence[bytes]) -> list[bytes]:
    framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    return [HEAD, *framed, b"0\r\n\r\n"]


def received(
    reads: Sequence[bytes], asked: Asked, *, outcome: Outcome = "complete", detail: str = ""
) -> RequestRecord:
    """The record of one exchange; the n-th read came at 1000 + n ns."""
    turn = Turn(index=4, payload=b"", asked=asked, session=2, turn=1)
    exchange = Exchange(turn)
    exchange.outcome = outcome
    exchange.detail = detail
    for index, data in enumerate(reads):
        exchange.reads.append(data)
        exchange.stamps.append(1000 + index)
    row, chunks = decode(exchange, turn)
    assert row.chunk_count == len(chunks)
    return to_record(row, chunks)


def row(
    reads: Sequence[bytes], *, asked: int = 2, api: Api = "chat", outcome: Outcome = "complete"
) -> RequestRecord:
    return received(reads, Asked(output_tokens=asked, api=api), outcome=outcome)


def record(events: Sequence[bytes], *, asked: int = 2, api: Api = "chat") -> RequestRecord:
    return row(chunked(events), asked=asked, api=api)


def plain(head: bytes, body: bytes) -> list[bytes]:
    """A response with a length."""
    return [head + b"content-length: %d\r\n\r\n" % len(body) + body]


GOOD = [
    delta(role="assistant", content=""),
    delta(1, reasoning_content="hm", content=None),
    delta(2, content=" yes"),
    delta(finish="length", reasoning_content=None),
    usage(2, prompt_tokens_details={"cached_tokens": 1}, reasoning_tokens=1),
    DONE,
]


def test_a_good_response() -> None:
    found = record(GOOD)
    assert found.failure is None
    assert (found.status, found.finish_reason, found.token_source) == (200, "length", "usage")
    assert (found.prompt_tokens, found.output_tokens) == (5, 2)
    assert (found.cached_tokens, found.reasoning_tokens) == (1, 1)
    kinds = [(chunk.kind, chunk.characters, chunk.cumulative_tokens) for chunk in found.chunks]
    assert kinds == [
        ("none", 0, None),
        ("reasoning", 2, 1),
        ("answer", 4, 2),
        ("none", 0, None),
        ("none", 0, None),
    ]
    assert [chunk.at_ns for chunk in found.chunks] == [1001, 1002, 1003, 1004, 1005]


@given(st.lists(st.integers(1, 2000), max_size=8), st.sampled_from(["plain", "joined", "split"]))
def test_how_bytes_arrive_changes_only_the_times(cuts: list[int], shape: str) -> None:
    events = {
        "plain": GOOD,
        "joined": [b"".join(GOOD[:3]), b"".join(GOOD[3:])],
        "split": [GOOD[0][:9], GOOD[0][9:] + GOOD[1], *GOOD[2:]],
    }[shape]
    whole = b"".join(chunked(events))
    places = sorted({min(cut, len(whole)) for cut in cuts})
    reads = [whole[a:b] for a, b in zip([0, *places], [*places, len(whole)], strict=True) if a < b]
    found = row(reads)
    assert found.failure is None
    kinds = [(chunk.kind, chunk.cumulative_tokens) for chunk in found.chunks]
    assert kinds == [
        ("none", None), ("reasoning", 1), ("answer", 2), ("none", None), ("none", None),
    ]  # fmt: skip
    ends = [whole.find(b"\n\n", whole.find(mark)) + 2 for mark in (b"hm", b" yes")]
    for chunk, end in zip(found.chunks[1:3], ends, strict=True):
        reached = accumulate(map(len, reads))
        first = next(index for index, offset in enumerate(reached) if offset >= end)
        assert chunk.at_ns == 1000 + first


@given(st.binary(max_size=300), st.booleans())
def test_garbage_is_a_failure_and_never_an_exception(data: bytes, framed: bool) -> None:
    assert row(chunked([data]) if framed and data else [data]).failure is not None


@pytest.mark.parametrize("drop", range(1, 60))
def test_any_truncation_of_a_good_response_is_a_failure(drop: int) -> None:
    whole = b"".join(chunked(GOOD))
    assert row([whole[:-drop]], outcome="cut").failure == "cut"


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        ([*GOOD[:3], sse({"error": {"message": "out of memory"}}), DONE], "stream_error"),
        ([*GOOD[:3], sse({"object": "error", "message": "bad"}), DONE], "stream_error"),
        ([*GOOD[:3], b"event: error\ndata: {}\n\n"], "stream_error"),
        ([*GOOD[:3], b"data: {nonsense\n\n"], "garbage"),
        ([*GOOD[:3], b"<html>\n"], "garbage"),
        ([*GOOD[:3], *GOOD[4:]], "no_finish"),
        (GOOD[:-1], "no_done"),
        ([delta(finish="length"), usage(0), DONE], "empty"),
        ([*GOOD[:2], GOOD[3], usage(1), DONE], "short"),
        ([*GOOD[:4], usage(3), DONE], "long"),
        ([delta(content="a b c"), GOOD[3], DONE], "no_usage"),
        ([], "no_finish"),
    ],
)
def test_what_is_not_a_strict_success_is_named(events: list[bytes], failure: str) -> None:
    found = record(events)
    assert found.failure == failure
    assert found.detail


def test_an_error_that_is_null_is_none() -> None:
    events = [
        sse({"error": None, "choices": [{"delta": {"content": "a"}}]}),
        delta(content="b"),
        delta(finish="stop"),
        usage(2),
        DONE,
    ]
    assert record(events).ok


def test_the_servers_words_are_kept() -> None:
    found = record([*GOOD[:3], sse({"error": {"message": "out of memory"}}), DONE])
    assert found.detail == "out of memory"
    body = b'{"object":"error","message":"The input is too long."}'
    refused = row(plain(b"HTTP/1.1 400 Bad Request\r\n", body))
    assert (refused.failure, refused.status) == ("http_400", 400)
    assert refused.detail == "The input is too long."


def test_json_instead_of_a_stream() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    refused = row(plain(head, b'{"error": {"message": "no"}}'))
    assert (refused.failure, refused.detail) == ("stream_error", "no")
    assert row(plain(head, b'{"choices": []}')).failure == "garbage"


def test_tokens_are_counted_by_ids_or_log_probabilities_when_usage_is_missing() -> None:
    by_ids = [
        sse({"choices": [{"text": "ab", "token_ids": [1, 2]}]}),
        sse({"choices": [{"text": "c", "token_ids": [3], "finish_reason": "length"}]}),
        DONE,
    ]
    found = record(by_ids, asked=3, api="completions")
    assert (found.failure, found.token_source) == (None, "ids")
    assert [chunk.cumulative_tokens for chunk in found.chunks] == [2, 3]
    by_logprobs = [
        sse({"choices": [{"delta": {"content": "ab"}, "logprobs": {"content": [{}, {}]}}]}),
        delta(finish="length"),
        DONE,
    ]
    assert record(by_logprobs).token_source == "ids"


def test_tokens_that_show_no_text_came_by_the_finish() -> None:
    found = record([delta(1, content="a"), delta(finish="length"), usage(2), DONE])
    assert found.ok
    assert [chunk.cumulative_tokens for chunk in found.chunks] == [1, 2, None]


def test_a_total_on_the_finishing_chunk_alone_is_no_running_count() -> None:
    found = record([delta(content="a"), delta(content="b"), delta(2, finish="length"), DONE])
    assert found.ok
    assert {chunk.cumulative_tokens for chunk in found.chunks} == {None}


@pytest.mark.parametrize(
    ("api", "texts", "kinds"),
    [
        ("chat", ["<think>", "hm", "</think>", "yes"], "rrra"),
        ("chat", ["<th", "ink>hm", "</thi", "nk>", "yes"], "rrrra"),
        ("chat", ["hm", "</think>", "yes"], "rra"),
        ("completions", ["hm", "</think>", "yes"], "aaa"),
        ("completions", ["\n<think>hm", "</think>yes"], "ra"),
        ("chat", ["<think>", "hm", "hm"], "rrr"),
        ("chat", ["a", " <think> b"], "aa"),
    ],
)
def test_think_tags_in_plain_content(api: Api, texts: list[str], kinds: str) -> None:
    made = [delta(index + 1, content=text) for index, text in enumerate(texts)]
    if api == "completions":
        made = [sse({"choices": [{"text": text}]}) for text in texts]
    found = record([*made, delta(finish="length"), usage(len(texts)), DONE], api=api)
    assert "".join(chunk.kind[0] for chunk in found.chunks[: len(texts)]) == kinds


def test_a_failed_connection() -> None:
    found = received([], Asked(output_tokens=2, api="chat"), outcome="connect", detail="refused")
    assert (found.failure, found.detail, found.status) == ("connect", "refused", None)


def test_a_record_says_what_was_asked_and_where_it_belongs() -> None:
    asked = Asked(output_tokens=2, api="chat", input_tokens=7)
    found = received(chunked(GOOD), asked)
    assert (found.index, found.session, found.turn) == (4, 2, 1)
    assert (found.asked_input, found.asked_output, found.streamed) == (7, 2, True)


# --- what else goes over the wire


@pytest.mark.parametrize(
    ("head", "body", "failure", "detail"),
    [
        (b"429 Too Many Requests", b'{"error": {"message": "slow down"}}', "http_429", "slow down"),
        (b"503 Service Unavailable", b"<html>busy</html>", "http_503", "<html>busy</html>"),
        (b"503 Service Unavailable", b"", "http_503", "no text"),
        (b"302 Found\r\nLocation: /login", b"", "http_302", "'/login', which is not followed"),
        (b"200 OK\r\nContent-Type: text/html; charset=utf-8", b"<html>", "garbage", "<html>"),
        (b"200 OK\r\nContent-Type: text/html", b"data: [DONE]\n\n", "garbage", "[DONE]"),
        (b"200 OK\r\nContent-Type: text/event-stream", b"", "no_finish", "no finish reason"),
        (b"200 OK\r\nContent-Type: application/json", b"", "garbage", "not what was asked for"),
        (b"200 OK", b'data: {"choi', "garbage", "in the middle of an event"),
        (b"200 OK", GOOD[1] + b'data: {"choi', "garbage", "in the middle of an event"),
    ],
)
def test_answers_that_are_no_stream(head: bytes, body: bytes, failure: str, detail: str) -> None:
    found = row(plain(b"HTTP/1.1 " + head + b"\r\n", body))
    assert found.failure == failure
    assert detail in found.detail


def test_a_reset_connection_is_cut_and_says_so() -> None:
    asked = Asked(output_tokens=2, api="chat")
    found = received(chunked(GOOD)[:3], asked, outcome="cut", detail="[Errno 104] reset")
    assert (found.failure, found.detail) == ("cut", "[Errno 104] reset")
    assert [chunk.kind for chunk in found.chunks] == ["none", "reasoning"]


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_a_server_that_gives_up_is_no_success(reason: str) -> None:
    found = record([*GOOD[:3], delta(finish=reason), usage(2), DONE])
    assert (found.failure, found.finish_reason) == ("aborted", reason)


def test_a_stream_without_end_is_too_long_and_not_kept() -> None:
    endless = [delta(at + 1, content="a") for at in range(9000)]
    found = row(chunked(endless)[:-1], outcome="timeout")
    assert found.failure == "long"
    assert len(found.chunks) < 5000
    uncounted = [delta(content="a")] * 10
    assert row(chunked(uncounted)[:-1], outcome="timeout").failure == "long"
    empty = [delta()] * 9000
    assert row(chunked(empty)[:-1], outcome="timeout").failure == "timeout"
    assert record([*empty, DONE]).failure == "long"


def test_a_stream_that_is_only_slow_has_timed_out() -> None:
    assert row(chunked(GOOD[:3])[:-1], outcome="timeout").failure == "timeout"


@pytest.mark.parametrize(
    ("events", "failure"),
    [
        ([*GOOD[:2], GOOD[3], usage(1), DONE], None),
        (GOOD, None),
        ([*GOOD[:4], usage(3), DONE], "long"),
        ([delta(finish="stop"), usage(0), DONE], "empty"),
        ([delta(content="a"), delta(content="b"), delta(finish="stop"), DONE], "no_usage"),
    ],
)
def test_a_server_that_cannot_be_held_to_a_length(events: list[bytes], failure: str | None) -> None:
    asked = Asked(output_tokens=2, api="chat", exact=False)
    assert received(chunked(events), asked).failure == failure


@pytest.mark.parametrize(
    "events",
    [
        [delta(-1, content="a"), DONE],
        [delta(2**31, content="a"), DONE],
        [b'data: {"choices": ' + b"[" * 100_000 + b"\n\n"],
        [b'data: {"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n\n"],
        [b'data: {"choices": [{"delta": {"content": "\xff"}}]}\n\n'],
        [b"data: 1\n\n"],
    ],
)
def test_nonsense_in_events_is_garbage(events: list[bytes]) -> None:
    assert record(events).failure == "garbage"


# --- SGLang's own


def generated(
    count: int, text: str, ids: int | None, finish: dict[str, object] | None = None, **more: object
) -> bytes:
    meta = {"prompt_tokens": 5, "completion_tokens": count, "finish_reason": finish, **more}
    document: dict[str, object] = {"text": text, "meta_info": meta}
    if ids is not None:
        document["output_ids"] = [7] * ids
    return sse(document)


LENGTH: dict[str, object] = {"type": "length", "length": 4}


@pytest.mark.parametrize("with_ids", [True, False])
@pytest.mark.parametrize("repeats", [True, False])
@pytest.mark.parametrize("sizes", [[1, 1, 1, 1], [2, 2], [1, 3], [3, 1], [4]])
def test_generate_counts_alike_whether_events_repeat_or_add(
    sizes: list[int], repeats: bool, with_ids: bool
) -> None:
    events, total = [], 0
    for size in sizes:
        total += size
        text, new = "abcdefgh"[: 2 * total], "abcdefgh"[2 * (total - size) : 2 * total]
        ids = (total if repeats else size) if with_ids else None
        finish = LENGTH if total == 4 else None
        events.append(generated(total, text if repeats else new, ids, finish, cached_tokens=3))
    found = record([*events, DONE], asked=4, api="generate")
    assert found.failure is None
    assert (found.output_tokens, found.prompt_tokens, found.cached_tokens) == (4, 5, 3)
    assert (found.token_source, found.finish_reason) == ("usage", "length")
    assert [chunk.characters for chunk in found.chunks] == [2 * size for size in sizes]
    assert {chunk.kind for chunk in found.chunks} == {"answer"}
    assert found.chunks[-1].cumulative_tokens == 4


def test_generate_repeats_nothing_when_the_second_token_says_the_same() -> None:
    events = [generated(1, "a", 1), generated(2, "a", 1), generated(3, "a", 1, LENGTH), DONE]
    found = record(events, asked=3, api="generate")
    assert [chunk.characters for chunk in found.chunks] == [1, 1, 1]


def test_generate_counts_a_token_that_shows_no_text() -> None:
    events = [generated(1, "", 1), generated(2, "é", 2, LENGTH), DONE]
    found = record(events, api="generate")
    assert [(chunk.kind, chunk.characters) for chunk in found.chunks] == [
        ("answer", 0),
        ("answer", 1),
    ]


def test_generate_finds_think_tags() -> None:
    texts = ["<think>", "hm", "</think>", "yes"]
    events = [generated(at + 1, "".join(texts[: at + 1]), at + 1) for at in range(3)]
    events.append(generated(4, "".join(texts), 4, LENGTH))
    found = record([*events, DONE], asked=4, api="generate")
    assert "".join(chunk.kind[0] for chunk in found.chunks) == "rrra"


@pytest.mark.parametrize(
    ("event", "failure", "detail"),
    [
        (generated(1, "a", 1, {"type": "abort", "message": "too many"}), "aborted", "too many"),
        (sse({"error": {"message": "too long"}}), "stream_error", "too long"),
        (generated(1, "a", 1, LENGTH), "short", "1 output tokens where 2"),
        (generated(1, "a", 1), "no_finish", "no finish reason"),
    ],
)
def test_generate_that_fails(event: bytes, failure: str, detail: str) -> None:
    found = record([event, DONE], api="generate")
    assert found.failure == failure
    assert detail in found.detail


# --- not streamed


def whole(document: object, api: Api = "chat", asked: int = 2) -> RequestRecord:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    reads = plain(head, document if isinstance(document, bytes) else json.dumps(document).encode())
    cut = len(reads[0]) - 3
    return received(
        [reads[0][:cut], reads[0][cut:]], Asked(output_tokens=asked, api=api, stream=False)
    )


USAGE = {"prompt_tokens": 5, "completion_tokens": 2}
MESSAGE = {"role": "assistant", "content": "yes", "reasoning_content": "hm"}


@pytest.mark.parametrize(
    ("api", "document", "characters"),
    [
        ("chat", {"choices": [{"message": MESSAGE, "finish_reason": "length"}]}, 5),
        ("completions", {"choices": [{"text": "a b", "finish_reason": "length"}]}, 3),
        ("generate", {"text": "a b", "output_ids": [1, 2]}, 3),
    ],
)
def test_a_response_in_one_piece(api: Api, document: dict[str, object], characters: int) -> None:
    meta = {**USAGE, "finish_reason": {"type": "length", "length": 2}}
    said = {"meta_info": meta} if api == "generate" else {"usage": USAGE}
    found = whole({**document, **said}, api)
    assert found.failure is None
    assert not found.streamed
    assert (found.prompt_tokens, found.output_tokens, found.token_source) == (5, 2, "usage")
    assert [
        (chunk.at_ns, chunk.kind, chunk.characters, chunk.cumulative_tokens)
        for chunk in found.chunks
    ] == [(1001, "answer", characters, 2)]


def test_reasoning_in_one_piece_is_counted_where_the_server_does() -> None:
    choices = [{"message": MESSAGE, "finish_reason": "stop"}]
    counted = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 1}}
    assert whole({"choices": choices, "usage": counted}).reasoning_tokens == 1
    assert whole({"choices": choices, "usage": USAGE}).reasoning_tokens is None


def test_thoughts_of_no_tokens_were_not_counted() -> None:
    """As vLLM 0.32 has it where the chat template opens the thoughts."""
    none = {**USAGE, "completion_tokens_details": {"reasoning_tokens": 0}}
    choices = [{"message": MESSAGE, "finish_reason": "stop"}]
    assert whole({"choices": choices, "usage": none}).reasoning_tokens is None
    silent = [{"message": {"content": "yes"}, "finish_reason": "stop"}]
    assert whole({"choices": silent, "usage": none}).reasoning_tokens == 0
    streamed = record([*GOOD[:-2], usage(2, reasoning_tokens=0), DONE])
    assert streamed.failure is None
    assert streamed.reasoning_tokens is None


CHOICES = [{"message": MESSAGE, "finish_reason": "length"}]


@pytest.mark.parametrize(
    ("document", "failure"),
    [
        ({"error": {"message": "no"}}, "stream_error"),
        ({"object": "error", "message": "no"}, "stream_error"),
        ({"choices": [{"message": MESSAGE}], "usage": USAGE}, "no_finish"),
        ({"choices": [{"message": MESSAGE, "finish_reason": "abort"}], "usage": USAGE}, "aborted"),
        ({"choices": CHOICES, "usage": {**USAGE, "completion_tokens": 1}}, "short"),
        ({"choices": CHOICES, "usage": {**USAGE, "completion_tokens": 3}}, "long"),
        ({"choices": CHOICES, "usage": {**USAGE, "completion_tokens": 0}}, "empty"),
        ({"choices": CHOICES}, "no_usage"),
        ({"choices": []}, "no_finish"),
        ([], "garbage"),
        (b"", "garbage"),
        (b"data: [DONE]\n\n", "garbage"),
        (b'{"choices": [', "garbage"),
    ],
)
def test_a_response_in_one_piece_that_is_no_success(document: object, failure: str) -> None:
    found = whole(document)
    assert found.failure == failure
    assert found.detail


def test_a_response_in_one_piece_that_is_cut() -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
    asked = Asked(output_tokens=2, api="chat", stream=False)
    assert received([head], asked, outcome="cut").failure == "cut"
    assert received([head], asked, outcome="timeout").failure == "timeout"


def test_generate_in_one_piece_is_counted_by_ids_without_meta_info() -> None:
    found = whole({"text": "a", "output_ids": [1, 2], "meta_info": {"finish_reason": "stop"}},
                  "generate")  # fmt: skip
    assert (found.failure, found.token_source, found.output_tokens) == (None, "ids", 2)
