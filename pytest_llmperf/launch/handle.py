"""Our end of a keeper: start it, tell it to stop, hear what it has to say."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_llmperf import clock

_SCRIPT = Path(__file__).with_name("keeper.py")


@dataclass(slots=True)
class Heard:
    """What a keeper has reported so far.

    ``pid`` and ``started_ns`` are 0 until the server's program runs. ``status`` is its exit code,
    negative for a signal; ``asked`` says that the keeper had been told to stop it by then.
    ``left`` names processes that even the keeper could not end; ``unended`` is how the command
    failed that ends what is not among them.
    """

    pid: int = 0
    started_ns: int = 0
    failure: str | None = None
    status: int | None = None
    seconds: float | None = None
    asked: bool = False
    killed: tuple[int, ...] = ()
    left: tuple[int, ...] = ()
    unended: str = ""
    finished: bool = False

    @property
    def ended_ns(self) -> float:
        """When the server ended, on the clock of ``started_ns``; infinite while nobody knows."""
        if self.seconds is None:
            return float("inf")
        return self.started_ns + self.seconds * 1e9


@dataclass(slots=True)
class KeeperHandle:
    """A running keeper. It ends with us: its standard input is a pipe that only we write to."""

    process: subprocess.Popen[bytes]
    heard: Heard = field(default_factory=Heard)
    _unread: bytes = b""
    _silent: bool = False

    @classmethod
    def start(cls, log_path: Path, held_fds: Sequence[int]) -> KeeperHandle:
        """A keeper that waits for its job; it is safe to drop it at any point."""
        with log_path.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_SCRIPT)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                # Out of reach of Ctrl-C on the terminal and of a kill of our process group.
                start_new_session=True,
                pass_fds=tuple(held_fds),
            )
        assert process.stdout is not None  # noqa: S101 - a pipe, as asked for above
        os.set_blocking(process.stdout.fileno(), False)
        return cls(process)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def gone(self) -> bool:
        """Whether the keeper has ended, in order or not."""
        return self.process.poll() is not None

    def give(self, job: Mapping[str, object]) -> None:
        """Send the job, a JSON object as :mod:`.keeper` describes it."""
        self._write(json.dumps(job).encode() + b"\n")

    def order(self, word: str) -> None:
        """Send "stop" or "kill"."""
        self._write(word.encode() + b"\n")

    def listen(self, wait_s: float = 0.0, also: int | None = None) -> bool:
        """Take in what the keeper said within ``wait_s``; true when ``also`` can be read."""
        ready = self._wait(wait_s, also)
        assert self.process.stdout is not None  # noqa: S101 - a pipe, see start()
        fd = self.process.stdout.fileno()
        if fd in ready:
            data = os.read(fd, 65536)
            self._silent = not data
            *lines, self._unread = (self._unread + data).split(b"\n")
            for line in lines:
                self._take(json.loads(line))
        return also in ready

    def wait(self, seconds: float) -> bool:
        """Whether the keeper ended within ``seconds``; takes in all it had to say."""
        deadline = clock.Deadline(seconds)
        while not self._silent and not deadline.passed:
            self.listen(deadline.left)
        try:
            self.process.wait(timeout=max(deadline.left, 0.1))
        except subprocess.TimeoutExpired:
            return False
        return True

    def close(self) -> None:
        """Let go of both pipes; the keeper takes that for a stop."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()

    def _wait(self, seconds: float, also: int | None) -> set[int | None]:
        assert self.process.stdout is not None  # noqa: S101 - a pipe, see start()
        with selectors.DefaultSelector() as selector:
            if not self._silent:
                selector.register(self.process.stdout, selectors.EVENT_READ)
            if also is not None:
                selector.register(also, selectors.EVENT_READ)
            return {key.fd for key, _ in selector.select(seconds)}

    def _write(self, data: bytes) -> None:
        assert self.process.stdin is not None  # noqa: S101 - a pipe, see start()
        view = memoryview(data)
        # A keeper that is gone is noticed by `gone`, and needs no orders.
        with contextlib.suppress(BrokenPipeError):
            while view:
                view = view[os.write(self.process.stdin.fileno(), view) :]

    def _take(self, event: dict[str, Any]) -> None:
        heard = self.heard
        match event.pop("event"):
            case "started":
                heard.pid, heard.started_ns = event["pid"], event["at_ns"]
            case "failed":
                heard.failure = event["reason"]
            case "exited":
                heard.status, heard.seconds = event["status"], event["seconds"]
                heard.asked = event["asked"]
            case "stopped":
                heard.killed, heard.left = tuple(event["killed"]), tuple(event["left"])
                heard.unended = event["unended"]
                heard.finished = True
