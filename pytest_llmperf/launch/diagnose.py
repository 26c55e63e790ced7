"""Why a server did not come up or died, in words, from its log and how it ended."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pytest_llmperf.records import FailureCause


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """A cause and what to try, each in plain words or empty."""

    cause: str
    remedy: str


#: What any server may say of itself, looked for after the engine's own causes.
COMMON_CAUSES = (
    FailureCause(
        pattern=r"(?i)\[Errno (?:98|48)\]|EADDRINUSE|address (?:is )?already in use",
        cause="the port it wanted is in use by another process",
        remedy="stop that process, or let the port be chosen freely",
    ),
    FailureCause(
        pattern=r"(?i)\[Errno 28\]|No space left on device",
        cause="the disk is full",
        remedy="free some space, or point the caches at another disk",
    ),
    FailureCause(
        pattern=r"(?i)\[Errno 24\]|Too many open files",
        cause="the limit of open files was reached",
        remedy="raise it with `ulimit -n`",
    ),
    FailureCause(
        pattern=r"error while loading shared libraries: (\S+)|(\S+\.so[.\d]*): cannot open shared",
        cause="a shared library could not be loaded",
        remedy="install the library named in the log, or a build that does not need it",
    ),
    FailureCause(
        # At the beginning of its line: engines mention optional modules in passing.
        pattern=r"^ModuleNotFoundError: No module named|^\S*python\S*: No module named",
        cause="a Python module is missing in the server's environment",
        remedy="install it there, or name the right interpreter with python=",
    ),
    FailureCause(
        pattern=r"error: (?:unrecognized arguments|argument .+ invalid|the following arguments)",
        cause="its own argument parser refused the command",
        remedy="check args= against this version of the engine",
    ),
    FailureCause(
        pattern=r"\bMemoryError\b|std::bad_alloc|Cannot allocate memory",
        cause="the host ran out of memory",
        remedy="use a smaller model or context, or a host with more memory",
    ),
)

#: A warning tells what may happen: vLLM's, of open files, is in every log of it.
_WARNING = re.compile(r"\bWARN(?:ING)?\b")
_EXCEPTION = re.compile(r"^(?:[\w.]+\.)?[A-Z]\w*(?:Error|Exception|Exit|Interrupt)\b(?::.*)?$")
_SIGNAL_HINTS: dict[int, tuple[str, str]] = {
    signal.SIGKILL: (
        "nothing here sent it: often the kernel or a container that ran out of memory",
        "look at the kernel's log and the container's memory limit",
    ),
    signal.SIGSEGV: ("it read memory that is not its own", "try another build of its kernels"),
    signal.SIGILL: (
        "this processor lacks an instruction that the build uses",
        "install a build for this processor",
    ),
    signal.SIGBUS: ("often shared memory that is too small", "enlarge /dev/shm (--shm-size)"),
    signal.SIGABRT: ("a check inside it failed", "see the end of its log"),
}


def diagnose(
    lines: Sequence[str], exit_status: int | None, causes: Iterable[FailureCause] = ()
) -> Diagnosis:
    """The best explanation there is; both parts empty when nothing is known.

    ``lines`` are the end of the log. ``causes`` are tried in their order, each on all lines, before
    the common ones; then the way it ended speaks. ``exit_status`` is negative for a signal.
    """
    found = _first_cause(causes, lines)
    if found is None:
        happened = [line for line in lines if not _WARNING.search(line)]
        found = _first_cause(COMMON_CAUSES, happened)
    if found is not None:
        return found
    if exit_status is not None and exit_status < 0:
        return _from_signal(-exit_status)
    return _from_traceback(lines)


def _first_cause(causes: Iterable[FailureCause], lines: Sequence[str]) -> Diagnosis | None:
    for cause in causes:
        pattern = re.compile(cause.pattern)
        for line in reversed(lines):
            if match := pattern.search(line):
                return Diagnosis(cause=_quoted(cause.cause, match), remedy=cause.remedy)
    return None


def is_final(lines: Iterable[str], causes: Iterable[FailureCause]) -> bool:
    """Whether one of the ``lines`` says that nobody will be served any more."""
    patterns = [re.compile(cause.pattern) for cause in causes if cause.final]
    return any(pattern.search(line) for line in lines for pattern in patterns)


def _quoted(cause: str, match: re.Match[str]) -> str:
    return f"{cause} (it logged: {match.string.strip()[:200]})"


def _from_signal(number: int) -> Diagnosis:
    hint, remedy = _SIGNAL_HINTS.get(number, ("", ""))
    said = f"it was killed by {signal_name(number)}"
    return Diagnosis(cause=f"{said}; {hint}" if hint else said, remedy=remedy)


def _from_traceback(lines: Sequence[str]) -> Diagnosis:
    for line in reversed(lines):
        if _EXCEPTION.match(line.strip()):
            return Diagnosis(cause=line.strip(), remedy="see the end of its log")
    return Diagnosis(cause="", remedy="")


def signal_name(number: int) -> str:
    """``SIGKILL (9)``; real-time signals have only their number."""
    try:
        return f"{signal.Signals(number).name} ({number})"
    except ValueError:
        return f"signal {number}"


def describe_exit(status: int) -> str:
    """How a process ended, as the rest of "the server …"."""
    if status < 0:
        return f"was killed by {signal_name(-status)}"
    return f"ended with exit status {status}"
