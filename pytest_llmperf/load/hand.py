"""A worker as the client uses it, wherever it runs, and who finds workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from .messages import Command, Reply


class Hand(Protocol):
    """One worker. Its times are those of :mod:`pytest_llmperf.clock` in this process."""

    @property
    def pid(self) -> int:
        """Its process id, on the machine that it runs on."""

    @property
    def spill(self) -> IO[bytes]:
        """The file that what it saw is in, once it has said so."""

    def fileno(self) -> int:
        """Where its replies can be waited for."""

    def tell(self, command: Command) -> None:
        """Send a command. Raises :class:`~pytest_llmperf.errors.ClientError`."""

    def hear(self, silence_s: float = ...) -> Reply:
        """The next reply. Raises :class:`~pytest_llmperf.errors.ClientError` when the worker has
        failed, and :class:`~pytest_llmperf.errors.ServerError` when the server keeps it from what
        it was told to do."""

    def close(self) -> None:
        """End it; harmless when it is gone."""


class Crew(Protocol):
    """Finds workers. ``wanted`` is how many are asked for, ``None`` for as many as a load needs;
    ``most`` is how many there can be, ``lead_ns`` how long it takes at most until all of them know
    when to begin."""

    @property
    def wanted(self) -> int | None: ...
    @property
    def most(self) -> int: ...
    @property
    def lead_ns(self) -> int: ...

    def hire(self, first: int, count: int) -> Sequence[Hand]:
        """``count`` workers more, the numbers ``first`` and up. Raises
        :class:`~pytest_llmperf.errors.ClientError` with none of them left."""
