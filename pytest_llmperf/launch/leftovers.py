"""Sweeps up after a keeper that was itself killed.

A keeper holds a lock on its run file while it lives. A run file that can be locked is therefore a
dead keeper's, and what its server left running is known by the mark in its environment. (Only a
process that was started with an environment of its own making escapes this, and only here: a living
keeper finds its descendants whatever they do.) What runs in a container is ended by the command
that the note names.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_llmperf import clock
from pytest_llmperf.reading import MIB, Unreadable, read_json

from .locks import subdirectory, try_lock, unlock

if TYPE_CHECKING:
    import psutil

#: Set for a server, inherited by all it starts.
MARK = "PYTEST_LLMPERF_LAUNCH"
_SWEEP_S = 10.0
_PAUSE_S = 0.05
#: What a command may take that ends a container.
END_S = 30.0


def run_file(launch_id: str) -> Path:
    """Where the keeper of a launch notes what it runs."""
    return subdirectory("runs") / f"{launch_id}.json"


def sweep() -> list[str]:
    """End what dead keepers left behind; sentences for each launch of which something was left."""
    said: list[str] = []
    for path in sorted(subdirectory("runs").glob("*.json")):
        # Where it is gone, its keeper ended in order, just now.
        with contextlib.suppress(FileNotFoundError):
            said += _sweep_one(path)
    return said


def _sweep_one(path: Path) -> list[str]:
    fd = try_lock(path, create=False)
    if fd is None:
        return []
    try:
        note = _note(path)
        launch = f"what an earlier launch ({path.stem}) left running"
        # Process numbers mean nothing after a restart or in another container.
        here = note["place"] == this_place()
        ended = end_marked(note["launch"], note["server"] if here else None)
        said = [f"ended {launch}: {', '.join(map(str, ended))}"] if ended else []
        if here and note.get("end"):
            # Before its container is gone the note is still needed.
            done, told = _end(note["end"])
            if not done:
                return [*said, f"could not end {launch}: {told}"]
            said += [f"ended {launch}: {told}"] if told else []
        path.unlink()
    finally:
        unlock(fd)
    return said


def _note(path: Path) -> dict[str, Any]:
    """What a keeper noted; of one that cannot be read the file's name tells the launch."""
    try:
        note = read_json(path, most=MIB)
        return {"place": note["place"], "launch": note["launch"], **note, "server": note["server"]}
    except (Unreadable, KeyError, TypeError):
        return {"place": "", "launch": path.stem, "server": None}


def _end(command: Sequence[str]) -> tuple[bool, str]:
    """Whether it succeeded, and what it said: then what it removed, nothing where none was left."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=END_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    if done.returncode != 0:
        return False, done.stderr.strip() or f"{command[0]} ended with status {done.returncode}"
    return True, done.stdout.strip()


def this_place() -> str:
    """Where process numbers are what they are: this boot, this namespace. Empty if unknown."""
    try:
        namespace = str(Path("/proc/self/ns/pid").readlink())
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {namespace}"
    except OSError:
        return ""


def end_marked(launch_id: str, server: int | None = None) -> list[int]:
    """Kill every process of a launch, until none is left; the pids that were killed.

    A process that has written over its own environment (to show a title) no longer has the mark;
    it counts when it is still in the session of ``server``.
    """
    deadline = clock.Deadline(_SWEEP_S)
    ended: set[int] = set()
    while (left := _of_launch(launch_id, server)) and not deadline.passed:
        for process in left:
            _kill(process)
            ended.add(process.pid)
        clock.sleep(_PAUSE_S)
    return sorted(ended)


def _of_launch(launch_id: str, server: int | None) -> list[psutil.Process]:
    import psutil

    marks = {process: _mark(process) for process in psutil.process_iter()}
    marked = [process for process, mark in marks.items() if mark == launch_id]
    if server is None or any(
        process.pid == server and mark != launch_id for process, mark in marks.items()
    ):
        # The number is unknown, or has passed to a process that has nothing to do with us.
        return marked
    hidden = [process for process, mark in marks.items() if mark is None]
    return marked + [process for process in hidden if _session(process.pid) == server]


def _mark(process: psutil.Process) -> str | None:
    """The mark it carries, "" for none, ``None`` when its environment has been written over."""
    import psutil

    try:
        if process.uids().real != os.getuid() or process.status() == psutil.STATUS_ZOMBIE:
            return ""
        environment = process.environ()
    except (psutil.Error, OSError):
        return ""  # gone meanwhile, or not ours to look into
    if MARK in environment:
        return environment[MARK]
    return "" if "PATH" in environment else None


def _session(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


def _kill(process: psutil.Process) -> None:
    import psutil

    # psutil makes sure that the number has not passed to another process.
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()
