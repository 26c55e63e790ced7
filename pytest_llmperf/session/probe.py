"""Asking a server for its words, not for its speed: fixed prompts, and questions with an answer.

Never while a window is open. Every answer is greedy and comes in one piece.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from pytest_llmperf.engines.base import Engine
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import http
from pytest_llmperf.metrics.questions import asked, is_right
from pytest_llmperf.records import Api, Fingerprint, Json, Question, Reply

#: What every launch is asked, in this order. Short, unlike each other, and with much to follow.
PROMPTS = (
    "The three primary colours are",
    "Count from one to thirty in words: one, two, three,",
    "def fibonacci(n):\n    ",
    "Translate into French: 'The cat sleeps on the old chair.'",
    "Water boils at a lower temperature on a mountain because",
    '{"name": "Ada", "born": 1815, "works": [',
    "Wer hat die Relativitätstheorie aufgestellt, und wann?",
    "17 + 25 = 42, 18 + 26 = 44, 19 + 27 =",
)
#: Tokens of the answer to each of them.
ANSWER_TOKENS = 32
#: What a worked answer may take, and how many are asked for at a time.
_SOLUTION_TOKENS, _AT_ONCE = 512, 8
_OK = 200
#: Decimals of a log-probability that are kept: finer than rounding in the server leaves them.
_DIGITS = 4
#: Stands for the log-probability of what cannot be, and for no number.
_LEAST = -1e4
#: Where each API that answers in one piece is, and how it is asked to tell log-probabilities.
_PATHS: Mapping[Api, str] = {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
_TELLING: Mapping[Api, dict[str, Json]] = {
    "chat": {"logprobs": True},
    "completions": {"logprobs": 1},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Asks one server; ``timeout_s`` bounds each wait for an answer."""

    engine: Engine
    url: str
    model: str
    headers: tuple[tuple[str, str], ...]
    timeout_s: float

    def fingerprint(self) -> Fingerprint | None:
        """The answers to the fixed prompts, asked one by one; ``None`` where the server refuses
        one of them in every way. Raises ServerError where it does not answer."""
        for api, telling in self._ways():
            first = self._reply(api, PROMPTS[0], telling)
            if first is None:
                continue
            others = [self._reply(api, prompt, telling) for prompt in PROMPTS[1:]]
            found = [reply for reply in (first, *others) if reply is not None]
            return tuple(found) if len(found) == len(PROMPTS) else None
        return None

    def _ways(self) -> Iterator[tuple[Api, dict[str, Json]]]:
        """Every way to ask, the one that tells most first."""
        apis = [api for api in _PATHS if api in self.engine.apis]
        yield from ((api, _TELLING[api]) for api in apis)
        yield from ((api, {}) for api in apis)

    def _reply(self, api: Api, prompt: str, telling: Mapping[str, Json]) -> Reply | None:
        status, body = self._ask(api, prompt, ANSWER_TOKENS, telling)
        return read_reply(body) if status == _OK else None

    def solve(self, questions: Sequence[Question]) -> tuple[bool, ...]:
        """Which of ``questions`` are answered rightly, several asked at a time.

        Raises :class:`~pytest_llmperf.errors.ServerError` where the server refuses one.
        """
        api: Api = next((api for api in _PATHS if api in self.engine.apis), "chat")
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            return tuple(pool.map(lambda question: self._solves(api, question), questions))

    def _solves(self, api: Api, question: Question) -> bool:
        status, body = self._ask(api, asked(question), _SOLUTION_TOKENS, {})
        reply = read_reply(body) if status == _OK else None
        if reply is None:
            said = body[:200].decode("utf-8", "replace").strip()
            raise ServerError(
                f"the server refused a question of --llmperf-gsm8k: it answered {status} {said}",
                remedy="start it with a longer context, or leave --llmperf-gsm8k out",
            )
        return is_right(question, reply.text)

    def _ask(
        self, api: Api, prompt: str, tokens: int, more: Mapping[str, Json]
    ) -> tuple[int, bytes]:
        body: dict[str, Json] = {
            "model": self.model,
            "max_tokens": tokens,
            "temperature": 0.0,
            "stream": False,
            **more,
        }
        if api == "chat":
            body["messages"] = [{"role": "user", "content": prompt}]
        else:
            body["prompt"] = prompt
        return http.call(
            "POST",
            self.url + _PATHS[api],
            body=body,
            timeout_s=self.timeout_s,
            headers=dict(self.headers),
        )


def read_reply(body: bytes) -> Reply | None:
    """What an answer in one piece says; ``None`` where it is none in either API's form."""
    try:
        choice = json.loads(body)["choices"][0]
        message = choice.get("message") or choice
        thought = message.get("reasoning_content") or message.get("reasoning")
        parts = [thought, message.get("content"), message.get("text")]
        tokens, logprobs = _told(choice.get("logprobs") or {})
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
    return Reply(
        text="".join(part for part in parts if isinstance(part, str)),
        tokens=tokens,
        logprobs=logprobs,
    )


def _told(logprobs: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """Tokens and their log-probabilities, in chat's form or the older one; empty without them."""
    told = [(each["token"], each["logprob"]) for each in logprobs.get("content") or ()]
    if not told:
        values = logprobs.get("token_logprobs") or ()
        told = list(zip(logprobs.get("tokens") or (), values, strict=False))
    values = tuple(round(max(_LEAST, float(value)), _DIGITS) for _, value in told)
    return tuple(str(token) for token, _ in told), values
