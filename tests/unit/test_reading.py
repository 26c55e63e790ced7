"""Files and texts of others: bounded, and refused in one sentence."""

from __future__ import annotations

import json
import os
import socket
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pytest_llmperf.reading import LARGEST, Unreadable, parse_json, read_bytes, read_json, read_text

FUZZ = settings(
    max_examples=int(os.environ.get("LLMPERF_FUZZ", "100")),
    derandomize="LLMPERF_FUZZ" not in os.environ,
    deadline=None,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text() | st.floats(-1e300, 1e300),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@FUZZ
@given(JSON)
def test_what_is_json_is_read_as_it_is(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value


@FUZZ
@given(st.text() | st.text(alphabet='[]{}",:0123456789.eE-+nulltrfasINay \n\\u'))
@example("[" * 100_000)
@example('{"a":' * 100_000)
@example("9" * 5000)
@example("-" + "9" * 400)
@example("1e400")
@example("NaN")
@example("[-Infinity]")
@example('{"a": 1, "a": 1}')
@example("\ufeff{}")
@example("\x00")
@example("")
def test_any_other_text_is_refused_in_one_sentence(text: str) -> None:
    try:
        value = parse_json(text)
    except Unreadable as why:
        said = str(why)
    else:
        json.dumps(value, allow_nan=False)
        return
    assert said.startswith(("is ", "cannot be read"))
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{", r"is not JSON: .* line 1 column 2"),
        ("key: value", "is not JSON: Expecting value: line 1"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' stands twice in one object"),
        ("[NaN]", "NaN is no JSON number"),
        ("[1e999]", "1e999 is too large a number"),
        ("9" * 60, r"9{40}\.\.\. is too large a number"),
        ("[" * 200_000, "it is nested too deeply"),
    ],
)
def test_why_a_text_is_refused(text: str, said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        parse_json(text)


def test_what_python_writes_is_let_through_where_that_is_asked_for() -> None:
    assert parse_json("[Infinity, 1e400]", constants=True) == [float("inf")] * 2


def test_a_mark_of_byte_order_and_other_ends_of_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'\xef\xbb\xbf{\r\n"a": 1\r\n}\r\n')
    assert read_json(path) == {"a": 1}


def test_what_is_no_utf_8_names_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{\n"a": "\xff"}')
    with pytest.raises(Unreadable, match=r"byte 9, in line 2, is none \(.*\); save it as UTF-8"):
        read_text(path)
    path.write_bytes("{}".encode("utf-16"))
    with pytest.raises(Unreadable, match="byte 1, in line 1"):
        read_text(path)


# --- what is no file -------------------------------------------------------------------------


def test_a_directory_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unreadable, match="cannot be read: it is a directory"):
        read_bytes(tmp_path)


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(Unreadable, match="it is no regular file; save its content to one"):
        read_bytes(path)


def test_a_socket_and_a_device_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket may not be long
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        for path in (Path("s"), Path("/dev/zero")):
            with pytest.raises(Unreadable, match="cannot be read"):
                read_bytes(path)


@pytest.mark.parametrize("name", ["none", "a" * 300, "a\0b", "x/y", "\udcff"])
def test_names_that_the_system_refuses(tmp_path: Path, name: str) -> None:
    with pytest.raises(Unreadable, match=r"^cannot be read: "):
        read_bytes(tmp_path / name)


def test_a_file_larger_than_is_read_costs_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    with path.open("wb") as file:
        file.truncate(LARGEST + 1)
    tracemalloc.start()
    try:
        with pytest.raises(Unreadable, match="is larger than the 256 MiB"):
            read_bytes(path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_file_that_says_no_size_is_bounded_too() -> None:
    with pytest.raises(Unreadable, match="is larger than"):
        read_bytes(Path("/proc/self/status"), most=10)
