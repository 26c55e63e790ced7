"""Everything this package raises on purpose.

::

    LlmPerfError
    ├── UsageMistake        the user's declaration or command is wrong; becomes pytest.UsageError
    ├── ServerError         broken: a server did not start, died, or was not ours
    │   └── ClusterError    broken: a Ray cluster could not be joined, or was lost
    ├── ClientError         broken: our own load client could not do its work
    ├── ReportError         the report could not be written, or does not match its schema
    └── GateError           a gate's decision, raised in the test's call phase
        ├── LimitMissed     slow: a floor or ceiling was missed
        ├── Regressed       slow: worse than the accepted level or the reference
        └── Inconclusive    not measurable: something that was declared is not covered

Each carries its data as attributes; ``str()`` of each is the text that a person reads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from .inert import inert_text


class LlmPerfError(Exception):
    """Base of all errors of this package."""


class UsageMistake(LlmPerfError):
    """A declaration, option or argument that cannot be meant; says what, where and the remedy."""


class ServerError(LlmPerfError):
    """A server that could not be started, died, or turned out to be somebody else's.

    ``summary`` is one sentence; ``cause`` and ``remedy`` are plain words or empty; ``exit_status``
    is the exit code, negative for a signal, ``None`` while the process lived; ``seconds`` counts
    from its start; ``log_tail`` holds the last lines of its log and ``log_path`` the whole of it.
    """

    def __init__(
        self,
        summary: str,
        *,
        cause: str = "",
        remedy: str = "",
        argv: Sequence[str] = (),
        exit_status: int | None = None,
        seconds: float | None = None,
        log_tail: Sequence[str] = (),
        log_path: Path | None = None,
    ) -> None:
        super().__init__(summary)
        self.summary = summary
        self.cause = cause
        self.remedy = remedy
        self.argv = tuple(argv)
        self.exit_status = exit_status
        self.seconds = seconds
        self.log_tail = tuple(log_tail)
        self.log_path = log_path

    def __str__(self) -> str:
        # One line often is all that is seen: of a server that ended it had better say why.
        lines = [self.summary]
        if self.cause and self.exit_status is not None:
            lines = [self.cause, f"what happened: {self.summary}"]
        elif self.cause:
            lines.append(f"cause: {self.cause}")
        if self.remedy:
            lines.append(f"try: {self.remedy}")
        if self.argv:
            lines.append(f"started: {' '.join(self.argv)}")
        if self.log_tail:
            lines.append("the end of its log:")
            lines.extend(f"  | {line}" for line in self.log_tail)
        if self.log_path:
            lines.append(f"whole log: {self.log_path}")
        return "\n".join(map(inert_text, lines))


class ClusterError(ServerError):
    """A cluster that could not be joined, was lost, or did not do what it was asked."""


class ClientError(LlmPerfError):
    """The load client's own process failed; nothing it measured may be believed."""


class ReportError(LlmPerfError):
    """The report could not be written as asked; ``path`` is where it was wanted."""

    def __init__(self, message: str, *, path: Path) -> None:
        super().__init__(message)
        self.path = path


class GateError(LlmPerfError):
    """A decided gate. ``verdicts`` holds every verdict of the test, the worst first."""

    def __init__(self, message: str, *, verdicts: Sequence[object] = ()) -> None:
        super().__init__(message)
        self.verdicts = tuple(verdicts)


class LimitMissed(GateError, AssertionError):
    """A floor or a ceiling was missed."""


class Regressed(GateError, AssertionError):
    """Worse than the accepted level or the A/B reference."""


class Inconclusive(GateError):
    """Declared but not covered: nothing was measured that could decide the gate."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for a misspelt word, or the list of valid ones; starts with a space."""
    from difflib import get_close_matches

    options = sorted(valid)
    close = get_close_matches(word, options, n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else f" Valid: {', '.join(options)}."
