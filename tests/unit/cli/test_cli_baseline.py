"""``pytest-llmperf baseline`` on a store of files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.records import Observation
from pytest_llmperf.store import Store, open_store
from repositories import git

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Observe

Command = Callable[..., tuple[int, str, str]]
KEY = "test_chat.0123456789.0123456789"
ME = ("--author", "Ada <ada@example.org>")
WHY = ("--reason", "a faster kernel")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store that the commands find by themselves."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "perf").mkdir()
    return open_store("perf", tmp_path)


def fill(store: Store, *observations: Observation) -> list[str]:
    for observation in observations:
        store.append(observation)
    return [observation.id for observation in observations]


# --- accept ----------------------------------------------------------------------------------


def test_accept_makes_a_level(store: Store, observe: Observe, status_of: Command) -> None:
    ids = fill(store, observe(1650.0, 1640.0), observe(1660.0, 1650.0))
    status, out, _ = status_of("baseline", "accept", *WHY, *ME)
    assert status == 0
    (level,) = store.levels(KEY)
    assert level.observations == tuple(ids)
    assert (level.reason, level.author) == ("a faster kernel", "Ada <ada@example.org>")
    assert "accepted 2 sessions" in out
    assert "  output_throughput: 1,650 tok/s, no level before\n" in out


def test_accept_tells_the_old_level_and_the_new_one(
    store: Store, observe: Observe, status_of: Command
) -> None:
    fill(store, observe(1000.0))
    assert status_of("baseline", "accept", *WHY, *ME)[0] == 0
    (new,) = fill(store, observe(900.0))
    out = status_of("baseline", "accept", "--reason", "meant", *ME)[1]
    assert "  output_throughput: 900 tok/s, was 1,000 tok/s (10 % worse)\n" in out
    assert [level.reason for level in store.levels(KEY)] == ["a faster kernel", "meant"]
    assert store.levels(KEY)[-1].observations == (new,)


def test_by_default_only_the_newest_subject_counts(
    store: Store, observe: Observe, status_of: Command
) -> None:
    fill(store, observe(1.0, subject={"version": "1"}))
    ids = fill(store, *(observe(2.0, subject={"version": "2"}) for _ in range(2)))
    status_of("baseline", "accept", *WHY, *ME)
    assert store.levels(KEY)[-1].observations == tuple(ids)


def test_by_default_at_most_twenty(store: Store, observe: Observe, status_of: Command) -> None:
    ids = fill(store, *(observe(1.0) for _ in range(23)))
    status_of("baseline", "accept", *WHY, *ME)
    assert store.levels(KEY)[-1].observations == tuple(ids[-20:])


def test_last_takes_so_many_whatever_they_are(
    store: Store, observe: Observe, status_of: Command
) -> None:
    ids = fill(store, *(observe(1.0, subject={"version": str(at)}) for at in range(4)))
    out = status_of("baseline", "accept", "--last", "3", *WHY, *ME)[1]
    assert store.levels(KEY)[-1].observations == tuple(ids[-3:])
    assert "sessions of different subjects" in out


def test_nothing_new_is_refused(store: Store, observe: Observe, status_of: Command) -> None:
    status, _, err = status_of("baseline", "accept", *WHY, *ME)
    assert status == 1
    assert "nothing to accept" in err
    fill(store, observe(1.0))
    assert status_of("baseline", "accept", *WHY, *ME)[0] == 0
    status, _, err = status_of("baseline", "accept", *WHY, *ME)
    assert status == 1
    assert "no session is newer than the accepted levels" in err
    assert len(store.levels()) == 1


def test_names_choose_keys(store: Store, observe: Observe, status_of: Command) -> None:
    fill(
        store,
        observe(1.0),
        observe(1.0, key="test_batch.1.1", test="t.py::test_batch[concurrency=8]"),
    )
    assert status_of("baseline", "accept", "concurrency=8", *WHY, *ME)[0] == 0
    assert [level.key for level in store.levels()] == ["test_batch.1.1"]
    status, _, err = status_of("baseline", "accept", "test_chad", *WHY, *ME)
    assert status == 1
    assert "nothing in the store is called 'test_chad'" in err


@pytest.mark.parametrize(
    "wrong", [(), ("--reason", " "), (*WHY, "--last", "0"), (*WHY, "--last", "some")]
)
def test_a_wrong_command_line(
    store: Store, observe: Observe, status_of: Command, wrong: tuple[str, ...]
) -> None:
    fill(store, observe(1.0))
    assert status_of("baseline", "accept", *wrong, *ME)[0] == 2
    assert store.levels() == []


def test_git_says_who_and_where(
    store: Store,
    observe: Observe,
    status_of: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM"):
        monkeypatch.setenv(name, "/dev/null")
    fill(store, observe(1.0))
    status, _, err = status_of("baseline", "accept", *WHY)
    assert status == 1
    assert "Give --author" in err
    (tmp_path / "f").touch()
    for words in (["init", "-q"], ["add", "f"], ["commit", "-q", "-m", "one"]):
        git(*words, at=tmp_path)
    git("config", "user.name", "Ada", at=tmp_path)
    assert status_of("baseline", "accept", *WHY)[0] == 0
    (level,) = store.levels()
    assert level.author == "Ada"
    assert level.commit is not None
    assert len(level.commit) == 40


# --- list, show, diff ------------------------------------------------------------------------


def test_list_is_a_table_of_keys(store: Store, observe: Observe, status_of: Command) -> None:
    assert status_of("baseline", "list")[:2] == (0, "The store is empty.\n")
    fill(store, observe(1000.0))
    status_of("baseline", "accept", *WHY, *ME)
    fill(store, observe(950.0), observe(5.0, key="test_free.1.1", test="t.py::test_free", gates=()))
    status, out, _ = status_of("baseline", "list")
    assert status == 0
    head, _, first, second = out.splitlines()
    assert head.split()[:3] == ["key", "metric", "sessions"]
    assert first.split()[:5] == [KEY, "output_throughput", "2", "1,000", "tok/s"]
    assert first.endswith("950 tok/s      5 % worse")
    assert second.split()[:2] == ["test_free.1.1", "(no"]


def test_show_tells_everything_of_a_key(store: Store, observe: Observe, status_of: Command) -> None:
    fill(store, observe(1000.0))
    status_of("baseline", "accept", *WHY, *ME)
    fill(store, observe(950.0, 960.0))
    status, out, _ = status_of("baseline", "show", "test_chat")
    assert status == 0
    for said in (KEY, "product: NVIDIA H100", "by Ada <ada@example.org>", "a faster kernel"):
        assert said in out
    sessions = [line for line in out.splitlines() if line.startswith("2026-01-")]
    assert sessions[0].endswith("1,000 tok/s  in the level")
    assert sessions[1].split()[2:3] == ["2"]


def test_diff_names_what_changed(store: Store, observe: Observe, status_of: Command) -> None:
    fill(store, observe(1000.0))
    assert "no accepted level" in status_of("baseline", "diff")[1]
    status_of("baseline", "accept", *WHY, *ME)
    fill(store, observe(950.0, subject={"engine": "sglang", "version": "0.5.23"}))
    status, out, _ = status_of("baseline", "diff", KEY)
    assert status == 0
    row = next(line for line in out.splitlines() if "output_throughput" in line)
    assert row.split() == [
        *("output_throughput", "1,000", "tok/s", "950", "tok/s"),
        *("-5", "%", "5", "%", "worse"),
    ]
    assert "  changed: version 0.5.22 -> 0.5.23\n" in out


# --- prune and the place ---------------------------------------------------------------------


def test_prune_keeps_what_a_level_rests_on(
    store: Store, observe: Observe, status_of: Command
) -> None:
    now = datetime.now(UTC)
    old = (now - timedelta(days=days) for days in (50, 40, 30))
    kept, _, also = fill(store, *(observe(1.0, created=day.isoformat()) for day in old))
    status_of("baseline", "accept", "--last", "3", *WHY, *ME)
    status, out, _ = status_of("baseline", "prune", "--older-than", "35")
    assert (status, out) == (0, "0 sessions removed, 3 left.\n")
    later = observe(1.0, created=(now - timedelta(days=20)).isoformat())
    store.append(later)
    status, out, _ = status_of("baseline", "prune", "--older-than", "10")
    assert out == "1 session removed, 3 left.\n"
    assert {kept, also} <= {observation.id for observation in store.observations()}


def test_no_store_says_where_it_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status_of: Command
) -> None:
    monkeypatch.chdir(tmp_path)
    status, _, err = status_of("baseline", "list")
    assert status == 1
    assert "no directory perf/ in" in err
    assert "--store" in err


def test_the_store_may_lie_elsewhere(tmp_path: Path, observe: Observe, status_of: Command) -> None:
    fill(open_store("else", tmp_path), observe(1.0))
    status, out, _ = status_of("baseline", "list", "--store", str(tmp_path / "else"))
    assert status == 0
    assert KEY in out


@pytest.mark.parametrize("action", ["accept", "list", "show", "diff", "prune"])
def test_every_action_has_an_example(action: str, status_of: Command) -> None:
    status, out, _ = status_of("baseline", action, "--help")
    assert status == 0
    assert f"example:\n  pytest-llmperf baseline {action}" in out
