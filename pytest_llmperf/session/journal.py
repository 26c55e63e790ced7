"""What finished tests have reported, kept while their session runs, in case it is cut off.

Beside a report ``PATH`` lies ``PATH.unfinished``: a line of facts about the session, then one for
each perf test that has ended, with pytest's own reports of it. A session that comes to its end
removes the file; one that was killed or interrupted leaves it for ``--llmperf-resume``.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.gates.comparable import differences
from pytest_llmperf.settings import Settings

from .environment import git_identity, package_versions, written_by_us
from .required import without_group

OPTION = "--llmperf-resume"
#: The attribute of a report that was taken over.
RESUMED = "llmperf_resumed"
_FORMAT = 1
#: Settings that change no figure and no verdict.
_OUTPUTS = frozenset(
    {
        "report", "html", "markdown", "exports", "github", "progress", "log_dir", "cache_dir",
        "lock_dir", "plan_only", "declarations", "require", "resume", "profile_on_fail",
    }
)  # fmt: skip
#: Endings of a test that has said all it had to say; others are worth another try.
_FINISHED = ("passed", "slow", "failed", "xfailed")
#: What a test's result holds that is not that test's alone.
_BESIDE = ("environment", "launches")
#: The beginning of a finished test's line, with the test's name.
_TEST = re.compile(rb'\{"test": ("(?:[^"\\]|\\.)*"), ')
_MAP = dict[str, Any]


def journal_path(report: Path) -> Path:
    """Where the session that writes ``report`` keeps what has ended so far."""
    return report.with_name(f"{report.name}.unfinished")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A test that has ended: a digest of what it declared, and pytest's reports of it, as
    ``pytest_report_to_serializable`` makes them."""

    identity: str
    reports: tuple[_MAP, ...]

    @property
    def fragment(self) -> _MAP:
        """What the test contributed to the report."""
        found: _MAP = next(each["llmperf"] for each in self.reports if each.get("llmperf"))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What an interrupted session has left: tests that had ended, by node id, and what its tests
    said of the place and of launches, with the test that said it."""

    ended: Mapping[str, Ended]
    beside: tuple[tuple[str, _MAP], ...]


class Journal:
    """Written by the process that collects all results; no other session may while it does.

    A disk that refuses costs the chance to go on later and nothing else. ``resumed`` says that this
    session goes on with the journal that is there; another one takes its place as soon as a test
    of its own has finished, and not before. Raises
    :class:`~pytest_llmperf.errors.UsageMistake` where another session writes the same report.
    """

    def __init__(self, config: pytest.Config, settings: Settings, *, resumed: bool) -> None:
        if settings.report is None:
            raise ValueError("a journal lies beside a report")
        self.path = journal_path(settings.report)
        self._config = config
        # Of the beginning: what is changed while a test measures was not what it measured.
        self._facts = facts_of(config, settings)
        self._resumed = resumed
        self._fd: int | None = None
        self._trouble: str | None = None
        #: Whether what is in the file is this session's.
        self._ours = resumed
        #: The finished tests that are in the file, those that were when this session began, and
        #: how many have been taken over.
        self._there: set[str] = set()
        self._left = self._taken_over = 0
        self._reports: dict[str, list[pytest.TestReport]] = {}
        #: Lines that mean something once a test that has finished follows them.
        self._waiting: list[_MAP] = []
        try:
            self._begin()
        except OSError as error:
            self._give_up(error)

    def add(self, report: pytest.TestReport) -> None:
        """Take a report; a test's line is written with that of its teardown."""
        if getattr(report, RESUMED, False):
            self._taken_over += report.when == "teardown"
            return
        test = without_group(report.nodeid)
        self._reports.setdefault(test, []).append(report)
        fragment = getattr(report, "llmperf", None) or {}
        # A launch and the place ride on one test's result and belong to all.
        if beside := {name: fragment[name] for name in _BESIDE if fragment.get(name)}:
            self._waiting.append({"beside": beside, "test": test})
        if report.when == "teardown":
            self._end(test, report)

    def _end(self, test: str, report: pytest.TestReport) -> None:
        reports = self._reports.pop(test)
        said = (getattr(each, "llmperf", None) for each in reversed(reports))
        # A plugin may have run it again: the last fragment holds.
        fragment = next(filter(None, said), None)
        if fragment is None or not report.passed or not _finished(fragment):
            return
        parts = [self._plain(each) for each in reports]
        # Other kinds of report, as of subtests, do not survive being written down.
        usual = all(each.get("$report_type") == "TestReport" for each in parts)
        if usual and any(each.get("llmperf") for each in parts):
            self._write(test, parts)

    def settle(self, *, done: bool, at_first_failure: bool = False) -> list[str]:
        """The session is over; the journal goes if all was ``done`` and the report is written, or
        no test is in it. What another session has left stays. Returns lines for the summary."""
        self._let_go(over=done and self._ours)
        return [*self._beginnings(), *([] if done else self._ends(at_first_failure))]

    def close(self) -> None:
        """Let go of the file, as it is; of one without a test in it nothing stays."""
        self._let_go(over=False)

    def _let_go(self, *, over: bool) -> None:
        if self._fd is None:
            return
        if over or not self._there:
            self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = None

    def _beginnings(self) -> Iterator[str]:
        if self._taken_over:
            yield (
                f"{OPTION}: {_tests(self._taken_over)} of the interrupted session taken over, not "
                "run again"
            )
        elif self._resumed and not self._left:
            yield f"{OPTION}: nothing to go on with in {self.path}"
        if self._left and not self._resumed:
            had = f"an interrupted session had left {_tests(self._left)} in {self.path}"
            if self._ours:
                yield f"{had}; this session began anew, for {OPTION} was not given"
            else:
                yield f"{had}; they are still there, and {OPTION} goes on behind them"

    def _ends(self, at_first_failure: bool) -> Iterator[str]:
        if self._trouble is not None:
            yield self._trouble
        elif self._there and self._ours:
            # A failure that is reported again would stop the session at the same place.
            without = ", without -x or --maxfail," if at_first_failure else ""
            yield (
                f"{_tests(len(self._there))} kept in {self.path}; the same command{without} and "
                f"{OPTION} goes on there"
            )

    def _plain(self, report: pytest.TestReport) -> _MAP:
        """As xdist would send it, without what other plugins hang on it and JSON cannot hold."""
        data: _MAP = self._config.hook.pytest_report_to_serializable(
            config=self._config, report=report
        )
        return data if _is_plain(data) else {n: v for n, v in data.items() if _is_plain(v)}

    def _begin(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._fd = fd = _locked(self.path)
        there = self.path.read_bytes()
        whole = there.rfind(b"\n") + 1
        self._there = set(_named(there[:whole]))
        self._left = len(self._there)
        if self._resumed:
            # A kill may have cut the last line short: what comes next begins a line.
            os.ftruncate(fd, whole)

    def _write(self, test: str, parts: list[_MAP]) -> None:
        if self._fd is None or self._trouble is not None:
            return
        try:
            self._make_ours(self._fd)
            for line in (*self._waiting, {"test": test, "reports": parts}):
                self._append(self._fd, line)
        except OSError as error:
            self._give_up(error)
            return
        self._waiting.clear()
        self._there.add(test)

    def _make_ours(self, fd: int) -> None:
        if not self._ours:
            os.ftruncate(fd, 0)
            self._there.clear()
            self._ours = True
        if not os.fstat(fd).st_size:
            self._append(fd, self._facts)

    @staticmethod
    def _append(fd: int, line: _MAP) -> None:
        left = memoryview((json.dumps(line) + "\n").encode())
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)

    def _give_up(self, error: OSError) -> None:
        self._trouble = (
            f"{self.path} could not be written ({error.strerror or error}): were this session "
            f"cut off, {OPTION} could not go on with it"
        )


def _named(lines: bytes) -> Iterator[str]:
    """The finished tests that are in ``lines``."""
    for line in lines.split(b"\n"):
        if match := _TEST.match(line):
            yield str(json.loads(match[1]))


def _locked(path: Path) -> int:
    """A descriptor of the file, made where it is not there, that this process alone may have. It
    holds what tests have printed; who may read the report need not be shown that."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The session before may have removed it between these two lines.
            if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise UsageMistake(
                f"--llmperf-report: another session is writing {path.with_suffix('')} now; name "
                "another place, or wait until it has ended."
            ) from None
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def read_journal(path: Path, facts: Mapping[str, Any]) -> Left:
    """What an interrupted session has left; nothing where there is no journal.

    ``facts`` are those of this session. Raises :class:`~pytest_llmperf.errors.UsageMistake` where
    the file cannot be read, or was left by a session of which this one is no continuation.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return Left(ended={}, beside=())
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from None
    # A kill may cut the last line short; what has no end is not taken for one.
    parsed = [_parsed(path, number, line) for number, line in enumerate(lines[:-1], 1)]
    if not parsed:
        return Left(ended={}, beside=())
    _check(path, parsed[0], facts)
    numbered = list(enumerate(parsed[1:], 2))
    return Left(
        ended=dict(_ended(path, at, line) for at, line in numbered if "beside" not in line),
        beside=tuple(_beside(path, at, line) for at, line in numbered if "beside" in line),
    )


def _parsed(path: Path, number: int, line: str) -> _MAP:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise _unreadable(path, f"line {number} is no JSON object")
    return value


def _ended(path: Path, number: int, line: _MAP) -> tuple[str, Ended]:
    try:
        reports = tuple(line["reports"])
        fragment = next(each["llmperf"] for each in reversed(reports) if each.get("llmperf"))
        if _finished(fragment):
            return str(line["test"]), Ended(identity=fragment["identity"], reports=reports)
    except (KeyError, TypeError, AttributeError, StopIteration):
        pass
    raise _unreadable(path, f"line {number} is not what a session writes")


def _beside(path: Path, number: int, line: _MAP) -> tuple[str, _MAP]:
    found = line["beside"]
    if isinstance(found, dict) and found.keys() <= set(_BESIDE):
        return str(line.get("test")), found
    raise _unreadable(path, f"line {number} is not what a session writes")


def _unreadable(path: Path, why: str) -> UsageMistake:
    return UsageMistake(
        f"{OPTION}: {path} cannot be used ({why}); remove it, or leave {OPTION} out, to begin anew."
    )


def facts_of(config: pytest.Config, settings: Settings) -> _MAP:
    """What two sessions must have in common to be one; digests where a value may be a secret."""
    return {
        "journal": _FORMAT,
        "versions": package_versions(),
        "git": git_identity(config.rootpath, written_by_us(config)),
        "settings": {
            field.name: digest(getattr(settings, field.name))
            for field in fields(settings)
            if field.name not in _OUTPUTS
        },
    }


def _check(path: Path, then: _MAP, now: Mapping[str, Any]) -> None:
    parts = ("versions", "git", "settings")
    if then.get("journal") != _FORMAT or not all(isinstance(then.get(n), dict) for n in parts):
        raise _unreadable(path, "another version of pytest-llmperf wrote it")
    if unknown := now["git"].get("unknown") or then["git"].get("unknown"):
        raise UsageMistake(
            f"{OPTION}: whether this is the checkout of the interrupted session is not known "
            f"({unknown}); leave {OPTION} out to begin anew."
        )
    differing = differences(now["settings"], then["settings"])
    options = (f"--llmperf-{each.name.replace('_', '-')}" for each in differing)
    refuse([*unlike(then["versions"], now["versions"]), *unlike(then["git"], now["git"]), *options])


def refuse(differing: Sequence[str]) -> None:
    """Raise UsageMistake if anything differs."""
    if differing:
        raise UsageMistake(
            f"{OPTION}: the interrupted session is not the beginning of this one, for these "
            f"differ: {', '.join(differing)}. Make them alike, or leave {OPTION} out to begin anew."
        )


def unlike(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, for people, with both values."""
    return [f"{each.name} ({each.old} -> {each.new})" for each in differences(now, then)]


def digest(value: object) -> str:
    """Of anything whose ``repr`` says all of it."""
    return hashlib.sha256(repr(value).encode()).hexdigest()[:16]


def _finished(fragment: Mapping[str, Any]) -> bool:
    """Whether running the test again would only measure the same once more."""
    outcomes = [test["outcome"] for test in fragment["tests"]]
    return bool(fragment["measurements"]) and all(each in _FINISHED for each in outcomes)


def _tests(count: int) -> str:
    return f"{count} finished test{'s' * (count != 1)}"


def _is_plain(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True
