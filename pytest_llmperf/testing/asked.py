"""What a generation request asks for, whichever API it comes by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .script import CHAT_OVERHEAD_TOKENS, Api, Script, Usage

_SUFFIXES: tuple[tuple[str, Api], ...] = (
    ("/chat/completions", "chat"),
    ("/completions", "completions"),
    ("/generate", "generate"),
)
_DEFAULT_TOKENS: dict[Api, int] = {"chat": 16, "completions": 16, "generate": 128}

# What the pretended chat template puts around the messages: no byte and no token id.
_TEMPLATE_HEAD = (-1, -2)
_TEMPLATE_TAIL = tuple(-3 - at for at in range(CHAT_OVERHEAD_TOKENS - len(_TEMPLATE_HEAD)))


class Refusal(Exception):
    """The request is answered with an error, and no tokens.

    ``in_stream``: the error comes as an event of a stream with status 200, which is what SGLang's
    own API does with a prompt that it finds too long once it has begun to stream.
    """

    def __init__(self, status: int, message: str, *, in_stream: bool = False) -> None:
        super().__init__(message)
        self.status = status
        self.in_stream = in_stream


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One generation request. ``prompt`` is token ids; a byte of text is its own id.
    ``logprobs``: log-probabilities are to be told, which a whole response does."""

    api: Api
    prompt: Sequence[int]
    tokens: int
    stream: bool
    usage: Usage
    logprobs: bool = False


def api_at(path: str) -> Api | None:
    """The generation API that lives there, below any prefix."""
    return next((api for suffix, api in _SUFFIXES if path.endswith(suffix)), None)


def read_request(script: Script, api: Api, body: bytes) -> Asked:
    """Raises :class:`Refusal` for what the server would not serve."""
    asked = _as_object(body)
    prompt = _PROMPTS[api](asked)
    tokens = _tokens(api, asked)
    stream = bool(asked.get("stream"))
    if len(prompt) + tokens > script.max_context_tokens:
        raise Refusal(
            400,
            f"Requested token count exceeds the model's maximum context length of "
            f"{script.max_context_tokens} tokens: {len(prompt)} of input, {tokens} of output.",
            in_stream=stream and api == "generate",
        )
    return Asked(
        api=api,
        prompt=prompt,
        tokens=tokens,
        stream=stream,
        usage=_usage(script, api, asked),
        logprobs=api != "generate" and asked.get("logprobs") not in (None, False),
    )


def _as_object(body: bytes) -> dict[str, Any]:
    try:
        asked = json.loads(body)
    except ValueError as error:
        raise Refusal(400, f"the request's body is not JSON: {error}") from None
    if not isinstance(asked, dict):
        raise Refusal(400, "the request's body is not a JSON object")
    return asked


def _chat_prompt(asked: dict[str, Any]) -> Sequence[int]:
    messages = asked.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refusal(400, "Messages cannot be empty.")
    said = "".join(_content(message) for message in messages).encode()
    return (*_TEMPLATE_HEAD, *said, *_TEMPLATE_TAIL)


def _content(message: object) -> str:
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    if not isinstance(content, str):
        raise Refusal(400, "a message's content is neither text nor a list of parts")
    return content


def _completions_prompt(asked: dict[str, Any]) -> Sequence[int]:
    return _text_or_ids(asked.get("prompt"), "prompt")


def _native_prompt(asked: dict[str, Any]) -> Sequence[int]:
    if asked.get("input_ids") is not None:
        return _text_or_ids(asked["input_ids"], "input_ids")
    return _text_or_ids(asked.get("text"), "text")


_PROMPTS = {"chat": _chat_prompt, "completions": _completions_prompt, "generate": _native_prompt}


def _text_or_ids(given: object, name: str) -> Sequence[int]:
    if isinstance(given, str):
        return given.encode()
    if isinstance(given, list) and all(type(each) is int for each in given):
        return given
    raise Refusal(400, f"{name}: one text or one list of token ids is served at a time")


def _tokens(api: Api, asked: dict[str, Any]) -> int:
    if api == "generate":
        given = (asked.get("sampling_params") or {}).get("max_new_tokens")
    else:
        given = asked.get("max_completion_tokens") or asked.get("max_tokens")
    tokens = given or _DEFAULT_TOKENS[api]
    if type(tokens) is not int or tokens < 1:
        raise Refusal(400, f"{tokens!r} is no number of tokens to be asked for")
    return tokens


def _usage(script: Script, api: Api, asked: dict[str, Any]) -> Usage:
    """How tokens are reported; a whole response does it always, ``/generate`` unasked."""
    if not asked.get("stream"):
        return "final"
    if script.usage == "none":
        return "none"
    if api == "generate":
        return "final"
    options = asked.get("stream_options") or {}
    if not options.get("include_usage"):
        return "none"
    continuous = script.usage == "continuous" and options.get("continuous_usage_stats")
    return "continuous" if continuous else "final"
