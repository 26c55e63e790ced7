"""A store in a directory: names, faults of disks and hands, and git."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.store import Store, StoreError, open_store
from pytest_llmperf.store.documents import text_of
from pytest_llmperf.store.files import Files, write_new
from repositories import git

if TYPE_CHECKING:
    from tests.unit.store.conftest import Samples

KEY = "test_chat-test_speed.0123456789.abcdef0123"
NAME = "20260301T100000Z-0123456-nightly-gpu-7-o1.json"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "perf"


@pytest.fixture
def files(root: Path) -> Store:
    return open_store("perf", root.parent)


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_reading_makes_nothing(files: Store, root: Path) -> None:
    assert files.observations() == []
    assert not root.exists()


def test_names_tell_what_is_inside(files: Store, root: Path, samples: Samples) -> None:
    files.append(samples.observation())
    files.append(samples.observation("o2", commit=None, runner=""))
    files.accept(samples.level())
    files.save_profile(samples.profile())
    (profile,) = (root / KEY / "profiles").iterdir()
    assert profile.name.startswith("20260303T100000Z-")
    assert tree(root) == sorted(
        [
            ".gitignore",
            ".lock",
            f"{KEY}/{NAME}",
            f"{KEY}/20260301T100000Z-o2.json",
            f"{KEY}/levels/20260302T100000Z-v1.json",
            f"{KEY}/profiles/{profile.name}",
        ]
    )


def test_no_text_leads_out_of_the_directory(files: Store, root: Path, samples: Samples) -> None:
    files.append(samples.observation(key="../..", commit="../../x", runner="/../é/.."))
    (folder,) = (path for path in root.iterdir() if path.is_dir())
    assert tree(folder) == ["20260301T100000Z-x-o1.json"]
    assert [path.name for path in root.parent.iterdir()] == ["perf"]


def test_the_text_reads_well_in_a_diff(files: Store, root: Path, samples: Samples) -> None:
    files.append(samples.observation(runner="größe"))
    (path,) = root.rglob("*-o1.json")
    text = path.read_text(encoding="utf-8")
    assert '  "runner": "größe",\n' in text
    assert text.endswith("\n}\n")
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert text_of(samples.observation(runner="größe")) == text


def test_keys_are_directories_as_they_stand_where_that_is_safe() -> None:
    files = Files(Path())
    assert files.under(KEY) == KEY
    names = {files.under(key) for key in ("A", "a", ".", "..", "a/b", "a.", "a" * 121, "é", "~")}
    assert len({name.lower() for name in names}) == 9
    for name in names:
        assert Path(name).name == name
        assert len(name) < 130


# --- what hands and faults leave -------------------------------------------------------------


def test_a_document_that_is_cut_short_is_an_error(
    files: Store, root: Path, samples: Samples
) -> None:
    files.append(samples.observation())
    path = root / KEY / NAME
    whole = path.read_text()
    for length in range(0, len(whole) - 2, 7):
        path.write_text(whole[:length])
        with pytest.raises(StoreError, match=r"is empty|is cut short") as caught:
            files.observations()
        assert str(caught.value).startswith(str(path))
        assert "git checkout" in str(caught.value)


def test_a_copied_document_is_an_error(files: Store, root: Path, samples: Samples) -> None:
    files.append(samples.observation())
    (root / KEY / "copy.json").write_text((root / KEY / NAME).read_text())
    with pytest.raises(StoreError, match=r"copy\.json .*have the same id, 'o1': delete one"):
        files.observations()


def test_a_document_under_another_key_is_an_error(
    files: Store, root: Path, samples: Samples
) -> None:
    files.append(samples.observation())
    (root / KEY).rename(root / "another")
    with pytest.raises(StoreError, match="belongs elsewhere: move it back"):
        files.observations("another")


def test_bytes_that_are_no_text_are_an_error(files: Store, root: Path, samples: Samples) -> None:
    files.append(samples.observation())
    (root / KEY / NAME).write_bytes(b'{"kind": "\xff"}')
    with pytest.raises(StoreError, match=r"is no UTF-8 text"):
        files.observations()


def test_other_files_are_let_be(files: Store, root: Path, samples: Samples) -> None:
    files.append(samples.observation())
    (root / "README.md").write_text("what this is")
    (root / KEY / f".{NAME}.77.tmp").write_text("{")
    (root / KEY / "notes.txt").write_text("x")
    assert len(files.observations()) == 1
    assert files.keys() == [KEY]


@pytest.mark.parametrize("blocked", ["perf", f"perf/{KEY}"])
def test_a_place_that_cannot_be_written_is_said(
    files: Store, root: Path, samples: Samples, blocked: str
) -> None:
    path = root.parent / blocked
    path.parent.mkdir(exist_ok=True)
    path.write_text("in the way")
    with pytest.raises(StoreError, match=f"The store in {root} cannot be used: .*{blocked}"):
        files.append(samples.observation())
    assert path.read_text() == "in the way"


_FULL = """
import resource, signal, sys
from pathlib import Path
from pytest_llmperf.store import StoreError, open_store
from pytest_llmperf.store.documents import record_of
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    open_store("perf", Path(sys.argv[1])).append(record_of(sys.stdin.read(), "stdin"))
except StoreError as error:
    print(error)
"""


def test_what_does_not_fit_leaves_nothing(root: Path, files: Store, samples: Samples) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FULL, str(root.parent)],
        input=text_of(samples.observation()),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith(f"The store in {root} cannot be used: ")
    assert os.strerror(errno.EFBIG) in done.stdout
    assert "Make room" in done.stdout
    assert tree(root) == [".gitignore"]
    assert files.observations() == []


def test_a_disk_that_fails_at_the_last_moment_leaves_nothing(
    files: Store, root: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    files.append(samples.observation())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=f"{root}: No space left on device"):
        files.append(samples.observation("o2"))
    assert tree(root) == [".gitignore", f"{KEY}/{NAME}"]


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    assert write_new(path, "first")
    assert not write_new(path, "second")
    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


def test_file_systems_without_links_will_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    test_what_is_there_is_never_overwritten(tmp_path)


def test_a_link_that_fails_otherwise_is_said(
    files: Store, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(self: Path, target: Path) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with pytest.raises(StoreError, match="Read-only file system"):
        files.append(samples.observation())


# --- git -------------------------------------------------------------------------------------


def test_branches_merge_without_conflicts(files: Store, root: Path, samples: Samples) -> None:
    directory = root.parent
    git("init", "--quiet", "--initial-branch=main", at=directory)
    files.append(samples.observation())
    commit(directory)
    for branch, day in (("left", "04"), ("right", "05")):
        git("checkout", "--quiet", "-b", branch, "main", at=directory)
        files.append(samples.observation(branch))
        created = f"2026-03-{day}T10:00:00+00:00"
        files.accept(samples.level(branch, created=created, observations=("o1", branch)))
        files.save_profile(samples.profile(created=created))
        commit(directory)
    git("merge", "--quiet", "--no-edit", "left", at=directory)
    assert {one.id for one in files.observations()} == {"o1", "left", "right"}
    assert [level.id for level in files.levels()] == ["left", "right"]
    assert git("status", "--porcelain", at=directory) == ""


def commit(directory: Path) -> None:
    git("add", "--all", at=directory)
    git("commit", "--quiet", "-m", "x", at=directory)
    assert "perf/.lock" not in git("ls-files", at=directory)
