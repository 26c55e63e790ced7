"""What the load client's two processes say to each other: length-prefixed msgpack."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from pytest_llmperf.records import Workload

from .compose.prompts import Part
from .compose.rehearsal import Recipe
from .send.health import WorkerHealth
from .send.supply import Shard

_LENGTH = struct.Struct(">Q")


class OpenTarget(msgspec.Struct, tag="open", kw_only=True):
    """A :class:`~.asking.Target`; first message to a worker."""

    url: str
    model: str
    api_fields: dict[str, Any]
    tokenize: dict[str, Any] | None
    headers: list[tuple[str, str]]
    exact_output: bool = True


class Prepare(msgspec.Struct, tag="prepare"):
    """Learn how to ask for a workload; answered by :class:`Prepared`."""

    workload: Workload


class Learnt(msgspec.Struct, tag="learnt"):
    """What another worker has learnt; answered by :class:`Ready`."""

    workload: Workload
    recipe: Recipe


class Go(msgspec.Struct, tag="go", kw_only=True):
    """Get one pass ready, or a share of it; answered by :class:`Ready`."""

    workload: Workload
    seed: int
    part: Part
    shard: Shard = Shard()


class Start(msgspec.Struct, tag="start"):
    """Send it from ``at_ns`` of the clock on, which all processes of a machine share; answered
    by :class:`Progress` and in the end by :class:`Finished`."""

    at_ns: int


class Abandon(msgspec.Struct, tag="abandon"):
    """Let go of what was got ready; answered by :class:`Ready`."""


Command = OpenTarget | Prepare | Learnt | Go | Start | Abandon


class Ready(msgspec.Struct, tag="ready"):
    pass


class Prepared(msgspec.Struct, tag="prepared"):
    recipe: Recipe


class Progress(msgspec.Struct, tag="progress"):
    """``reads`` is how often the socket gave something, about once for each token."""

    done: int
    reads: int
    elapsed_s: float


class Finished(msgspec.Struct, tag="finished", kw_only=True):
    """One worker's share of a pass. It lies in the spill file from ``spilled_at`` to ``ends_at``:
    the columns of its requests, and from ``rows_at`` on ``rows`` entries of
    :class:`~.read.reading.RequestRow`, by index. In a copy of the file, what lies at 0 there is at
    ``base`` here."""

    spilled_at: int
    rows_at: int
    ends_at: int
    rows: int
    health: WorkerHealth
    base: int = 0


class Failed(msgspec.Struct, tag="failed"):
    """The worker is well; what it was asked could not be done."""

    summary: str
    cause: str = ""
    remedy: str = ""


class Lost(msgspec.Struct, tag="lost"):
    """The worker is gone, or cannot be heard; said by what brings us its word."""

    text: str


Reply = Ready | Prepared | Progress | Finished | Failed | Lost


def encoded(message: object) -> bytes:
    return msgspec.msgpack.encode(message)


def write_frame(descriptor: int, frame: bytes) -> None:
    """Write one message's bytes whole. Raises :class:`BrokenPipeError` when nobody reads any
    more."""
    view = memoryview(_LENGTH.pack(len(frame)) + frame)
    while view:
        view = view[os.write(descriptor, view) :]


def read_frame(read: Callable[[int], bytes]) -> bytes | None:
    """The next message's bytes by ``read(at most n)``, or ``None`` at the end of the stream."""
    head = _read_exactly(read, _LENGTH.size)
    return None if head is None else _read_exactly(read, _LENGTH.unpack(head)[0])


def _read_exactly(read: Callable[[int], bytes], size: int) -> bytes | None:
    parts = bytearray()
    while len(parts) < size:
        data = read(min(size - len(parts), 1 << 20))
        if not data:
            return None
        parts += data
    return bytes(parts)
