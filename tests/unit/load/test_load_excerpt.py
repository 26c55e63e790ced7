"""What is seen of a response's text: whether it only repeats itself."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.planned import Asked, Turn
from pytest_llmperf.load.read.decode import decode
from pytest_llmperf.load.read.excerpt import SAMPLED, Excerpt
from pytest_llmperf.load.read.reading import RequestRow
from pytest_llmperf.load.send.wire import Exchange


def examined(text: str) -> tuple[float | None, str | None]:
    excerpt = Excerpt()
    excerpt.take(text)
    return excerpt.examined()


def test_a_loop_is_nearly_all_repetition_and_prose_is_not() -> None:
    loop, _ = examined("and so on " * 100)
    words = random.Random(1)
    drawn, _ = examined("".join(chr(words.randrange(97, 123)) for _ in range(1000)))
    assert loop is not None
    assert drawn is not None
    assert loop > 0.9
    assert drawn < 0.5


def test_short_and_empty_texts() -> None:
    assert examined("") == (None, None)
    repetition, digest = examined("yes")
    assert repetition is None
    assert digest is not None


@given(st.lists(st.text(max_size=900), max_size=8))
def test_pieces_do_not_matter(pieces: list[str]) -> None:
    excerpt = Excerpt()
    for piece in pieces:
        excerpt.take(piece)
    assert excerpt.examined() == examined("".join(pieces))


def row(index: int, body: bytes) -> RequestRow:
    turn = Turn(index=index, payload=b"", asked=Asked(output_tokens=1, api="chat"))
    exchange = Exchange(turn)
    exchange.outcome = "complete"
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    exchange.reads.extend([head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)])
    exchange.stamps.extend([1])
    return decode(exchange, turn)[0]


def test_the_first_responses_of_a_pass_are_looked_at() -> None:
    event = b'data: {"choices": [{"delta": {"content": "%b"}}]}\n\n' % (b"ab " * 50)
    first, last, next_one = (row(index, event) for index in (0, SAMPLED - 1, SAMPLED))
    assert first.text_digest == last.text_digest == examined("ab " * 50)[1]
    assert first.repetition == examined("ab " * 50)[0]
    assert (next_one.text_digest, next_one.repetition) == (None, None)
