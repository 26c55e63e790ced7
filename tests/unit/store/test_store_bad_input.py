"""Documents as a fuzzer writes them, and names as an attacker chooses them."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_llmperf.store import StoreError, key_of, open_store
from pytest_llmperf.store.documents import record_of, text_of
from pytest_llmperf.store.files import Files

if TYPE_CHECKING:
    from tests.unit.store.conftest import Samples

Broken = Callable[[Any], st.SearchStrategy[bytes]]

FUZZ = settings(
    max_examples=int(os.environ.get("LLMPERF_FUZZ", "60")),
    derandomize="LLMPERF_FUZZ" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
#: Names that would lead elsewhere, end early, be too long, or mean the same to some file systems.
HOSTILE = (
    *("../../../etc/passwd", "..", ".", "/", "/etc/passwd", "a/../../b", "..\\..\\b", "C:\\b"),
    *("a\0b", "a" * 300, "é" * 300, "CON", "nul.json", "a.", "a ", " ", "-rf", "~root", "$HOME"),
    *("A", "a", "Ä", "ä", "A\u0308", "ﬀ", "ff", "x'; DROP TABLE observations; --", 'x" OR 1=1 --'),
    *("%s%n{0}", "a\nb", "\x1b[2J", "\u202e", ".git", ".gitignore", ".lock", "levels", "x%", "x_"),
)


@pytest.mark.parametrize("kind", ["observation", "level", "profile"])
@FUZZ
@given(data=st.data())
def test_a_document_is_read_or_refused(
    kind: str, data: st.DataObject, broken: Broken, samples: Samples
) -> None:
    record = getattr(samples, kind)()
    text = data.draw(broken(json.loads(text_of(record)))).decode(errors="replace")
    try:
        found = record_of(text, "The file x")
    except StoreError as error:
        said = str(error)
    else:
        assert record_of(text_of(found), "x") == found
        return
    assert said.startswith("The file x ")
    assert len(said) < 2000
    assert "Restore it" in said or "restore it" in said


def test_a_document_that_is_no_file_is_not_waited_for(tmp_path: Path, samples: Samples) -> None:
    store = open_store("perf", tmp_path)
    store.append(samples.observation())
    os.mkfifo(tmp_path / "perf" / samples.observation().key / "pipe.json")
    with pytest.raises(StoreError, match=r"pipe\.json cannot be read: it is no regular file"):
        store.observations()


# --- names -----------------------------------------------------------------------------------


@FUZZ
@given(st.sampled_from(HOSTILE) | st.text(), st.sampled_from(HOSTILE) | st.text())
@example("test_a", "\ud800")
def test_a_key_is_a_plain_name(test: str, digest: str) -> None:
    try:
        key = key_of(test, digest, {"fact": digest}, 1)
    except StoreError:
        return  # half a surrogate pair
    assert Files(Path("perf")).under(key) == key
    assert Path(key).name == key
    assert len(key) < 120


@FUZZ
@given(st.sampled_from(HOSTILE) | st.text().filter(lambda text: text.isprintable()))
def test_a_directory_is_a_plain_name_whatever_the_key(key: str) -> None:
    under = Files(Path("perf")).under(key)
    assert Path(under).name == under
    assert under not in (".", "..")
    assert under == under.lower()
    assert len(under.encode()) <= 255


def test_keys_that_differ_have_directories_that_differ_where_case_does_not() -> None:
    names = [Files(Path("perf")).under(key).casefold() for key in HOSTILE]
    assert len(set(names)) == len(HOSTILE)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_stay_in_the_store(tmp_path: Path, samples: Samples, name: str) -> None:
    """Keys, runners, commits and tests are free texts; ids are not."""
    before = {"outside"}
    (tmp_path / "outside").touch()
    store = open_store("perf", tmp_path)
    observation = samples.observation(key=name, runner=name, commit=name, test=name)
    try:
        store.append(observation)
    except StoreError as error:
        assert "does not match its schema" in str(error)  # noqa: PT017 - either is right
    else:
        assert store.observations(name) == [observation]
        assert store.keys() == [name]
    assert {path.name for path in tmp_path.iterdir()} - {"perf"} == before
    for path in (tmp_path / "perf").rglob("*"):
        assert len(path.name.encode()) <= 255
        assert path.resolve().is_relative_to(tmp_path / "perf")


@pytest.mark.parametrize("name", HOSTILE)
def test_an_id_that_is_no_plain_name_is_refused_or_harmless(
    tmp_path: Path, samples: Samples, name: str
) -> None:
    store = open_store("perf", tmp_path)
    try:
        store.append(samples.observation(name))
    except StoreError as error:
        assert "$.id" in str(error)  # noqa: PT017 - either is right
        assert not list(tmp_path.rglob("*.json"))
    else:
        (path,) = tmp_path.rglob("*.json")
        assert path.parent == tmp_path / "perf" / samples.observation().key


# --- SQL -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*HOSTILE, "\ud800"])
def test_hostile_names_are_values_in_sql(
    tmp_path: Path, sqlalchemy: None, samples: Samples, name: str
) -> None:
    store = open_store("sqlite:///perf.db", tmp_path)
    store.append(samples.observation("kept"))
    observation = samples.observation("hostile", key=name, test=name, runner=name)
    try:
        store.append(observation)
        assert store.observations(name) == [observation]
    except StoreError as error:
        assert len(str(error).splitlines()) == 1  # noqa: PT017 - either is right
    assert [one.id for one in store.observations(samples.observation().key)] == ["kept"]
    store.close()
    with sqlite3.connect(tmp_path / "perf.db") as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert {"observations", "levels", "profiles"} <= tables


def test_a_beginning_is_no_pattern_in_sql(
    tmp_path: Path, sqlalchemy: None, samples: Samples
) -> None:
    """An observation called "o_" has no part called "oX.l1"."""
    store = open_store("sqlite:///perf.db", tmp_path)
    part = samples.observation("oX.l1", part_of="oX", launches=(samples.launch("l1", 1.0),))
    store.append(part)
    store.append(samples.observation("o_"))
    assert {one.id for one in store.observations()} == {"oX", "o_"}
    store.close()
