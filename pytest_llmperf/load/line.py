"""What a parent and its worker say to each other, over two descriptors."""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import TYPE_CHECKING

from pytest_llmperf.errors import ClientError, ServerError

if TYPE_CHECKING:
    from .messages import Command, Reply

#: A worker says something twice a second while it asks; decoding a long pass takes some seconds.
SILENCE_S = 300.0


class Line:
    """The parent's end. ``died`` tells why the other end is gone, ``give_up`` ends a worker that
    says nothing; ``name`` is what messages call it."""

    def __init__(
        self,
        commands: int,
        replies: int,
        *,
        died: Callable[[], ClientError],
        give_up: Callable[[], None],
        name: str = "the load client",
    ) -> None:
        self._commands = commands
        self._replies = replies
        self._died = died
        self._give_up = give_up
        self._name = name

    def fileno(self) -> int:
        """Where replies can be waited for."""
        return self._replies

    def tell(self, command: Command) -> None:
        """Send a command. Raises :class:`ClientError` where nobody is there any more."""
        from .messages import encoded

        self.pass_on(encoded(command))

    def pass_on(self, frame: bytes) -> None:
        """The same for a command that is bytes already."""
        from .messages import write_frame

        try:
            write_frame(self._commands, frame)
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None

    def hear(self, silence_s: float) -> Reply:
        """The next reply. Raises :class:`ServerError` for one that says that the server keeps the
        worker from its work, and :class:`ClientError` where none comes."""
        import msgspec

        from .messages import Failed, Lost, Reply

        reply: Reply = msgspec.msgpack.decode(self.frame(silence_s), type=Reply)
        if isinstance(reply, Failed):
            raise ServerError(reply.summary, cause=reply.cause, remedy=reply.remedy)
        if isinstance(reply, Lost):
            raise ClientError(reply.text)
        return reply

    def frame(self, silence_s: float) -> bytes:
        """The next reply's bytes. Raises :class:`ClientError` where none comes."""
        from .messages import read_frame

        frame = read_frame(lambda size: self._read(size, silence_s))
        if frame is None:
            raise self._died()
        return frame

    def _read(self, size: int, silence_s: float) -> bytes:
        if not select.select([self._replies], [], [], silence_s)[0]:
            self._give_up()
            raise ClientError(f"{self._name} said nothing for {silence_s:g} s and was ended")
        try:
            return os.read(self._replies, size)
        except ConnectionResetError:
            return b""
