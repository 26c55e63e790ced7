"""Every kind of store, the records to put in, and a real PostgreSQL."""

from __future__ import annotations

import importlib.util
import os
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.records import LaunchValues, Level, NoiseProfile, Observation
from pytest_llmperf.store import Store, open_store

if TYPE_CHECKING:
    from benchmarks.postgres import Postgres


# --- records ---------------------------------------------------------------------------------


class Samples:
    """Records like a session makes them; what matters to a test is given by name."""

    def observation(self, id_: str = "o1", **changed: Any) -> Observation:
        values: dict[str, Any] = {
            "id": id_,
            "key": "test_chat-test_speed.0123456789.abcdef0123",
            "created": "2026-03-01T10:00:00.25+00:00",
            "test": "tests/perf/test_chat.py::test_speed[sglang]",
            "workload": "chat-1a2b3c4d",
            "environment": {"vendor": "nvidia", "memory_gib": 80, "mig": None, "shared": False},
            "subject": {"version": "0.5.23", "arguments": ["--tp", "2"], "spec": {"steps": 3}},
            "block": {"host": "gpu-7", "uuid": "GPU-1"},
            "launches": (self.launch("l1", 1612.5), self.launch("l2", 1604.0)),
            "gates": ("output_throughput",),
            "verdict": "pass",
            "commit": "0123456789abcdef",
            "dirty": False,
            "runner": "nightly/gpu-7",
            "tool_version": "0.1.0",
        }
        return Observation(**(values | changed))

    def launch(self, launch_id: str, throughput: float) -> LaunchValues:
        return LaunchValues(
            launch_id=launch_id,
            started_at="2026-03-01T09:58:00+00:00",
            runs=3,
            metrics={"output_throughput": throughput, "ttft_p95": 0.1},
            outputs=('["yes", ["yes"], [-0.25]]', '["", [], []]'),
        )

    def level(self, id_: str = "v1", **changed: Any) -> Level:
        values: dict[str, Any] = {
            "id": id_,
            "key": self.observation().key,
            "created": "2026-03-02T10:00:00+00:00",
            "observations": ("o1",),
            "reason": "the first one",
            "author": "A. Person",
            "commit": None,
        }
        return Level(**(values | changed))

    def profile(self, **changed: Any) -> NoiseProfile:
        values: dict[str, Any] = {
            "key": self.observation().key,
            "created": "2026-03-03T10:00:00+00:00",
            "launches": 12,
            "run_sigma": {"output_throughput": 0.01},
            "launch_sigma": {"output_throughput": 0.03},
            "pair_sigma": {"output_throughput": 0.042},
            "pair_df": 5,
            "lag1": {"output_throughput": -0.2},
            "bimodal": ("ttft_p95",),
            "block": {"host": "gpu-7"},
        }
        return NoiseProfile(**(values | changed))


@pytest.fixture
def samples() -> Samples:
    return Samples()


# --- stores ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a store is. ``overwrite`` puts another text in the place of a document's, as a hand
    or a fault would; ``strict`` says that the place itself refuses what is no JSON."""

    where: str
    directory: Path
    overwrite: Callable[[str, str], None]
    strict: bool = False

    def open(self) -> Store:
        return open_store(self.where, self.directory)


@pytest.fixture(params=["files", "sqlite", "postgresql"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "files":
        return _files(tmp_path)
    if request.param == "sqlite":
        required("sqlalchemy")
        return _sqlite(tmp_path)
    required("psycopg")
    server: Postgres = request.getfixturevalue("postgres")
    return _postgresql(server, tmp_path)


@pytest.fixture
def store(place: Place) -> Iterator[Store]:
    store = place.open()
    yield store
    store.close()


@pytest.fixture
def sqlalchemy() -> None:
    """SQLAlchemy and a driver are installed."""
    required("sqlalchemy")
    required("psycopg")


def required(package: str) -> None:
    """Skip without a package of the extra ``sql``; never where CI says that it must be there."""
    if importlib.util.find_spec(package) is None:
        absent(f"{package} is not installed: pip install 'pytest-llmperf[sql]'")


def absent(why: str) -> None:
    if os.environ.get("LLMPERF_POSTGRES_REQUIRED") == "1":
        pytest.fail(f"databases are required here, and {why}", pytrace=False)
    pytest.skip(why)


def _files(directory: Path) -> Place:
    def overwrite(id_: str, text: str) -> None:
        (path,) = (directory / "perf").rglob(f"*-{id_}.json")
        path.write_text(text, encoding="utf-8")

    return Place(where="perf/", directory=directory, overwrite=overwrite)


def _sqlite(directory: Path) -> Place:
    def overwrite(id_: str, text: str) -> None:
        connection = sqlite3.connect(directory / "perf.db")
        with connection:
            for table in ("observations", "levels", "profiles"):
                statement = f"UPDATE {table} SET document = ? WHERE id = ?"  # noqa: S608
                connection.execute(statement, (text, id_))
        connection.close()

    return Place(where="sqlite:///perf.db", directory=directory, overwrite=overwrite)


def _postgresql(server: Postgres, directory: Path) -> Place:
    database = server.new_database()

    def overwrite(id_: str, text: str) -> None:
        for table in ("observations", "levels", "profiles"):
            server.execute(
                database,
                f"UPDATE {table} SET document = $x${text}$x$ WHERE id = '{id_}'",  # noqa: S608
            )

    url = server.url(database)
    return Place(where=url, directory=directory, overwrite=overwrite, strict=True)


# --- a real PostgreSQL -----------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server for as long as the session lasts."""
    # The benchmarks are in no sdist, and the other stores need none of them.
    from benchmarks.postgres import installed, running

    programs = installed()
    if programs is None:
        absent("PostgreSQL is not installed: apt-get install postgresql")
        return
    with running(programs, "fsync=off") as server:
        yield server
