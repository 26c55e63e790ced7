"""A server asked for its words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import ServerError
from pytest_llmperf.records import Api, Question, Reply
from pytest_llmperf.session.probe import ANSWER_TOKENS, PROMPTS, Probe, read_reply
from pytest_llmperf.testing import FakeServer, Script


class OnlyCompletions(Sim):
    apis: tuple[Api, ...] = ("completions",)


class OnlyNative(Sim):
    apis: tuple[Api, ...] = ("generate",)


def probe(server: FakeServer, engine: Sim | None = None) -> Probe:
    return Probe(engine=engine or Sim(), url=server.url, model="sim", headers=(), timeout_s=10.0)


def quick(**more: object) -> Script:
    return Script(ttft_ms=0, itl_ms=0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("engine", [Sim(), OnlyCompletions()])
def test_every_prompt_is_answered_word_by_word(engine: Sim) -> None:
    with FakeServer(quick()) as server:
        found = probe(server, engine).fingerprint()
        assert probe(server, engine).fingerprint() == found
    assert found is not None
    assert len(found) == len(PROMPTS)
    for reply in found:
        assert len(reply.tokens) == len(reply.logprobs) == ANSWER_TOKENS
        assert "".join(reply.tokens) == reply.text
        assert max(reply.logprobs) <= 0


def test_prompts_are_asked_one_at_a_time() -> None:
    with FakeServer(quick()) as server:
        probe(server).fingerprint()
        truths = server.truth
    ends = [truth.ended_ns or 0 for truth in truths]
    assert all(later.received_ns >= end for later, end in zip(truths[1:], ends, strict=False))


def test_a_disturbed_server_says_something_else() -> None:
    with FakeServer(quick()) as one, FakeServer(quick(disturb=0.1)) as other:
        assert probe(one).fingerprint() != probe(other).fingerprint()


@pytest.mark.parametrize("engine", [Sim(), OnlyNative()])
def test_a_server_that_refuses_has_no_fingerprint(engine: Sim) -> None:
    tokens = 20 if type(engine) is Sim else 1_000_000
    with FakeServer(quick(max_context_tokens=tokens)) as server:
        assert probe(server, engine).fingerprint() is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"choices": []}',
        b'{"choices": [null]}',
        b'{"choices": [{"message": {"content": "x"}, "logprobs": {"content": [1]}}]}',
        b'{"choices": [{"text": "x", "logprobs": {"tokens": ["x"], "token_logprobs": [null]}}]}',
    ],
)
def test_what_is_no_answer(body: bytes) -> None:
    assert read_reply(body) is None


@pytest.mark.parametrize(
    ("choice", "reply"),
    [
        ({"message": {"content": "yes"}}, Reply(text="yes")),
        (
            {"message": {"content": " yes", "reasoning_content": "hm"}, "logprobs": None},
            Reply(text="hm yes"),
        ),
        ({"text": "yes"}, Reply(text="yes")),
        (
            {
                "message": {"content": None},
                "logprobs": {"content": [{"token": "a", "logprob": -0.123456}]},
            },
            Reply(text="", tokens=("a",), logprobs=(-0.1235,)),
        ),
        (
            {
                "text": "ab",
                "logprobs": {"tokens": ["a", "b"], "token_logprobs": [-math.inf, math.nan]},
            },
            Reply(text="ab", tokens=("a", "b"), logprobs=(-1e4, -1e4)),
        ),
    ],
)
def test_what_answers_look_like(choice: Mapping[str, object], reply: Reply) -> None:
    assert read_reply(json.dumps({"choices": [choice]}).encode()) == reply


def test_questions_are_marked_by_their_final_number(tmp_path: Path) -> None:
    answers = tmp_path / "answers.jsonl"
    lines = [{"question": "1+1?", "answer": "so #### 2"}, {"question": "2+2?", "answer": "is 5"}]
    answers.write_text("".join(json.dumps(line) + "\n" for line in lines))
    questions = [Question(text="1+1?", answer="2"), Question(text="2+2?", answer="4")]
    with FakeServer(quick(answers=str(answers))) as server:
        assert probe(server).solve(questions) == (True, False)


def test_a_refused_question_is_an_error_that_quotes_the_server() -> None:
    with (
        FakeServer(quick(max_context_tokens=20)) as server,
        pytest.raises(ServerError, match="refused a question of --llmperf-gsm8k: it answered 400"),
    ):
        probe(server).solve([Question(text="1+1?", answer="2")])
