"""What servers' JSON holds of the fields that metrics need; nothing else is built.

msgspec reads it straight into these structures and skips the rest unseen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec

_DETAIL_CHARACTERS = 500
#: What fits into a column of 32 bits; anything else is no count.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
#: What msgspec raises for bytes that are not the JSON asked for.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """A response's tokens by the server's own count, each ``None`` where it gives none."""

    prompt: int | None = None
    output: int | None = None
    cached: int | None = None
    reasoning: int | None = None


# --- OpenAI's, streamed


class Delta(msgspec.Struct, gc=False):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None


class Choice(msgspec.Struct, gc=False):
    delta: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    logprobs: Any = None


class RunningUsage(msgspec.Struct, gc=False):
    """As much of it as each event needs."""

    completion_tokens: Count | None = None


class Event(msgspec.Struct, gc=False):
    choices: list[Choice] = []
    usage: RunningUsage | None = None
    error: Any = None


decode_event = msgspec.json.Decoder(Event).decode


# --- OpenAI's, whole


class PromptDetails(msgspec.Struct):
    cached_tokens: Count | None = None


class CompletionDetails(msgspec.Struct):
    reasoning_tokens: Count | None = None


class Usage(msgspec.Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    prompt_tokens_details: PromptDetails | None = None
    completion_tokens_details: CompletionDetails | None = None

    def totals(self) -> Totals:
        prompt, completion = self.prompt_tokens_details, self.completion_tokens_details
        return Totals(
            prompt=self.prompt_tokens,
            output=self.completion_tokens,
            cached=None if prompt is None else prompt.cached_tokens,
            reasoning=self.reasoning_tokens if completion is None else completion.reasoning_tokens,
        )


class WithUsage(msgspec.Struct):
    usage: Usage | None = None


decode_usage = msgspec.json.Decoder(WithUsage).decode


class WholeChoice(msgspec.Struct):
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class Document(msgspec.Struct):
    choices: list[WholeChoice] = []
    usage: Usage | None = None


decode_document = msgspec.json.Decoder(Document).decode


# --- SGLang's own


class Finish(msgspec.Struct, gc=False):
    type: str
    message: str | None = None


class Meta(msgspec.Struct, gc=False):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    cached_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    finish_reason: Finish | str | None = None

    def totals(self) -> Totals:
        return Totals(
            prompt=self.prompt_tokens,
            output=self.completion_tokens,
            cached=self.cached_tokens,
            reasoning=self.reasoning_tokens or None,  # 0 where nobody counted
        )


class Generated(msgspec.Struct, gc=False):
    text: str | None = None
    meta_info: Meta | None = None
    error: Any = None


class GeneratedIds(Generated, gc=False):
    output_ids: list[int] | None = None


decode_generated = msgspec.json.Decoder(Generated).decode
decode_generated_ids = msgspec.json.Decoder(GeneratedIds).decode


# --- errors


class _Failing(msgspec.Struct):
    error: Any = None
    object: Any = None


_decode_failing = msgspec.json.Decoder(_Failing).decode


def is_error(data: bytes) -> bool:
    """Whether this is a JSON document of an error, in either of the two shapes servers use."""
    try:
        found = _decode_failing(data)
    except UNREADABLE:
        return False
    return found.error is not None or found.object == "error"


def error_in(body: bytes) -> str | None:
    """The message of the error that a JSON document carries, if it does."""
    return error_message(body) if is_error(body) else None


def error_message(body: bytes) -> str:
    """What a server's error response says, as plainly as it can be had."""
    if not body.strip():
        return "no text"
    try:
        document = msgspec.json.decode(body)
    except UNREADABLE:
        return body[: 4 * _DETAIL_CHARACTERS].decode("utf-8", "replace")[:_DETAIL_CHARACTERS]
    error = document.get("error", document) if isinstance(document, dict) else document
    for key in ("message", "detail"):
        if isinstance(error, dict) and error.get(key):
            error = error[key]
    text = error if isinstance(error, str) else msgspec.json.encode(error).decode()
    return text[:_DETAIL_CHARACTERS]
