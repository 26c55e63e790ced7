"""What finished tests have reported, kept while their session runs, in case it is cut off.

Beside a report ``PATH`` lies ``PATH.unfinished``: a line of facts about the session, then one for
each perf test that has ended, with pytest's own reports of it. A session that comes to its end
removes the file; one that was killed or interrupted leaves it for ``--llmperf-resume``.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.settings import Settings

from .environment import git_facts, package_versions, written_by_us

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


class Journal:
    """Written by the process that collects all results.

    A disk that refuses costs the chance to go on later and nothing else. ``resumed`` says that this
    session goes on with the journal that is there.
    """

    def __init__(self, config: pytest.Config, settings: Settings, *, resumed: bool) -> None:
        if settings.report is None:
            raise ValueError("a journal lies beside a report")
        self.path = journal_path(settings.report)
        self._config = config
        self._settings = settings
        self._resumed = resumed
        self._begun = resumed and self.path.exists()
        self._trouble: str | None = None
        #: Tests written, those that were there already, and those of a session not gone on with.
        self._kept = self._taken_over = self._replaced = 0
        self._reports: dict[str, list[_MAP]] = {}

    def add(self, report: pytest.TestReport) -> None:
        """Take a report; a test's line is written with that of its teardown."""
        if getattr(report, RESUMED, False):
            self._taken_over += report.when == "teardown"
            return
        parts = self._reports.setdefault(report.nodeid, [])
        parts.append(self._plain(report))
        if report.when != "teardown":
            return
        del self._reports[report.nodeid]
        # A plugin may have run it again: the last fragment holds.
        fragment = next((each["llmperf"] for each in reversed(parts) if each.get("llmperf")), None)
        if report.passed and fragment is not None and _finished(fragment):
            self._write({"test": report.nodeid, "reports": parts})

    def settle(self, *, done: bool) -> list[str]:
        """The session is over; the journal goes if all was ``done`` and the report is written.
        Returns lines for the summary."""
        if done and self._begun:
            self.path.unlink(missing_ok=True)
        return [*self._beginnings(), *([] if done else self._ends())]

    def _beginnings(self) -> Iterator[str]:
        if self._taken_over:
            yield (
                f"{OPTION}: {_tests(self._taken_over)} of the interrupted session taken over, not "
                "run again"
            )
        elif self._resumed:
            yield f"{OPTION}: nothing to go on with in {self.path}; every test was run"
        if self._replaced:
            yield (
                f"an interrupted session had left {_tests(self._replaced)} in {self.path}; they "
                f"were run again, for {OPTION} was not given"
            )

    def _ends(self) -> Iterator[str]:
        if self._trouble is not None:
            yield self._trouble
        elif kept := self._kept + self._taken_over:
            yield f"{_tests(kept)} kept in {self.path}; the same command and {OPTION} goes on there"

    def _plain(self, report: pytest.TestReport) -> _MAP:
        """As xdist would send it, without what other plugins hang on it and JSON cannot hold."""
        data = self._config.hook.pytest_report_to_serializable(config=self._config, report=report)
        return {name: value for name, value in data.items() if _is_plain(value)}

    def _write(self, line: _MAP) -> None:
        if self._trouble is not None:
            return
        try:
            if not self._begun:
                self._begin()
            self._append(line)
            self._kept += 1
        except OSError as error:
            self._trouble = (
                f"{self.path} could not be written ({error.strerror or error}): were this session "
                f"cut off, {OPTION} could not go on with it"
            )

    def _begin(self) -> None:
        if self.path.exists():
            self._replaced = max(0, self.path.read_bytes().count(b"\n") - 1)
            self.path.unlink()
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # It holds what tests have printed; who may read the report need not be shown that.
        os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        self._append(facts_of(self._config, self._settings))
        self._begun = True

    def _append(self, line: _MAP) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())


def read_journal(path: Path, facts: Mapping[str, Any]) -> dict[str, Ended]:
    """Finished tests by node id, empty where there is no journal.

    ``facts`` are those of this session. Raises :class:`~pytest_llmperf.errors.UsageMistake` where
    the file cannot be read, or was left by a session of which this one is no continuation.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, str(error)) from None
    # A kill may cut the last line short; what has no end is not taken for one.
    parsed = [_parsed(path, number, line) for number, line in enumerate(lines[:-1], 1)]
    if not parsed:
        return {}
    _check(path, parsed[0], facts)
    return dict(_ended(path, number, line) for number, line in enumerate(parsed[1:], 2))


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


def _unreadable(path: Path, why: str) -> UsageMistake:
    return UsageMistake(
        f"{OPTION}: {path} cannot be used ({why}); remove it, or leave {OPTION} out, to begin anew."
    )


def facts_of(config: pytest.Config, settings: Settings) -> _MAP:
    """What two sessions must have in common to be one; digests where a value may be a secret."""
    git = git_facts(config.rootpath, written_by_us(config))
    return {
        "journal": _FORMAT,
        "versions": package_versions(),
        "git": {name: git[name] for name in ("commit", "dirty_digest")},
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
    options = (
        f"--llmperf-{name.replace('_', '-')}"
        for name in unlike_names(then["settings"], now["settings"])
    )
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
    return [f"{name} ({then.get(name)} -> {now.get(name)})" for name in unlike_names(then, now)]


def unlike_names(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name))


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
