"""Columns that go through a file come back as they were."""

from __future__ import annotations

import errno
import gc
import os
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.load.read.spill import SpillReader, SpillWriter
from pytest_llmperf.records import CHUNK_KINDS, NO_CHUNKS, Chunk, Chunks

CHUNKS = st.lists(
    st.builds(
        Chunk,
        at_ns=st.integers(0, 2**63 - 1),
        kind=st.sampled_from(CHUNK_KINDS),
        characters=st.integers(0, 2**31 - 1),
        cumulative_tokens=st.none() | st.integers(0, 2**31 - 1),
    ),
    max_size=20,
).map(Chunks.of)


@given(st.lists(st.lists(CHUNKS, max_size=6), max_size=3))
def test_every_pass_comes_back_as_it_was_written(passes: list[list[Chunks]]) -> None:
    with tempfile.TemporaryFile() as file:
        writer = SpillWriter(file.fileno())
        for written in passes:
            begins = writer.position
            assert begins % 8 == 0, "numpy wants its integers aligned"
            places = [writer.write(chunks) for chunks in written]
            writer.flush()
            reader = SpillReader(file.fileno())
            found = [reader.chunks(at, len(each)) for at, each in zip(places, written, strict=True)]
            assert found == written


def test_much_is_written_before_anybody_asks() -> None:
    many = Chunks.of([Chunk(at_ns=at, kind="answer", characters=1) for at in range(100_001)])
    with tempfile.TemporaryFile() as file:
        writer = SpillWriter(file.fileno())
        places = [writer.write(many), writer.write(many)]
        writer.flush()
        assert writer.position == file.seek(0, 2)
        reader = SpillReader(file.fileno())
        assert [reader.chunks(at, len(many)) for at in places] == [many, many]


def test_what_was_read_outlives_reader_and_file() -> None:
    chunks = Chunks.of([Chunk(at_ns=7, kind="reasoning", characters=3, cumulative_tokens=1)])
    with tempfile.TemporaryFile() as file:
        writer = SpillWriter(file.fileno())
        writer.write(chunks)
        writer.flush()
        found = SpillReader(file.fileno()).chunks(0, 1)
    gc.collect()
    assert found == chunks
    assert found.at_ns.format == "q"


def test_an_empty_file_holds_nothing() -> None:
    with tempfile.TemporaryFile() as file:
        SpillWriter(file.fileno()).flush()
        reader = SpillReader(file.fileno())
        assert reader.chunks(0, 0) == NO_CHUNKS
        with pytest.raises(ValueError, match="reach beyond 0"):
            reader.chunks(0, 1)


def test_what_was_not_flushed_is_missed_and_not_made_up() -> None:
    with tempfile.TemporaryFile() as file:
        SpillWriter(file.fileno()).write(Chunks.of([Chunk(at_ns=1, kind="none", characters=0)]))
        with pytest.raises(ValueError, match="reach beyond"):
            SpillReader(file.fileno()).chunks(0, 1)


def test_what_could_not_be_written_is_written_in_its_place_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk: part goes out, then an error, then there is room again."""
    first, second = some_chunks(40), some_chunks(7)
    with tempfile.TemporaryFile() as file:
        writer = SpillWriter(file.fileno())
        writer.write(first)
        real = os.pwrite
        calls = iter([lambda fd, data, at: real(fd, data[:100], at), no_space])
        monkeypatch.setattr(os, "pwrite", lambda fd, data, at: next(calls, real)(fd, data, at))
        with pytest.raises(OSError, match="No space"):
            writer.flush()
        at = writer.write(second)
        writer.flush()
        reader = SpillReader(file.fileno())
        assert reader.chunks(0, len(first)) == first
        assert reader.chunks(at, len(second)) == second


def no_space(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


def some_chunks(count: int) -> Chunks:
    return Chunks.of(
        Chunk(at_ns=n, kind="answer", characters=n, cumulative_tokens=n) for n in range(count)
    )
