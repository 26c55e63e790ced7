"""How each API says what it says: events and documents become rows and facts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from pytest_llmperf.records import UNKNOWN, Api

from .columns import ANSWER, NONE, REASONING, Columns
from .events import (
    UNREADABLE,
    Choice,
    Finish,
    Generated,
    GeneratedIds,
    Meta,
    Totals,
    Usage,
    decode_document,
    decode_event,
    decode_generated,
    decode_generated_ids,
    decode_usage,
    error_message,
    is_error,
)
from .excerpt import Excerpt
from .thinking import Thinking

T = TypeVar("T")


@dataclass(slots=True)
class Heard:
    """What a response has said so far.

    ``error`` is the server's, ``unreadable`` why an event could not be read; after either of them
    nothing counts. ``ids`` is how many token ids came, ``None`` where there were none.
    ``thinking`` looks for tags in the text; ``None`` once the server tells thoughts apart itself,
    as it has where it was ``thought``.
    ``excerpt`` keeps the text's beginning, where somebody wants to look at it.
    """

    thinking: Thinking | None
    columns: Columns = field(default_factory=Columns)
    error: str | None = None
    unreadable: str = ""
    finish_reason: str | None = None
    finish_message: str = ""
    finish_row: int | None = None
    ids: int | None = None
    thought: bool = False
    excerpt: Excerpt | None = None

    @property
    def broken(self) -> bool:
        return self.error is not None or bool(self.unreadable)

    def look_at(self, text: str) -> None:
        if self.thinking is not None and text and not self.thinking.over:
            self.thinking.take(text)
        if self.excerpt is not None:
            self.excerpt.take(text)


class Dialect(Protocol):
    """One API's way; fills the :class:`Heard` it was made with."""

    def stream(self, datas: Sequence[bytes]) -> None:
        """Read events, in order."""

    def whole(self, body: bytes) -> None:
        """Read a response that came in one piece. Raises :data:`~.events.UNREADABLE`."""

    def totals(self) -> Totals:
        """The last counts that were told. Raises :data:`~.events.UNREADABLE`."""


def dialect(api: Api, heard: Heard) -> Dialect:
    """The reader of one response of ``api``."""
    return Native(heard) if api == "generate" else OpenAI(heard)


def _decoded(decode: Callable[[bytes], T], datas: Sequence[bytes], heard: Heard) -> Sequence[T]:
    """Every event, or those before the first that cannot be read."""
    try:
        return list(map(decode, datas))
    except UNREADABLE:
        events = []
    for data in datas:
        try:
            events.append(decode(data))
        except UNREADABLE as error:
            heard.unreadable = str(error) or type(error).__name__
            break
    return events


class OpenAI:
    """Chat and text completions."""

    __slots__ = ("_heard", "_usage", "_usage_data")

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._usage_data: bytes | None = None
        self._usage: Usage | None = None

    def stream(self, datas: Sequence[bytes]) -> None:
        heard = self._heard
        # A call for each event would cost more than all the rest of this.
        kinds, sizes, counts = bytearray(), [], []
        texts = []
        for event, data in zip(_decoded(decode_event, datas, heard), datas, strict=False):
            choices = event.choices
            if event.error is not None or (not choices and is_error(data)):
                heard.error = error_message(data)
                break
            kind, text, count = NONE, "", None
            if event.usage is not None:
                self._usage_data = data
                count = event.usage.completion_tokens
            if choices:
                choice = choices[0]
                delta = choice.delta
                if delta is None:
                    text = choice.text or ""
                else:
                    text = delta.content or ""
                    thought = delta.reasoning_content or delta.reasoning
                    if thought:
                        heard.thinking, heard.thought = None, True
                        kind, text = ANSWER if text else REASONING, thought + text
                if count is None:
                    count = self._count_ids(choice)
                if choice.finish_reason:
                    self._finish(choice.finish_reason, len(kinds))
            else:
                count = None
            kinds.append(kind or (ANSWER if text else NONE))
            sizes.append(len(text))
            counts.append(UNKNOWN if count is None else count)
            texts.append(text)
        heard.columns.extend(kinds, sizes, counts)
        heard.look_at("".join(texts))

    def _finish(self, reason: str, row: int) -> None:
        self._heard.finish_reason = reason
        self._heard.finish_row = len(self._heard.columns) + row

    def _count_ids(self, choice: Choice) -> int | None:
        """Tokens so far by the ids or log probabilities that a chunk carries, if it does."""
        if choice.token_ids is not None:
            listed: Sequence[object] = choice.token_ids
        elif isinstance(choice.logprobs, dict):
            listed = choice.logprobs.get("content") or choice.logprobs.get("tokens") or ()
        else:
            return None
        self._heard.ids = (self._heard.ids or 0) + len(listed)
        return self._heard.ids

    def whole(self, body: bytes) -> None:
        heard = self._heard
        document = decode_document(body)
        self._usage = document.usage
        if not document.choices:
            return
        choice = document.choices[0]
        message = choice.message
        said = [choice.text]
        if message is not None:
            said = [message.reasoning_content or message.reasoning, message.content]
            heard.thought = bool(said[0])
        heard.finish_reason, heard.finish_row = choice.finish_reason, 0
        count = document.usage.completion_tokens if document.usage is not None else None
        whole = "".join(text or "" for text in said)
        heard.columns.add(ANSWER, len(whole), count)
        if heard.excerpt is not None:
            heard.excerpt.take(whole)

    def totals(self) -> Totals:
        if self._usage_data is not None:
            self._usage = decode_usage(self._usage_data).usage
        return Totals() if self._usage is None else self._usage.totals()


class Native:
    """SGLang's ``/generate``.

    An event carries all text and ids so far, or, where the server was started with
    ``--incremental-streaming-output``, what is new; nothing in it says which, and no field of a
    request chooses. It shows at the second event with tokens: as many ids as tokens in all mean
    that everything is repeated. A response of n tokens then has bytes of the order of n²: at 64k
    tokens some 20 GB. They are read event by event, and only lengths are kept.
    """

    __slots__ = ("_heard", "_length", "_meta", "_repeats", "_text", "_tokens")

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._meta = Meta()
        self._repeats: bool | None = None
        self._length = 0  # of the text so far
        self._tokens = 0
        self._text = ""  # so far, while it is not known whether events repeat it

    def stream(self, datas: Sequence[bytes]) -> None:
        heard = self._heard
        kinds, sizes, counts = bytearray(), [], []
        texts = []
        for data in datas:
            try:
                event = self._decode(data)
            except UNREADABLE as error:
                heard.unreadable = str(error) or type(error).__name__
                break
            if event.error is not None:
                heard.error = error_message(data)
                break
            meta = event.meta_info
            count = None
            if meta is not None:
                self._meta = meta
                count = meta.completion_tokens
                if meta.finish_reason:
                    self._finish(meta.finish_reason, len(kinds))
            new = self._new_text(event, count)
            kinds.append(ANSWER if new or (count or 0) > self._tokens else NONE)
            self._tokens = max(self._tokens, count or 0)
            sizes.append(len(new))
            counts.append(UNKNOWN if count is None else count)
            texts.append(new)
        heard.columns.extend(kinds, sizes, counts)
        heard.look_at("".join(texts))

    def _decode(self, data: bytes) -> Generated:
        return decode_generated(data) if self._repeats is not None else decode_generated_ids(data)

    def _new_text(self, event: Generated, count: int | None) -> str:
        text = event.text or ""
        if self._repeats is None:
            self._look(event, count)
            self._text = text
        new = text[self._length :] if self._repeats else text
        self._length = len(text) if self._repeats else self._length + len(text)
        return new

    def _look(self, event: Generated, count: int | None) -> None:
        """Find out whether events repeat what came before, if this one shows it."""
        if not (self._tokens or self._text):
            return
        if isinstance(event, GeneratedIds) and event.output_ids is not None and count is not None:
            self._repeats = len(event.output_ids) >= count
        else:
            self._repeats = bool(self._text) and (event.text or "").startswith(self._text)

    def _finish(self, finish: Finish | str, row: int) -> None:
        heard = self._heard
        heard.finish_row = len(heard.columns) + row
        if isinstance(finish, str):
            heard.finish_reason = finish
        else:
            heard.finish_reason, heard.finish_message = finish.type, finish.message or ""

    def whole(self, body: bytes) -> None:
        found = decode_generated_ids(body)
        self._meta = found.meta_info or Meta()
        count = self._meta.completion_tokens
        if count is None and found.output_ids is not None:
            count = self._heard.ids = len(found.output_ids)
        if self._meta.finish_reason:
            self._finish(self._meta.finish_reason, 0)
        self._heard.columns.add(ANSWER, len(found.text or ""), count)
        if self._heard.excerpt is not None:
            self._heard.excerpt.take(found.text or "")

    def totals(self) -> Totals:
        return self._meta.totals()
