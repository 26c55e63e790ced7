"""One child process that asks, seen from its parent: started clean, spoken to, ended.

It has no coverage, no debugger and no foreign threads, and may have CPU cores of its own, so that
nothing that happens in the test process can delay its time stamps.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from pytest_llmperf.errors import ClientError
from pytest_llmperf.reading import end_of

from .line import SILENCE_S, Line

if TYPE_CHECKING:
    from collections.abc import Callable

    from .messages import Command, Reply

_EXIT_S = 2.0
_ERROR_LINES = 30
_DROPPED_PREFIXES = ("COV_", "COVERAGE_", "PYDEVD", "DEBUGPY", "PYCHARM")
_KEPT_PYTHON = ("PYTHONPATH", "PYTHONHOME", "PYTHONUSERBASE", "PYTHONNOUSERSITE")


class Child:
    """Raises :class:`ClientError` when its process cannot be started or fails, and
    :class:`~pytest_llmperf.errors.ServerError` when the server keeps it from its work."""

    def __init__(self, cores: tuple[int, ...] | None) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
        self.spill: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - closed by close()
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

    @property
    def line(self) -> Line:
        """What is said to it and heard of it. Raises :class:`ClientError` once it is closed."""
        return Line(
            _open(self._process.stdin).fileno(),
            self.fileno(),
            died=self._died,
            give_up=self._process.kill,
        )

    def fileno(self) -> int:
        """Where its replies can be waited for."""
        return _open(self._process.stdout).fileno()

    def tell(self, command: Command) -> None:
        """Send a command."""
        self.line.tell(command)

    def hear(self, silence_s: float = SILENCE_S) -> Reply:
        """The next reply."""
        return self.line.hear(silence_s)

    def _died(self) -> ClientError:
        try:
            status: int | None = self._process.wait(_EXIT_S)
        except subprocess.TimeoutExpired:
            status = None
        return ClientError(
            f"the load client's process ended by itself (status {status}); "
            f"nothing it measured can be believed. It said:\n{said_at_last(self._errors)}"
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


class Processes:
    """Children on this machine, each on one of ``cores`` where they are given some."""

    #: From the last process being ready to the first request.
    lead_ns = 20_000_000

    def __init__(self, cores: tuple[int, ...] | None = None, *, wanted: int | None = None) -> None:
        self._cores = cores
        self.wanted = wanted

    @property
    def most(self) -> int:
        """As many as can each have a core, with one left for others where nobody said."""
        if self._cores:
            return len(self._cores)
        return max(1, (os.cpu_count() or 1) - 1)

    def hire(self, first: int, count: int) -> list[Child]:
        """Start ``count`` of them."""
        children: list[Child] = []
        try:
            for number in range(first, first + count):
                children.append(Child(self._core(number)))  # noqa: PERF401 - some may have begun
        except BaseException:
            for child in children:
                child.close()
            raise
        return children

    def _core(self, number: int) -> tuple[int, ...] | None:
        return (self._cores[number % len(self._cores)],) if self._cores else None


def said_at_last(errors: IO[bytes]) -> str:
    """The last lines of what a process wrote to ``errors``."""
    lines = end_of(errors).splitlines()[-_ERROR_LINES:]
    return "\n".join(f"  | {line}" for line in lines) or "  | (nothing)"


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
