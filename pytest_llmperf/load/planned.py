"""Requests ready to be sent, and the conversations they belong to."""

from __future__ import annotations

from dataclasses import dataclass

from pytest_llmperf.records import Api


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a response is judged against.

    ``output_tokens`` must come back exactly where ``exact``, else at most; ``input_tokens`` is
    what the prompt was built for, ``None`` for a text of unknown length.
    """

    output_tokens: int
    api: Api
    input_tokens: int | None = None
    exact: bool = True
    stream: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One request: its bytes as they go over the wire, and its place in the run.

    ``index`` counts all requests of a run, whichever process sends them.
    """

    index: int
    payload: bytes
    asked: Asked
    session: int = 0
    turn: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """Requests that go one after another, ``pause_ns`` between an answer and the next."""

    turns: tuple[Turn, ...]
    pause_ns: int = 0
