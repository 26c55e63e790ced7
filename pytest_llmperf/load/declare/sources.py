"""Requests read from files: conversations, prompts, token ids and traces.

The kind of a file is seen from its content, never from its name. A file is read whole, and every
line that does not fit is named with what was expected there.
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import msgspec

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.reading import MIB, Unreadable, read_bytes
from pytest_llmperf.records import Json, Source, SourceKind

from .fields import MOST_TOKENS

#: Prompt tokens that one hash id of a Mooncake trace stands for.
BLOCK_TOKENS = 512
#: The largest file: it is held in memory, several times.
_LARGEST = 2048 * MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One request of a file.

    Of ``text``, ``messages`` and ``ids`` at most one is there; a trace has none, but its
    ``input_tokens``, and ``blocks`` where it says which of them are alike. ``output_tokens`` is
    ``None`` where the file does not say it.
    """

    output_tokens: int | None
    text: str | None = None
    messages: tuple[dict[str, Json], ...] | None = None
    ids: tuple[int, ...] | None = None
    arrival_s: float = 0.0
    input_tokens: int | None = None
    blocks: tuple[int, ...] = ()


def find_file(name: str, directories: Sequence[Path], source: str) -> Path:
    """The file ``name`` in the first of ``directories`` that has it.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` where none has.
    """
    for path in [directory / name for directory in directories] or [Path(name)]:
        if _is_file(path):
            return path.resolve()
    looked = " nor in ".join(str(directory) for directory in directories) or "."
    raise UsageMistake(f"{source}: no file {name!r} in {looked}.")


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # a name that is too long for any file


def open_source(path: Path) -> tuple[Source, tuple[Item, ...]]:
    """What lies at ``path`` as a declaration, and its requests; a trace's sorted by time.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` with the path, the line and what was
    expected there.
    """
    try:
        state = path.stat()
        return _read(path, state.st_mtime_ns, state.st_size)
    except OSError as error:
        raise UsageMistake(f"{path} cannot be read: {error.strerror}. Name another file.") from None
    except Unreadable as why:
        raise UsageMistake(f"{path} {why}. Name a file with {_any_of()}.") from None


def items_of(source: Source) -> tuple[Item, ...]:
    """The requests of a declared file, provided that it is still the same."""
    found, items = open_source(Path(source.path))
    if found.sha256 != source.sha256:
        raise UsageMistake(
            f"{source.path} has changed since the workload was declared; start the tests anew."
        )
    return items


@lru_cache(maxsize=2)
def _read(path: Path, _mtime_ns: int, _size: int) -> tuple[Source, tuple[Item, ...]]:
    file = _File(path, read_bytes(path, most=_LARGEST).removeprefix(codecs.BOM_UTF8))
    kind, items = file.read()
    if not items:
        raise UsageMistake(f"{path} holds no conversation with a human's turn.")
    if kind == "trace":
        items.sort(key=lambda item: item.arrival_s)
    digest = hashlib.sha256(file.data).hexdigest()
    return Source(kind=kind, path=str(path), sha256=digest), tuple(items)


# --- lines -----------------------------------------------------------------------------------

#: The JSON of one request.
_Raw = bytes | msgspec.Raw
_Decode = Callable[[_Raw], Item | None]
#: Of text that is no JSON, no UTF-8, or of another shape.
_BROKEN = (msgspec.DecodeError, ValueError)
_DEEP = "it is nested too deeply"


@dataclass(frozen=True, slots=True)
class _Format:
    """How one kind of request is written: decoded by ``decode``, ``shape`` for people."""

    kind: SourceKind
    decode: _Decode
    shape: str


@dataclass(frozen=True, slots=True)
class _File:
    """A file's bytes: JSON lines, or one JSON list of objects."""

    path: Path
    data: bytes

    def read(self) -> tuple[SourceKind, list[Item]]:
        rows = self._rows()
        first = next(rows, None)
        if first is None:
            raise UsageMistake(f"{self.path} is empty; expected {_any_of()}.")
        format_ = self._format(*first)
        found = (self._item(raw, line, format_) for raw, line in chain((first,), rows))
        return format_.kind, [item for item in found if item is not None]

    def _rows(self) -> Iterator[tuple[_Raw, int]]:
        """Each request and its line; in a list lines are not known, and 0 stands for them."""
        if not self._is_list_of_objects():
            lines = enumerate(self.data.split(b"\n"), 1)
            yield from ((line, number) for number, line in lines if line.strip())
            return
        try:
            yield from ((raw, 0) for raw in _LIST.decode(self.data))
        except (*_BROKEN, RecursionError) as error:
            raise UsageMistake(
                f"{self.path} is not a JSON list: {error}; expected {_any_of()}."
            ) from None

    def _is_list_of_objects(self) -> bool:
        start = self.data[:4096].lstrip()
        return start.startswith(b"[") and start[1:].lstrip().startswith(b"{")

    def _format(self, raw: _Raw, line: int) -> _Format:
        """The format of the first request, which all others must have."""
        try:
            content = msgspec.json.decode(raw)
        except _BROKEN as error:
            raise self._mistake(raw, line, str(error), _any_of()) from None
        except RecursionError:
            raise self._mistake(raw, line, _DEEP, _any_of()) from None
        if isinstance(content, list):
            return _BARE
        fields = content if isinstance(content, dict) else {}
        for field, format_ in _BY_FIELD.items():
            if field in fields:
                return format_
        raise self._mistake(raw, line, "no request of a known kind", _any_of())

    def _item(self, raw: _Raw, line: int, format_: _Format) -> Item | None:
        try:
            return format_.decode(raw)
        except _BROKEN as error:
            raise self._mistake(raw, line, str(error), format_.shape) from None
        except RecursionError:
            raise self._mistake(raw, line, _DEEP, format_.shape) from None

    def _mistake(self, raw: _Raw, line: int, what: str, shape: str) -> UsageMistake:
        number = line or self.data.count(b"\n", 0, self.data.find(bytes(raw))) + 1
        return UsageMistake(f"{self.path}, line {number}: {what}; expected {shape}.")


# --- kinds -----------------------------------------------------------------------------------

_Tokens = Annotated[int, msgspec.Meta(ge=1, le=MOST_TOKENS)]
_Ids = Annotated[list[Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]], msgspec.Meta(min_length=1)]
_Time = Annotated[float, msgspec.Meta(ge=0, le=1e15)]
_HUMANS = frozenset({"human", "user"})


class _Said(msgspec.Struct):
    value: str
    speaker: str = msgspec.field(name="from")


class _Conversation(msgspec.Struct):
    conversations: list[_Said]
    output_tokens: _Tokens | None = None


class _Prompt(msgspec.Struct):
    prompt: str | None = None
    messages: list[dict[str, Any]] | None = None
    output_tokens: _Tokens | None = None
    max_tokens: _Tokens | None = None


class _TokenIds(msgspec.Struct):
    input_ids: _Ids | None = None
    prompt_token_ids: _Ids | None = None
    output_tokens: _Tokens | None = None
    max_tokens: _Tokens | None = None


class _Arrival(msgspec.Struct):
    arrival_s: _Time
    input_tokens: _Tokens
    output_tokens: _Tokens


class _Mooncake(msgspec.Struct):
    timestamp: _Time
    input_length: _Tokens
    output_length: _Tokens
    hash_ids: list[Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]] | None = None


_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_CONVERSATION = msgspec.json.Decoder(_Conversation)
_PROMPT = msgspec.json.Decoder(_Prompt)
_TOKEN_IDS = msgspec.json.Decoder(_TokenIds)
_BARE_IDS = msgspec.json.Decoder(_Ids)
_ARRIVAL = msgspec.json.Decoder(_Arrival)
_MOONCAKE = msgspec.json.Decoder(_Mooncake)


def _conversation(raw: _Raw) -> Item | None:
    """The first thing a human says; ``None`` where none does."""
    row = _CONVERSATION.decode(raw)
    for said in row.conversations:
        if said.speaker in _HUMANS and said.value.strip():
            return Item(text=said.value, output_tokens=row.output_tokens)
    return None


def _prompt(raw: _Raw) -> Item:
    row = _PROMPT.decode(raw)
    if (row.prompt is None) == (row.messages is None):
        raise ValueError('expected either "prompt" or "messages"')
    output = _either(row.output_tokens, row.max_tokens)
    if row.messages is None:
        if not row.prompt:
            raise ValueError('"prompt" is empty')
        return Item(text=row.prompt, output_tokens=output)
    if not row.messages or not all("role" in each and "content" in each for each in row.messages):
        raise ValueError('"messages" must be a list of objects with "role" and "content"')
    return Item(messages=tuple(row.messages), output_tokens=output)


def _token_ids(raw: _Raw) -> Item:
    row = _TOKEN_IDS.decode(raw)
    ids = row.input_ids or row.prompt_token_ids
    if ids is None or (row.input_ids and row.prompt_token_ids):
        raise ValueError('expected either "input_ids" or "prompt_token_ids"')
    output = _either(row.output_tokens, row.max_tokens)
    return Item(ids=tuple(ids), input_tokens=len(ids), output_tokens=output)


def _bare_ids(raw: _Raw) -> Item:
    ids = _BARE_IDS.decode(raw)
    return Item(ids=tuple(ids), input_tokens=len(ids), output_tokens=None)


def _either(output_tokens: int | None, max_tokens: int | None) -> int | None:
    if output_tokens is not None and max_tokens is not None and output_tokens != max_tokens:
        raise ValueError('"output_tokens" and "max_tokens" contradict each other')
    return max_tokens if output_tokens is None else output_tokens


def _arrival(raw: _Raw) -> Item:
    row = _ARRIVAL.decode(raw)
    return Item(
        arrival_s=row.arrival_s, input_tokens=row.input_tokens, output_tokens=row.output_tokens
    )


def _mooncake(raw: _Raw) -> Item:
    row = _MOONCAKE.decode(raw)
    blocks = tuple(row.hash_ids or ())
    needed = -(-row.input_length // BLOCK_TOKENS)
    if row.hash_ids is not None and len(blocks) != needed:
        raise ValueError(
            f"{row.input_length} prompt tokens are {needed} blocks of {BLOCK_TOKENS}, "
            f"but hash_ids names {len(blocks)}"
        )
    return Item(
        arrival_s=row.timestamp / 1e3,
        input_tokens=row.input_length,
        output_tokens=row.output_length,
        blocks=blocks,
    )


_SHAREGPT = _Format(
    "sharegpt", _conversation, '{"conversations": [{"from": "human", "value": "..."}, ...]}'
)
_PROMPTS = _Format("prompts", _prompt, '{"prompt": "..."} or {"messages": [...]}')
_IDS = _Format("ids", _token_ids, '{"input_ids": [...]} or {"prompt_token_ids": [...]}')
_BARE = _Format("ids", _bare_ids, "a list of token ids")
_OWN_TRACE = _Format(
    "trace", _arrival, '{"arrival_s": 0.5, "input_tokens": 900, "output_tokens": 100}'
)
_MOONCAKE_TRACE = _Format(
    "trace",
    _mooncake,
    '{"timestamp": 500, "input_length": 900, "output_length": 100, "hash_ids": [0, 1]}',
)

#: The field by which a format is known.
_BY_FIELD = {
    "conversations": _SHAREGPT,
    "arrival_s": _OWN_TRACE,
    "timestamp": _MOONCAKE_TRACE,
    "input_ids": _IDS,
    "prompt_token_ids": _IDS,
    "prompt": _PROMPTS,
    "messages": _PROMPTS,
}


def _any_of() -> str:
    formats = (_SHAREGPT, _PROMPTS, _IDS, _BARE, _OWN_TRACE, _MOONCAKE_TRACE)
    return "lines like one of: " + "; ".join(format_.shape for format_ in formats)
