"""A PostgreSQL server of our own, to measure stores on, and to test them."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_llmperf import clock

_START_S = 60.0
_STOP_S = 30.0


@contextmanager
def running(programs: Path, *settings: str) -> Iterator[Postgres]:
    """A new server of the PostgreSQL whose programs lie in this directory; ``settings`` are such as
    "fsync=off". It raises RuntimeError where the server does not start, with what it said."""
    user = _unprivileged()
    root = Path(tempfile.mkdtemp(prefix="llmperf-pg-"))
    os.chown(root, user.pw_uid, user.pw_gid)
    server = Postgres(programs, root, user)
    try:
        server.start(settings)
        yield server
    finally:
        server.stop()
        shutil.rmtree(root)


def installed() -> Path | None:
    """The directory with ``initdb`` of the newest PostgreSQL here; Debian has it on no PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None


def _version(initdb: Path) -> int:
    return int(initdb.parents[1].name)


def _unprivileged() -> pwd.struct_passwd:
    """PostgreSQL refuses to be run by root."""
    if os.getuid() != 0:
        return pwd.getpwuid(os.getuid())
    known = {user.pw_name: user for user in pwd.getpwall()}
    return known.get("postgres") or known["nobody"]


class Postgres:
    """A server on a Unix socket below ``root``, run by ``user``."""

    def __init__(self, programs: Path, root: Path, user: pwd.struct_passwd) -> None:
        self._programs = programs
        self._root = root
        self._user = user
        self._names = itertools.count(1)
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str = "postgres") -> str:
        return f"postgresql://postgres@/{database}?host={self._root}"

    def new_database(self) -> str:
        name = f"t{next(self._names)}"
        self.execute("postgres", f"CREATE DATABASE {name}")
        return name

    def execute(self, database: str, statement: str) -> None:
        self._run("psql", "-qX", "-v", "ON_ERROR_STOP=1", "-d", database, "-c", statement)

    def start(self, settings: tuple[str, ...]) -> None:
        data = str(self._root / "data")
        initialise = ("-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        self._run("initdb", *initialise, "--locale=C")
        options = ["-D", data, "-k", str(self._root)]
        for setting in ("listen_addresses=", *settings):
            options += ["-c", setting]
        with (self._root / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", *options],
                stdout=log,
                stderr=log,
                cwd=self._root,
                **self._identity(),
            )
        self._wait(self._process)

    def stop(self) -> None:
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)  # "fast": it does not wait for clients
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = clock.Deadline(_START_S)
        ready = [str(self._programs / "pg_isready"), "-q", "-h", str(self._root)]
        while subprocess.run(ready, check=False).returncode != 0:
            if process.poll() is not None or deadline.passed:
                raise RuntimeError((self._root / "log").read_text(errors="replace"))
            clock.sleep(0.05)

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self._programs / program), *arguments]
        environment = {"PGHOST": str(self._root), "PGUSER": "postgres", "LC_ALL": "C"}
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            check=False,
            cwd=self._root,
            env=environment,
            **self._identity(),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program}: {done.stdout}{done.stderr}")

    def _identity(self) -> dict[str, Any]:
        if os.getuid() != 0:
            return {}
        return {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
