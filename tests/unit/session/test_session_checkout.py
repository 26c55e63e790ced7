"""What is not known of a checkout is not taken for unchanged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pytest_llmperf.session import environment
from pytest_llmperf.session.environment import git_facts, git_identity
from repositories import git

FROM_A_FILE = ("-c", "protocol.file.allow=always")
COMMIT_DIGITS = 40


def repository(root: Path, name: str = "a.py") -> Path:
    root.mkdir()
    git("init", at=root)
    (root / name).write_text("1\n")
    git("add", ".", at=root)
    git("commit", "-m", "a", at=root)
    return root


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return repository(tmp_path / "checkout")


@pytest.fixture
def submodule(tmp_path: Path, checkout: Path) -> Path:
    other = repository(tmp_path / "other", "b.py")
    git(*FROM_A_FILE, "submodule", "add", str(other), "sub", at=checkout)
    git("commit", "-m", "with a submodule", at=checkout)
    return checkout / "sub"


def test_a_clean_checkout_is_known(checkout: Path) -> None:
    found = git_identity(checkout)
    assert len(found["commit"] or "") == COMMIT_DIGITS
    assert (found["dirty_digest"], found["unknown"]) == (None, None)


def test_a_changed_checkout_is_known_by_its_changes(checkout: Path) -> None:
    (checkout / "a.py").write_text("2\n")
    found = git_identity(checkout)
    assert found["unknown"] is None
    assert found["dirty_digest"] == git_facts(checkout)["dirty_digest"] is not None
    (checkout / "a.py").write_text("3\n")
    assert git_identity(checkout)["dirty_digest"] != found["dirty_digest"]


def test_what_is_no_source_is_no_change(checkout: Path) -> None:
    (checkout / "notes.txt").write_text("x")
    assert git_identity(checkout)["dirty_digest"] is None
    assert git_facts(checkout)["dirty"] is True
    assert git_facts(checkout)["dirty_digest"] is None


def test_outside_of_a_checkout_there_is_nothing_to_know(tmp_path: Path) -> None:
    nothing = {"commit": None, "dirty_digest": None, "unknown": None}
    assert git_identity(tmp_path) == nothing


def test_a_checkout_without_a_commit_is_not_known(tmp_path: Path) -> None:
    git("init", at=tmp_path)
    (tmp_path / "below").mkdir()
    said = git_identity(tmp_path / "below")["unknown"]
    assert said == "git does not say which commit is checked out"


def test_a_clean_submodule_is_known(checkout: Path, submodule: Path) -> None:
    assert git_identity(checkout)["unknown"] is None


@pytest.mark.parametrize("hidden", ["", "dirty", "all"])
@pytest.mark.parametrize("name", ["b.py", "new.py"])
def test_a_changed_submodule_is_not_known(
    checkout: Path, submodule: Path, name: str, hidden: str
) -> None:
    """Also where git was told not to look."""
    if hidden:
        git("config", "submodule.sub.ignore", hidden, at=checkout)
    (submodule / name).write_text("changed\n")
    assert git_identity(checkout)["unknown"] == "a submodule has changes of its own"


@pytest.mark.parametrize("hidden", ["", "all"])
def test_another_commit_of_a_submodule_is_a_change(
    checkout: Path, submodule: Path, hidden: str
) -> None:
    if hidden:
        git("config", "submodule.sub.ignore", hidden, at=checkout)
    (submodule / "b.py").write_text("changed\n")
    git("commit", "-am", "b", at=submodule)
    found = git_identity(checkout)
    assert found["unknown"] is None
    assert found["dirty_digest"] is not None


@pytest.mark.parametrize(
    ("fails_at", "said"),
    [
        ("rev-parse HEAD", "git does not say which commit is checked out"),
        ("rev-parse --show-toplevel", "git does not say what is changed"),
        ("diff HEAD", "git does not say what is changed"),
        ("ls-files --others", "git does not say what is changed"),
        ("status --porcelain=v2", "a submodule has changes of its own"),
    ],
)
def test_a_git_that_fails_leaves_it_unknown(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails_at: str, said: str
) -> None:
    instead_of_git(
        tmp_path,
        monkeypatch,
        f'case "$*" in "{fails_at}"*) exit 3;; esac\nexec {shutil.which("git")} "$@"',
    )
    assert git_identity(checkout)["unknown"] == said


def test_a_git_that_is_slow_leaves_it_unknown(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    instead_of_git(tmp_path, monkeypatch, "exec sleep 60")
    monkeypatch.setattr(environment, "_GIT_TIMEOUT_S", 0.2)
    assert git_identity(checkout)["unknown"] == "git does not say which commit is checked out"


def instead_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    fake = tmp_path / "bin" / "git"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(fake.parent), prepend=":")


def test_a_checkout_without_git_is_not_known(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_identity(checkout)["unknown"] is not None
    assert git_identity(tmp_path)["unknown"] is None
