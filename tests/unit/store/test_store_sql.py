"""What only databases have: addresses, passwords, packages that are not installed."""

from __future__ import annotations

import json
import sqlite3
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.store import StoreError, open_store

if TYPE_CHECKING:
    from tests.unit.store.conftest import Samples

pytestmark = pytest.mark.usefixtures("sqlalchemy")


def test_reading_makes_no_file(tmp_path: Path) -> None:
    store = open_store("sqlite:///not/yet.db", tmp_path)
    assert (store.observations(), store.keys()) == ([], [])
    assert list(tmp_path.iterdir()) == []


def test_a_relative_file_is_below_the_directory(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    open_store("sqlite:///deep/down.db", tmp_path).append(samples.observation())
    absolute = open_store(f"sqlite:///{tmp_path}/deep/down.db", Path("/nowhere"))
    assert absolute.observations() == [samples.observation()]


def test_the_documents_can_be_asked_for_in_sql(tmp_path: Path, samples: Samples) -> None:
    store = open_store("sqlite:///x.db", tmp_path)
    store.append(samples.observation())
    store.accept(samples.level())
    store.save_profile(samples.profile())
    connection = sqlite3.connect(tmp_path / "x.db")
    (mode,) = connection.execute("PRAGMA journal_mode").fetchone()
    query = "SELECT id, key, created, json_extract(document, '$.runner') FROM observations"
    rows = connection.execute(query).fetchall()
    indexes = connection.execute("SELECT tbl_name FROM sqlite_master WHERE sql LIKE '%(\"key\")%'")
    assert sorted(name for (name,) in indexes) == ["levels", "observations", "profiles"]
    (document,) = connection.execute("SELECT document FROM levels").fetchone()
    connection.close()
    assert mode == "wal"
    observation = samples.observation()
    assert rows == [("o1", observation.key, observation.created, observation.runner)]
    assert json.loads(document)["reason"] == samples.level().reason


def test_many_who_make_the_file_at_once_wait_for_each_other(
    tmp_path: Path, samples: Samples
) -> None:
    """While somebody writes, turning the write-ahead log on fails at once: SQLite does not wait."""
    first = sqlite3.connect(tmp_path / "x.db", isolation_level=None)
    first.execute("BEGIN IMMEDIATE")
    first.execute("CREATE TABLE another (x)")
    store = open_store("sqlite:///x.db", tmp_path)
    appending = threading.Thread(target=store.append, args=(samples.observation(),))
    appending.start()
    appending.join(0.3)
    assert appending.is_alive()
    first.execute("COMMIT")
    first.close()
    appending.join()
    assert store.observations() == [samples.observation()]


def test_a_file_that_is_no_database_is_said(tmp_path: Path, samples: Samples) -> None:
    (tmp_path / "x.db").write_text("this is no database, and long enough to be seen as none" * 20)
    store = open_store("sqlite:///x.db", tmp_path)
    with pytest.raises(StoreError, match=r"x\.db cannot be used: file is not a database"):
        store.append(samples.observation())


def test_a_directory_in_the_way_is_said(tmp_path: Path, samples: Samples) -> None:
    (tmp_path / "x.db").mkdir()
    (tmp_path / "file").write_text("")
    for where in ("sqlite:///x.db", "sqlite:///file/x.db"):
        with pytest.raises(StoreError, match=r"x\.db cannot be used: "):
            open_store(where, tmp_path).append(samples.observation())


def test_a_row_without_its_document_s_key_is_an_error(tmp_path: Path, samples: Samples) -> None:
    store = open_store("sqlite:///x.db", tmp_path)
    store.append(samples.observation())
    connection = sqlite3.connect(tmp_path / "x.db")
    with connection:
        connection.execute("UPDATE observations SET key = 'another'")
    connection.close()
    with pytest.raises(StoreError, match="belongs elsewhere"):
        store.observations("another")


@pytest.mark.parametrize(
    "where",
    [
        "mysql://me:secret@host/db?password=secret",
        "https://host/perf",
        "://",
        "postgresql+nothing://h/db",
        "x://",
    ],
)
def test_other_addresses_are_refused(where: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught:
        open_store(where, tmp_path)
    assert "sqlite:///perf.db" in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "where", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?mode=memory&uri=true"]
)
def test_a_database_in_memory_remembers_nothing(where: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="SQLite needs a file"):
        open_store(where, tmp_path)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_server_that_does_not_answer_is_said_at_once(scheme: str, tmp_path: Path) -> None:
    where = f"{scheme}://me:secret@/db?host={tmp_path}&password=secret2"
    with pytest.raises(StoreError, match=r"postgresql://.*/db cannot be used: ") as caught:
        open_store(where, tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("package", "where"),
    [
        ("sqlalchemy", "sqlite:///x.db"),
        ("psycopg", "postgresql://me:secret@host/db?password=secret"),
    ],
)
def test_the_package_to_install_is_named(
    package: str, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(StoreError, match=r"pip install 'pytest-llmperf\[sql\]'") as caught:
        open_store(where, tmp_path)
    assert "secret" not in str(caught.value)
