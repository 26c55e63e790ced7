"""Another commit of the user's repository, checked out and built beside this one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from pytest_llmperf import clock
from pytest_llmperf.errors import ServerError, UsageMistake

from .environment import clean_environment
from .locks import try_lock, unlock

_GIT_TIMEOUT_S = 120.0
_TAIL = 40
_RETRY_S = 0.5
_DEFAULT_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")
#: Written into a build that has come to its end; holds the interpreter's path.
_BUILT = ".llmperf-built"
#: Where a build leaves its interpreter, unless it prints another path as its last line.
USUAL_PYTHON = Path(".venv", "bin", "python")


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkout:
    """A commit that was built. ``python`` is the interpreter that has it installed."""

    commit: str
    directory: Path
    python: Path


def default_branch(root: Path) -> str:
    """The branch that changes are merged into. Raises UsageMistake where there is none to see."""
    for ref in _DEFAULT_BRANCHES:
        if _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}").returncode == 0:
            return ref
    raise UsageMistake(
        f"{root} has none of {', '.join(_DEFAULT_BRANCHES)}: say which branch the reference is the "
        "merge base with, by --llmperf-reference-ref."
    )


def merge_base(root: Path, ref: str) -> str:
    """The commit at which the checkout at ``root`` and ``ref`` parted.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` where git knows none.
    """
    done = _git(root, "merge-base", "HEAD", ref)
    if done.returncode != 0:
        said = done.stderr.strip() or "no common commit"
        raise UsageMistake(
            f"no merge base of HEAD and {ref!r} in {root}: {said}. Fetch the branch (CI often "
            "clones one commit only), or name another with --llmperf-reference-ref."
        )
    return done.stdout.strip()


def top_of(path: Path) -> Path:
    """The directory of the checkout that holds ``path``. Raises UsageMistake outside of one."""
    done = _git(path, "rev-parse", "--show-toplevel")
    if done.returncode != 0:
        raise UsageMistake(f"{path} is in no git checkout, so there is no other commit of it.")
    return Path(done.stdout.strip()).resolve()


def commit_of(root: Path, ref: str) -> str:
    """The commit that ``ref`` names. Raises UsageMistake where git does not know it."""
    done = _git(root, "rev-parse", "--verify", "--quiet", f"{ref}^{{commit}}")
    if done.returncode != 0:
        raise UsageMistake(
            f"git knows no {ref!r} in {root}; fetch it (CI often clones one commit only)."
        )
    return done.stdout.strip()


def worktree(root: Path, commit: str, directory: Path) -> Path:
    """``commit`` of the repository at ``root``, checked out below ``directory``; once for all."""
    place = directory / commit[:12]
    directory.mkdir(parents=True, exist_ok=True)
    lock = _locked(directory / f"{place.name}.lock", lambda _: None)
    try:
        at = _git(place, "rev-parse", "HEAD").stdout.strip() if place.is_dir() else ""
        if at != commit:
            _check_out(root, commit, place)
    finally:
        unlock(lock)
    return place


def built(
    root: Path,
    commit: str,
    command: Sequence[str],
    directory: Path,
    *,
    say: Callable[[str], None],
) -> Checkout:
    """``commit`` of the repository at ``root`` in a worktree below ``directory``, where ``command``
    was run; at once where an earlier call has done so.

    ``command`` ends by printing the path of the interpreter that has the commit installed, or
    leaves it at ``.venv/bin/python``. Processes that want the same build wait for each other.
    Raises :class:`~pytest_llmperf.errors.ServerError` quoting what failed.
    """
    digest = sha256("\0".join(command).encode()).hexdigest()[:8]
    place = directory / f"{commit[:12]}-{digest}"
    directory.mkdir(parents=True, exist_ok=True)
    lock = _locked(directory / f"{place.name}.lock", say)
    try:
        if not (place / _BUILT).exists():
            say(f"building the reference, {commit[:12]}: {' '.join(command)}")
            _check_out(root, commit, place)
            (place / _BUILT).write_text(str(_build(place, command)), encoding="utf-8")
        python = Path((place / _BUILT).read_text(encoding="utf-8"))
    finally:
        unlock(lock)
    return Checkout(commit=commit, directory=place, python=python)


def _locked(path: Path, say: Callable[[str], None]) -> int:
    told = False
    while (lock := try_lock(path)) is None:
        if not told:
            say(f"waiting for another process that builds {path.stem}")
            told = True
        clock.sleep(_RETRY_S)
    return lock


def _check_out(root: Path, commit: str, place: Path) -> None:
    if place.exists():  # what an interrupted build has left
        _git(root, "worktree", "remove", "--force", str(place))
        shutil.rmtree(place, ignore_errors=True)
    _git(root, "worktree", "prune")
    done = _git(root, "worktree", "add", "--detach", "--force", str(place), commit)
    if done.returncode != 0:
        raise ServerError(
            f"git could not check {commit[:12]} out: {done.stderr.strip()}",
            remedy="see whether the repository has that commit (git fetch --unshallow)",
        )


def _build(place: Path, command: Sequence[str]) -> Path:
    log = place.with_suffix(".log")
    with log.open("wb") as out:
        try:
            status = subprocess.run(
                command,
                cwd=place,
                env=clean_environment(_environment()),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            ).returncode
        except OSError as error:
            raise ServerError(
                f"the build of the reference could not start: {error}",
                remedy="--llmperf-reference-build takes a program and its arguments, no shell; "
                'write a script, or "sh -c ..."',
            ) from None
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    python = _interpreter(place, lines)
    if status != 0 or python is None:
        missing = f"it left no interpreter at {USUAL_PYTHON} and printed no path as its last line"
        raise ServerError(
            f"the build of the reference failed in {place}",
            cause=f"it ended with status {status}" if status else missing,
            remedy="run it there by hand",
            argv=tuple(command),
            log_tail=lines[-_TAIL:],
            log_path=log,
        )
    return python


def _interpreter(place: Path, lines: Sequence[str]) -> Path | None:
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    for found in (Path(last) if last else None, USUAL_PYTHON):
        if found is not None and (place / found).is_file():
            return place / found
    return None


def _environment() -> dict[str, str]:
    # A build in a virtual environment of its own must not take ours for it.
    return {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}


def _git(root: Path, *args: str) -> subprocess.CompletedProcess[str]:
    git = shutil.which("git")
    if git is None:
        raise UsageMistake("the merge base is found with git, which is not installed here.")
    return subprocess.run(
        [git, *args],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=_GIT_TIMEOUT_S,
        check=False,
    )
