"""Drafts of writers that are gone are removed, and no others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf.drafts import locked, place_of_system, sweep

WRITER = """
import sys, time
from pathlib import Path
from pytest_llmperf.drafts import locked
with locked(Path(sys.argv[1])):
    print("writing", flush=True)
    time.sleep(600)
"""


def test_the_draft_of_a_killed_writer_is_swept(tmp_path: Path) -> None:
    draft = tmp_path / ".r.json.1.tmp"
    draft.touch()
    os.utime(draft, (0, 0))
    command = [sys.executable, "-c", WRITER, str(draft)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        sweep(tmp_path, ".*.tmp")
        assert draft.exists()
        writer.send_signal(signal.SIGKILL)
    os.utime(draft, (0, 0))
    sweep(tmp_path, ".*.tmp")
    assert not draft.exists()


def test_a_draft_that_is_about_to_be_locked_is_let_be(tmp_path: Path) -> None:
    draft = tmp_path / ".r.json.1.tmp"
    draft.touch()
    sweep(tmp_path, ".*.tmp")
    assert draft.exists()


def test_only_drafts_are_swept(tmp_path: Path) -> None:
    ours, other = tmp_path / ".r.json.2.tmp", tmp_path / "r.json"
    for each in (ours, other):
        each.touch()
        os.utime(each, (0, 0))
    with locked(ours):
        sweep(tmp_path, ".*.tmp")
        assert ours.exists()
    sweep(tmp_path, ".*.tmp")
    assert [each.name for each in tmp_path.iterdir()] == ["r.json"]


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ("/dev/stdout", "/dev/stdout"),
        ("/dev/null", "/dev/null"),
        ("/proc/r.json", "/proc/r.json"),
        ("/sys/r.json", "/sys/r.json"),
        ("/dev/shm/r.json", None),  # noqa: S108
        ("/developers/r.json", None),
        ("below/r.json", None),
        ("r.json", None),
    ],
)
def test_places_of_the_system_are_known_through_any_link(
    tmp_path: Path, target: str, place: str | None
) -> None:
    """Whether they are devices, pipes, files or nothing at all just now."""
    expected = None if place is None else Path(place)
    assert place_of_system(tmp_path / target) == expected
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "further").symlink_to("link")
    assert place_of_system(tmp_path / "link") == expected
    assert place_of_system(tmp_path / "further") == expected


def test_a_directory_may_be_a_link_to_the_system_too(tmp_path: Path) -> None:
    (tmp_path / "devices").symlink_to("/dev")
    assert place_of_system(tmp_path / "devices" / "x") == Path("/dev/x")
    assert place_of_system(Path("/proc/self/cwd/r.json")) is None


def test_a_circle_of_links_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert place_of_system(tmp_path / "a") is None
