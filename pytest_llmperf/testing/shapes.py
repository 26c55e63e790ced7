"""How each API says the same things: documents, ready to be encoded."""

from __future__ import annotations

from typing import Protocol

from .generation import Generation

Document = dict[str, object]

_FAILED = "scripted failure"


class Shape(Protocol):
    """One API's way of putting one response."""

    def role(self) -> Document | None:
        """What opens a stream before any token, where the API knows such a thing."""

    def tokens(self, size: int) -> Document:
        """The next tokens of a stream."""

    def closing(self) -> list[Document]:
        """What follows the last token of a stream."""

    def whole(self, texts: tuple[str, str]) -> Document:
        """A response that is not streamed, of (reasoning, answer)."""

    def error(self) -> Document:
        """A failure told with status 200, inside a stream or instead of a response."""

    def abort(self) -> list[Document]:
        """The end of a stream that the server gives up on without calling it an error."""


def shape_of(generation: Generation) -> Shape:
    """The shape of the API that was asked."""
    return Native(generation) if generation.asked.api == "generate" else OpenAi(generation)


def refusal(api: str, status: int, message: str) -> Document:
    """What a request is told that is not served."""
    if api == "generate":
        return {"error": {"message": message}}
    return {"error": {"message": message, "type": _error_type(status), "code": status}}


def native_error(message: str) -> Document:
    """An error inside a stream of ``/generate``."""
    kind = {"type": "invalid_request_error", "code": 400, "retryable": False}
    return {"error": {"message": message, **kind}}


def _error_type(status: int) -> str:
    return "BadRequestError" if status == 400 else "InternalServerError"


class OpenAi:
    """``/v1/chat/completions`` and ``/v1/completions``."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._chat = generation.asked.api == "chat"
        self._reasoning_field = "content" if generation.tagged else "reasoning_content"

    def role(self) -> Document | None:
        if not self._chat:
            return None
        return self._event([self._choice({"role": "assistant", "content": ""}, "", None)])

    def tokens(self, size: int) -> Document:
        generation = self._generation
        field = self._reasoning_field if generation.kind == "reasoning" else "content"
        text = generation.say(size)
        event = self._event([self._choice({field: text}, text, None)])
        if generation.usage_level == "continuous":
            event["usage"] = generation.usage()
        return event

    def closing(self) -> list[Document]:
        reason = self._generation.reason
        return self._ending(reason if self._generation.fault != "no_finish" else None)

    def abort(self) -> list[Document]:
        return self._ending("abort")

    def _ending(self, reason: str | None) -> list[Document]:
        events = []
        if reason is not None:
            events.append(self._event([self._choice({}, "", reason)]))
        if self._generation.usage_level != "none":
            events.append(self._event([]) | {"usage": self._generation.usage()})
        return events

    def error(self) -> Document:
        return {"error": {"message": _FAILED, "type": "InternalServerError", "code": 500}}

    def whole(self, texts: tuple[str, str]) -> Document:
        generation = self._generation
        thought, said = texts
        reason = _reason(generation)
        choice: Document = {"index": 0, "logprobs": self._logprobs(), "finish_reason": reason}
        if self._chat and not generation.tagged:
            content = {"content": said, "reasoning_content": thought or None}
            choice["message"] = {"role": "assistant", **content}
        elif self._chat:
            choice["message"] = {"role": "assistant", "content": thought + said}
        else:
            choice["text"] = thought + said
        document: Document = {
            "id": generation.id,
            "object": "chat.completion" if self._chat else "text_completion",
            "created": 0,
            "model": generation.script.model,
            "choices": [choice],
        }
        if generation.usage_level != "none":
            document["usage"] = generation.usage()
        return document

    def _logprobs(self) -> Document | None:
        told = self._generation.logprobs()
        if told is None:
            return None
        if self._chat:
            return {"content": [{"token": word, "logprob": value} for word, value in told]}
        words, values = [word for word, _ in told], [value for _, value in told]
        return {"tokens": words, "token_logprobs": values}

    def _event(self, choices: list[Document]) -> Document:
        return {
            "id": self._generation.id,
            "object": "chat.completion.chunk" if self._chat else "text_completion",
            "created": 0,
            "model": self._generation.script.model,
            "choices": choices,
        }

    def _choice(self, delta: Document, text: str, finish: str | None) -> Document:
        carried: Document = {"delta": delta} if self._chat else {"text": text}
        return {"index": 0, **carried, "logprobs": None, "finish_reason": finish}


class Native:
    """SGLang's ``/generate``: each event repeats all that was said, unless it is incremental."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._incremental = generation.script.incremental
        self._text = ""
        self._ended = False

    def role(self) -> Document | None:
        return None

    def tokens(self, size: int) -> Document:
        generation = self._generation
        first = self._unsaid()
        self._text += generation.say(size)
        self._ended = generation.finished
        return self._out(first, self._finish() if self._ended else None)

    def closing(self) -> list[Document]:
        """Nothing where the last tokens carried the reason already."""
        return [] if self._ended else [self._out(self._unsaid(), self._finish())]

    def abort(self) -> list[Document]:
        return [self._out(self._unsaid(), _aborted(500))]

    def error(self) -> Document:
        return native_error(_FAILED)

    def whole(self, texts: tuple[str, str]) -> Document:
        self._text = "".join(texts)
        aborted = self._generation.fault == "abort"
        return self._out(0, _aborted(None) if aborted else self._finish())

    def _unsaid(self) -> int:
        """The first token of the next event; what was said before is forgotten or repeated."""
        if not self._incremental:
            return 0
        self._text = ""
        return self._generation.sent

    def _finish(self) -> Document | None:
        if self._generation.fault == "no_finish":
            return None
        if self._generation.reason == "stop":
            return {"type": "stop", "matched": None}
        return {"type": "length", "length": self._generation.sent}

    def _out(self, first: int, reason: Document | None) -> Document:
        generation = self._generation
        meta = self._counts()
        if reason:
            meta |= {"e2e_latency": generation.age_s, **self._speculation()}
        return {
            "text": self._text,
            "output_ids": generation.ids(first),
            "meta_info": {"id": generation.id, "finish_reason": reason, **meta},
        }

    def _counts(self) -> Document:
        generation = self._generation
        always: Document = {"weight_version": "default", "num_retractions": 0}
        if generation.usage_level == "none":
            return always
        cached = generation.truth.cached_tokens
        return always | {
            "prompt_tokens": generation.truth.prompt_tokens,
            "reasoning_tokens": generation.reasoned,
            "completion_tokens": generation.sent,
            "cached_tokens": cached,
            "cached_tokens_details": {"device": cached, "host": 0} if cached else None,
            "dp_rank": None,
        }

    def _speculation(self) -> Document:
        sent, steps = self._generation.sent, self._generation.verify_calls
        if not steps:
            return {}
        return {
            "spec_accept_length": sent / steps,
            "spec_num_correct_drafts": sent - 1 - steps,
            "spec_verify_ct": steps,
        }


def _aborted(status: int | None) -> Document:
    kind = None if status is None else "InternalServerError"
    return {"type": "abort", "message": _FAILED, "status_code": status, "err_type": kind}


def _reason(generation: Generation) -> str | None:
    """Of a whole response."""
    return {"no_finish": None, "abort": "abort"}.get(generation.fault or "", generation.reason)
