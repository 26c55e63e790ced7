"""Documents broken in every way, for the tests of what reads them.

``LLMPERF_FUZZ=5000`` has each of these tests try so many examples, drawn anew; without it they are
few and always the same.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import strategies as st

Path = tuple[Any, ...]
Broken = Callable[[Any], st.SearchStrategy[bytes]]

#: What nobody expects in the place of anything.
STRANGE: st.SearchStrategy[Any] = st.sampled_from(
    [
        *(None, True, 0, -1, -0.0, 0.5, 1e-320, 1e308, 2**63, 10**30, 10**400),
        *(float("nan"), float("inf"), "", " ", "\x00", "\ud800", "\x1b[2J\x1b]0;x\x07", "\u202e"),
        *("../../etc/passwd", "/", "a" * 5000, "é" * 300, "<script>alert(1)</script>", "%s{0}"),
        *("9999-99-99", "0001-01-01T00:00:00+23:59", "p999", "'; DROP TABLE levels; --"),
        *([], {}, [[]], {"": {}}, [None] * 50),
    ]
)
_BYTES = (
    *(b"", b" \n\r\n", b"\x00", b"\xff\xfe\x00", b"null", b"0", b'"text"', b"[]", b"{}", b"NaN"),
    *(b"[" * 100_000, b'{"a":' * 50_000, b"[" * 700 + b"]" * 700, b"9" * 5000, b"1e400"),
    *(b"a: 1\nb:\n  - c\n", b"\x7fELF\x02\x01\x01" + bytes(200), b"\x1f\x8b\x08\x00" + bytes(40)),
)


@pytest.fixture(scope="session")
def broken() -> Broken:
    """For a document: strategies of texts that are nearly it."""
    return lambda document: st.one_of(
        _changed(document).map(_dumped), _changed(document).flatmap(_torn), st.sampled_from(_BYTES)
    )


def _dumped(document: Any) -> bytes:
    return json.dumps(document).encode()


@st.composite
def _changed(draw: st.DrawFn, document: Any) -> Any:
    """One to three values deleted, replaced, renamed, wrapped, or put in another's place."""
    new = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(_paths(new))
        if not paths:
            return copy.deepcopy(draw(STRANGE))
        path = draw(st.sampled_from(paths))
        parent = _at(new, path[:-1])
        match draw(st.sampled_from(["delete", "replace", "rename", "wrap", "copy"])):
            case "delete":
                del parent[path[-1]]
            case "replace":
                parent[path[-1]] = copy.deepcopy(draw(STRANGE))
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["", "x", "\ud800", "__class__"]))] = parent.pop(
                    path[-1]
                )
            case "wrap":
                for _ in range(draw(st.sampled_from([1, 60, 400]))):
                    parent[path[-1]] = [parent[path[-1]]]
            case _:
                other = _at(new, draw(st.sampled_from(paths)))
                parent[path[-1]] = copy.deepcopy(other)
    return new


def _paths(value: Any, before: Path = ()) -> Iterator[Path]:
    names: Any = value if isinstance(value, dict) else ()
    names = range(len(value)) if isinstance(value, list) else names
    for name in names:
        yield (*before, name)
        if len(before) < 12:
            yield from _paths(value[name], (*before, name))


def _at(value: Any, path: Path) -> Any:
    for name in path:
        value = value[name]
    return value


@st.composite
def _torn(draw: st.DrawFn, document: Any) -> bytes:
    """The text cut short, or with bytes in it that do not belong there."""
    text = _dumped(document)
    at = draw(st.integers(0, len(text)))
    match draw(
        st.sampled_from(["cut", "insert", "drop", "mark", "lines", "twice", "wide", "name"])
    ):
        case "cut":
            return text[:at]
        case "insert":
            return text[:at] + draw(st.binary(min_size=1, max_size=4)) + text[at:]
        case "drop":
            return text[:at] + text[at + 1 :]
        case "mark":
            return b"\xef\xbb\xbf" + text
        case "lines":
            return text.replace(b", ", b",\r\n")
        case "twice":
            return text + text
        case "wide":
            return text.decode().encode("utf-16")
        case _:
            return text.replace(b"{", b'{"kind": 1, "kind": 2, ', 1)
