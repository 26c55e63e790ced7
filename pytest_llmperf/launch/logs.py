"""A server's log: its header, its end, and the lines that are new since the last look."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.reading import end_of
from pytest_llmperf.records import LaunchPlan
from pytest_llmperf.redact import redact_argv, redact_env, redact_printed

TAIL_LINES = 40
_LINE_LENGTH = 400
#: Lines that we write ourselves start with it, so that they are not taken for the server's.
HEADER_MARK = "# "

# Colours and cursor movements (CSI), window titles (OSC), and other two-character escapes.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


def write_header(path: Path, plan: LaunchPlan, launch_id: str, extra: Sequence[str] = ()) -> None:
    """Begin the log with what is started and how; secrets are hidden."""
    lines = [
        f"pytest-llmperf launch {launch_id} at {clock.stamp().isoformat(timespec='seconds')}",
        *(f"{name}={shlex.quote(value)}" for name, value in redact_env(plan.env)),
        shlex.join(redact_argv(plan.argv)),
    ]
    if plan.cores is not None:
        cores = ", ".join(map(str, plan.cores))
        lines.append(f"to be pinned, once it is ready, to the cores {cores}")
    lines += [f"recipe: {plan.recipe}"] if plan.recipe else []
    lines += [f"note: {note}" for note in plan.notes]
    lines += extra
    text = "".join(f"{HEADER_MARK}{part}\n" for line in lines for part in line.splitlines())
    write_anew(path, text)


def write_anew(path: Path, text: str) -> None:
    """Write ``text`` to a file of our own in place of what is at ``path``: in a directory that
    others may write to, that could be a link to another file, or a file that they go on changing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with path.open("x", encoding="utf-8", errors="backslashreplace") as file:
        file.write(text)


def clean_line(line: str) -> str:
    """``line`` as a terminal would show it in the end: no escapes, only the last of a progress
    bar's states, no secrets that it names, cut when it is over-long."""
    shown = _ESCAPES.sub("", line).rstrip("\r\n")
    shown = redact_printed(_CONTROLS.sub("", shown.rpartition("\r")[2]).rstrip())
    if len(shown) > _LINE_LENGTH:
        return f"{shown[:_LINE_LENGTH]} … ({len(shown) - _LINE_LENGTH} more characters)"
    return shown


def clean_lines(text: str) -> list[str]:
    """The lines of ``text`` worth showing: the server's own, cleaned, without empty ones."""
    lines = (clean_line(line) for line in text.split("\n") if not line.startswith(HEADER_MARK))
    return [line for line in lines if line]


def last_lines(path: Path, count: int = TAIL_LINES) -> tuple[str, ...]:
    """The last ``count`` lines of a log that the server wrote; none when there is no log."""
    try:
        with path.open("rb") as log:
            text = end_of(log)
    except FileNotFoundError:
        return ()
    return tuple(clean_lines(text)[-count:])


class LogFollower:
    """Reads the lines of a growing log, each once. A line counts when it is ended, or when a
    progress bar went back to its beginning."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""

    def new_lines(self) -> list[str]:
        with self._path.open("rb") as log:
            log.seek(self._offset)
            data = log.read()
        self._offset += len(data)
        *ended, self._rest = re.split(rb"[\r\n]", self._rest + data)
        return clean_lines("\n".join(part.decode("utf-8", errors="replace") for part in ended))


def latest_progress(
    lines: Iterable[str], patterns: Sequence[tuple[re.Pattern[str], str]]
) -> str | None:
    """The text of the last line that matches one of the patterns."""
    found = None
    for line in lines:
        for pattern, text in patterns:
            if match := pattern.search(line):
                found = match.expand(text)
                break
    return found
