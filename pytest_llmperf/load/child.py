"""One child process that asks, seen from its parent: started clean, spoken to, ended.

It has no coverage, no debugger and no foreign threads, and may have CPU cores of its own, so that
nothing that happens in the test process can delay its time stamps.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_llmperf.errors import ClientError, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable

    from .messages import Command, Reply

#: A worker says something twice a second while it asks; decoding a long pass takes some seconds.
SILENCE_S = 300.0
_EXIT_S = 2.0
_ERROR_LINES = 30
_DROPPED_PREFIXES = ("COV_", "COVERAGE_", "PYDEVD", "DEBUGPY", "PYCHARM")
_KEPT_PYTHON = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE")


class Child:
    """Raises :class:`ClientError` when its process cannot be started or fails, and
    :class:`ServerError` when the server keeps it from what it was told to do."""

    def __init__(self, cores: tuple[int, ...] | None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.spill = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            _command(cores, self.spill.fileno()),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=clean_environment(os.environ),
            pass_fds=(self.spill.fileno(),),
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Where its replies can be waited for."""
        return _open(self._process.stdout).fileno()

    def tell(self, command: Command) -> None:
        """Send a command."""
        from .messages import write_frame

        try:
            write_frame(_open(self._process.stdin).fileno(), command)
        except BrokenPipeError:
            raise self._died() from None

    def hear(self, silence_s: float = SILENCE_S) -> Reply:
        """The next reply."""
        import msgspec

        from .messages import Failed, Reply, read_frame

        frame = read_frame(lambda size: self._read(size, silence_s))
        if frame is None:
            raise self._died()
        reply: Reply = msgspec.msgpack.decode(frame, type=Reply)
        if isinstance(reply, Failed):
            raise ServerError(reply.summary, cause=reply.cause, remedy=reply.remedy)
        return reply

    def _read(self, size: int, silence_s: float) -> bytes:
        descriptor = self.fileno()
        if not select.select([descriptor], [], [], silence_s)[0]:
            self._process.kill()
            raise ClientError(f"the load client said nothing for {silence_s:g} s and was ended")
        return os.read(descriptor, size)

    def _died(self) -> ClientError:
        try:
            status: int | None = self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            status = None
        self._errors.seek(0)
        lines = self._errors.read().decode("utf-8", "replace").splitlines()[-_ERROR_LINES:]
        said = "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"
        return ClientError(
            f"the load client's process ended by itself (status {status}); "
            f"nothing it measured can be believed. It said:\n{said}"
        )

    def close(self) -> None:
        """End the process; harmless when it is gone."""
        process = self._process
        for stream in (process.stdin, process.stdout):
            if stream is not None and not stream.closed:
                _close_quietly(stream.close)
        try:
            process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._errors.close()
        self.spill.close()


def _open(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None or stream.closed:
        raise ClientError("the load client is closed")
    return stream


def _close_quietly(close: Callable[[], None]) -> None:
    try:
        close()
    except BrokenPipeError:
        return  # the child is gone already, which is what closing is for


def _command(cores: tuple[int, ...] | None, spill: int) -> list[str]:
    # -P: the directory we happen to be in must not shadow the standard library.
    command = [sys.executable, "-P", "-X", "utf8", "-m", "pytest_llmperf.load.worker"]
    command += ["--spill", str(spill)]
    if cores:
        command += ["--cores", ",".join(str(core) for core in cores)]
    return command


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without what makes a Python process trace, debug or profile itself."""
    kept = {
        name: value
        for name, value in environ.items()
        if not name.startswith(_DROPPED_PREFIXES)
        and (not name.startswith("PYTHON") or name in _KEPT_PYTHON)
    }
    home = Path(__file__).parents[2]
    if home.name not in ("site-packages", "dist-packages"):  # a checkout that is not installed
        paths = [kept["PYTHONPATH"]] if kept.get("PYTHONPATH") else []
        kept["PYTHONPATH"] = os.pathsep.join([*paths, str(home)])
    return kept
