"""Builds the ground-truth server with the system's C compiler, and runs it."""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from .log import TrueRequest, read_log

Fault = Literal["error", "cut", "http_500", "stall", "no_finish", "no_done", "garbage"]

_HERE = Path(__file__).parent
_SOURCES = ("server.c", "state.h", "answer.h", "request.h")
_FLAGS = ("-O2", "-std=gnu11", "-Wall", "-Wextra", "-Werror")
_COMPILERS = ("cc", "gcc", "clang")
_STOP_S = 10.0


def build() -> Path:
    """The server's executable, compiled unless these very sources have been before.

    Raises :class:`RuntimeError` when there is no compiler, or when it refuses the sources.
    """
    digest = hashlib.sha256(" ".join(_FLAGS).encode())
    for name in _SOURCES:
        digest.update((_HERE / name).read_bytes())
    target = _HERE / ".build" / f"truth-{digest.hexdigest()[:16]}"
    if target.exists():
        return target
    target.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as directory:
        fresh = Path(directory) / target.name
        command = [_compiler(), *_FLAGS, str(_HERE / "server.c"), "-o", str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the ground-truth server does not compile:\n{done.stderr}")
        fresh.replace(target)
    return target


def _compiler() -> str:
    for name in (os.environ.get("CC"), *_COMPILERS):
        if name and (found := shutil.which(name)):
            return found
    raise RuntimeError(
        "the ground-truth server is written in C, and no C compiler was found "
        f"(looked for {', '.join(_COMPILERS)}); install gcc, or name one with CC"
    )


class TruthServer:
    """The ground-truth server on a free port of 127.0.0.1; use as a context manager.

    Times in ms. Streams step together on one clock unless ``free``, where each keeps its own from
    its arrival. ``flood`` chunks go out in each send as fast as the socket takes them, ``itl_ms``
    apart from nothing. ``fault`` befalls every ``fault_every``-th streamed request once
    ``fault_after`` tokens are out. ``core`` is the CPU core to stay on.
    """

    def __init__(
        self,
        *,
        core: int | None = None,
        ttft_ms: float = 100.0,
        itl_ms: float = 20.0,
        tokens_per_chunk: int = 1,
        free: bool = False,
        flood: int | None = None,
        role_first: bool = False,
        reasoning_fraction: float = 0.0,
        no_usage: bool = False,
        fault: Fault | None = None,
        fault_every: int = 10,
        fault_after: int = 3,
        model: str = "truth",
    ) -> None:
        self.model = model
        self._arguments = [
            *(f"--model={model}", f"--ttft-ms={ttft_ms}", f"--itl-ms={itl_ms}"),
            f"--tokens-per-chunk={tokens_per_chunk}",
            f"--reasoning-fraction={reasoning_fraction}",
            *([f"--core={core}"] if core is not None else []),
            *(["--free"] if free else []),
            *([f"--flood={flood}"] if flood is not None else []),
            *(["--role-first"] if role_first else []),
            *(["--no-usage"] if no_usage else []),
            *([f"--fault={fault}"] if fault is not None else []),
            *(f"--fault-every={fault_every}", f"--fault-after={fault_after}"),
        ]
        self._port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> Self:
        executable = build()
        self._directory = tempfile.TemporaryDirectory()
        self._log = Path(self._directory.name) / "log"
        self._process = subprocess.Popen(
            [executable, f"--log={self._log}", *self._arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        said = self._process.stdout.readline().split()
        if said[:1] != ["listening"]:
            self.__exit__(None, None, None)
            raise RuntimeError("the ground-truth server did not start; it said why above")
        self._port = int(said[1])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._directory.cleanup()

    def truth(self) -> list[TrueRequest]:
        """Every generation request since the start or the last reset, in order of arrival."""
        self._post("/log")
        return read_log(self._log)

    def reset(self) -> None:
        """Forget all requests. Raises :class:`RuntimeError` while one is being answered."""
        self._post("/reset")

    def _post(self, path: str) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            connection.request("POST", path)
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"the ground-truth server answered {path} with {response.status}")
