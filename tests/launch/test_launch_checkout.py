"""A commit of a real repository, checked out and built."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf.errors import ServerError, UsageMistake
from pytest_llmperf.launch.checkout import built, merge_base
from repositories import git

BUILD = "import os, sys; os.makedirs('.venv/bin'); os.symlink(sys.executable, '.venv/bin/python')"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """``main`` with two commits; the branch parted after the first, and is checked out."""
    root = tmp_path / "repository"
    root.mkdir()
    git("init", "-q", "-b", "main", at=root)
    (root / "what").write_text("old")
    git("add", ".", at=root)
    git("commit", "-qm", "one", at=root)
    git("checkout", "-qb", "change", at=root)
    (root / "what").write_text("new")
    git("commit", "-qam", "two", at=root)
    git("checkout", "-q", "main", at=root)
    git("commit", "-qm", "three", "--allow-empty", at=root)
    git("checkout", "-q", "change", at=root)
    return root


def test_the_merge_base_is_built_once(root: Path, tmp_path: Path) -> None:
    said: list[str] = []
    commit = merge_base(root, "main")
    assert commit == git("rev-parse", "main~1", at=root)
    command = [sys.executable, "-c", BUILD + "; open('ran', 'a').write('x')"]
    first = built(root, commit, command, tmp_path / "builds", say=said.append)
    assert (first.directory / "what").read_text() == "old"
    assert subprocess.run([first.python, "-c", ""], check=True).returncode == 0
    again = built(root, commit, command, tmp_path / "builds", say=said.append)
    assert again == first
    assert (first.directory / "ran").read_text() == "x"
    assert len(said) == 1


def test_the_last_line_may_name_the_interpreter(root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import sys; print('hello'); print(sys.executable)"]
    found = built(root, merge_base(root, "main"), command, tmp_path / "b", say=lambda _: None)
    assert found.python == Path(sys.executable)


def test_what_an_interrupted_build_left_is_done_anew(root: Path, tmp_path: Path) -> None:
    commit = merge_base(root, "main")
    command = [sys.executable, "-c", BUILD + "; import os, pathlib; "
               "os._exit(3) if not pathlib.Path('../once').exists() and "
               "pathlib.Path('../once').write_text('x') else None"]  # fmt: skip
    with pytest.raises(ServerError, match="build of the reference failed") as failure:
        built(root, commit, command, tmp_path / "b", say=lambda _: None)
    assert "status 3" in failure.value.cause
    assert built(root, commit, command, tmp_path / "b", say=lambda _: None).python.is_file()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ([sys.executable, "-c", "print('boom'); raise SystemExit(2)"], "status 2"),
        ([sys.executable, "-c", "print('done')"], "left no interpreter"),
        (["no-such-program-here"], "could not start"),
    ],
)
def test_a_build_that_fails_says_how(
    root: Path, tmp_path: Path, command: list[str], said: str
) -> None:
    with pytest.raises(ServerError) as failure:
        built(root, merge_base(root, "main"), command, tmp_path / "b", say=lambda _: None)
    assert said in str(failure.value)


def test_an_unknown_branch_is_a_mistake(root: Path) -> None:
    with pytest.raises(UsageMistake, match="no merge base of HEAD and 'nowhere'"):
        merge_base(root, "nowhere")
