"""Disks that are full or may not be written to, wherever something of ours goes; broken stores."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from pytest_llmperf.store import open_store

if TYPE_CHECKING:
    from tests.faults.conftest import Outcome, Record, Suite

State = Literal["full", "read-only"]
STATES: tuple[State, ...] = ("full", "read-only")
SAYS = {"full": "No space left on device", "read-only": "Read-only file system"}
#: Longer than the others' patience for a database that is busy.
TEST = """
@sim()
@CHAT
@FLOOR
def test_it(llm_perf): llm_perf.run()
"""
Disk = Callable[[State], Path]


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Mounts a file system of 64 KiB in the state that is asked for; needs root on Linux."""
    mounted: list[Path] = []

    def mount(state: State) -> Path:
        place = tmp_path / f"disk-{state}"
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
        if subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("no file system can be mounted here")
        mounted.append(place)
        if state == "full":
            fill(place)
        else:
            again = ["mount", "-o", "remount,ro", str(place)]
            subprocess.run(again, check=True, capture_output=True)
        return place

    if sys.platform != "linux" or shutil.which("mount") is None:
        pytest.skip("needs Linux's mount")
    yield mount
    for place in mounted:
        command = ["umount", "--lazy", str(place)]
        subprocess.run(command, check=True)


def fill(place: Path) -> None:
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            return


def kept_in(said: str, what: str) -> Path:
    """Where a message says that something was kept instead."""
    found = re.search(rf"\S*pytest-llmperf-{what}-\S*", said)
    assert found, said
    return Path(found[0])


def measured(outcome: Outcome) -> None:
    """Both tests were measured and judged, whatever could not be written."""
    assert outcome.status == 11, outcome.said
    assert "2 passed" in outcome.said


@pytest.mark.parametrize("state", STATES)
def test_a_report_that_has_no_place_is_kept_elsewhere(
    suite: Suite, record: Record, disk: Disk, state: State
) -> None:
    suite.write(TEST)
    place = disk(state)
    outcome = suite.run(f"--llmperf-html={place}/r.html", report=f"{place}/r.json")
    measured(outcome)
    assert f"the report could not be written to {place}/r.json: {SAYS[state]}" in outcome.said
    assert f"the HTML page could not be written to {place}/r.html: {SAYS[state]}" in outcome.said
    kept = kept_in(outcome.said, "report")
    report = json.loads(kept.read_text())
    assert {test["outcome"] for test in report["tests"]} == {"passed"}
    assert not (place / "r.json").exists()
    shutil.rmtree(kept.parent)
    record("machine", f"disk {state} where the report goes", "red; kept in the temporary directory")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("form", ["directory", "SQLite"])
def test_a_store_that_cannot_be_written_loses_nothing(
    suite: Suite, record: Record, disk: Disk, state: State, form: str
) -> None:
    if form == "SQLite":
        pytest.importorskip("sqlalchemy")
    suite.write(TEST)
    place = disk(state)
    where = f"{place}/perf" if form == "directory" else f"sqlite:///{place}/perf.db"
    outcome = suite.run(f"--llmperf-store={where}")
    measured(outcome)
    assert outcome.whole
    assert any(f"The store in {place}/perf" in each for each in outcome.report["problems"])
    kept = kept_in(outcome.said, "store")
    assert_remembers(kept, outcome)
    shutil.rmtree(kept)
    record("machine", f"disk {state} where the store goes ({form})", "red; kept in another store")


def assert_remembers(where: Path, outcome: Outcome) -> None:
    store = open_store(str(where), where)
    try:
        found = {
            one.test: [launch.launch_id for launch in one.launches] for one in store.observations()
        }
    finally:
        store.close()
    wanted = {
        measurement["test"]: [run["launch_id"] for run in measurement["runs"] if run["valid"]]
        for measurement in outcome.report["measurements"]
    }
    assert found == wanted


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("what", "option"),
    [("log", "--llmperf-log-dir"), ("lock", "--llmperf-lock-dir")],
)
def test_a_log_or_lock_that_has_no_place_is_an_error(
    suite: Suite, record: Record, disk: Disk, state: State, what: str, option: str
) -> None:
    suite.write(TEST)
    place = disk(state)
    outcome = suite.run(f"{option}={place}/there")
    assert outcome.status == 11, outcome.said
    assert outcome.whole
    for test in ("test_it", "test_next"):
        kind, message = outcome.ended(test)
        assert kind == "broken"
        assert SAYS[state] in message
        assert option in message
    outcome = suite.run()
    assert outcome.ended("test_it") == ("passed", "")
    record("machine", f"disk {state} where a {what} goes", f"error: names the place and {option}")


@pytest.mark.parametrize("state", STATES)
def test_a_cache_that_has_no_place_is_an_error(
    suite: Suite, record: Record, disk: Disk, state: State
) -> None:
    pytest.importorskip("safetensors")
    suite.write(TEST.replace("@sim()", '@pytest.mark.llm_server("sim", model="tiny-r1")'))
    outcome = suite.run("-o", f"llmperf_cache_dir={disk(state)}/cache")
    assert outcome.status == 11, outcome.said
    assert outcome.whole
    kind, message = outcome.ended("test_it")
    assert kind == "broken"
    assert SAYS[state] in message
    assert "llmperf_cache_dir" in message
    assert outcome.ended("test_next") == ("passed", "")
    record("machine", f"disk {state} where the cache goes", "error: names the place and the option")


#: Fills the temporary directory, or takes it away, once the session uses it.
TEMPORARY = """
import pathlib, shutil, tempfile
PLACE = pathlib.Path(tempfile.gettempdir())
def full():
    with (PLACE / "filler").open("wb", buffering=0) as file:
        try:
            while True: file.write(b"x" * 4096)
        except OSError: pass
@sim()
@pytest.mark.llm_workload("chat", **{**LOAD, "output_tokens": 64, "requests": 3000,
                                     "concurrency": 64})
@FLOOR
def test_it(llm_server, llm_perf):
    FAULT
    try: llm_perf.run()
    finally: PLACE.mkdir(exist_ok=True); [each.unlink() for each in PLACE.glob("filler")]
"""


def test_a_temporary_directory_that_fills_up_is_an_error(
    suite: Suite, record: Record, tmp_path: Path, disk: Disk
) -> None:
    place = disk("full")
    (place / "filler").unlink()
    suite.write(TEMPORARY.replace("FAULT", "full()"))
    # Captured output would be the first to fail.
    outcome = suite.run("-s", f"--basetemp={tmp_path / 'base'}", env={"TMPDIR": str(place)})
    assert outcome.whole, outcome.said
    kind, message = outcome.ended("test_it")
    assert kind == "broken", message
    assert SAYS["full"] in message
    assert "TMPDIR" in message
    assert outcome.ended("test_next") == ("passed", "")
    record("machine", "disk full where the client keeps what it sees", "error: names TMPDIR")


def test_a_temporary_directory_that_is_gone_is_an_error(
    suite: Suite, record: Record, tmp_path: Path
) -> None:
    place = tmp_path / "temporary"
    place.mkdir()
    suite.write(TEMPORARY.replace("FAULT", "shutil.rmtree(PLACE)"))
    outcome = suite.run("-s", f"--basetemp={tmp_path / 'base'}", env={"TMPDIR": str(place)})
    assert outcome.whole, outcome.said
    kind, message = outcome.ended("test_it")
    assert kind == "broken", message
    assert "No such file or directory" in message
    assert "TMPDIR" in message
    assert outcome.ended("test_next") == ("passed", "")
    record("machine", "temporary directory gone", "error: names TMPDIR")


# --- stores ----------------------------------------------------------------------------------

#: Others' patience for what is busy, cut short.
IMPATIENT = """
from pytest_llmperf.store import files, sql
files._BUSY_S = sql._BUSY_S = 0.5
"""


def test_a_store_that_stays_locked_loses_nothing(
    suite: Suite, record: Record, tmp_path: Path
) -> None:
    pytest.importorskip("sqlalchemy")
    suite.write(TEST, conftest=IMPATIENT)
    path = tmp_path / "perf.db"
    with sqlite3.connect(path, isolation_level=None) as holder:
        holder.execute("PRAGMA journal_mode = WAL")
        holder.execute("CREATE TABLE mine (x)")
        holder.execute("BEGIN IMMEDIATE")
        outcome = suite.run("--llmperf-store=sqlite:///perf.db")
        holder.execute("ROLLBACK")
    measured(outcome)
    assert "database is locked" in outcome.said
    kept = kept_in(outcome.said, "store")
    assert_remembers(kept, outcome)
    shutil.rmtree(kept)
    record("machine", "store locked for long (SQLite)", "red; kept in another store")


def test_a_store_that_stays_locked_is_told_where_levels_move(
    suite: Suite, record: Record, tmp_path: Path
) -> None:
    fcntl = pytest.importorskip("fcntl")
    suite.write(TEST, conftest=IMPATIENT)
    store = tmp_path / "perf"
    store.mkdir()
    with (store / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = suite.run(f"--llmperf-store={store}", "--llmperf-update-baseline")
    measured(outcome)
    assert "kept locked for 0 s by another process" in outcome.said
    assert_remembers(store, outcome)
    record("machine", "store locked for long (directory)", "red; measured values are kept")


@pytest.mark.parametrize("form", ["directory", "SQLite"])
def test_a_corrupted_store_is_told_and_loses_nothing(
    suite: Suite, record: Record, tmp_path: Path, form: str
) -> None:
    gated = TEST.replace("@FLOOR", '@pytest.mark.llm_no_regression(tpot_mean="50%")')
    suite.write(gated)
    where = "perf"
    if form == "SQLite":
        pytest.importorskip("sqlalchemy")
        where = "sqlite:///perf.db"
        (tmp_path / "perf.db").write_bytes(b"SQLite format 3\0" + b"\xff" * 5000)
    else:
        assert suite.run("--llmperf-store=perf").status == 0
        victim = next(
            path for path in (tmp_path / "perf").rglob("*.json") if "it" in path.parent.name
        )
        victim.write_text(victim.read_text()[:100])
    outcome = suite.run(f"--llmperf-store={where}")
    assert outcome.status == 11, outcome.said
    assert outcome.whole
    assert outcome.gate("test_it")["reason_code"] == "store_broken"
    if form == "SQLite":
        kept = kept_in(outcome.said, "store")
        assert_remembers(kept, outcome)
        shutil.rmtree(kept)
    record("machine", f"store corrupted ({form})", "red, not covered: store_broken, with the place")
