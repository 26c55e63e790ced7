from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.launch.mapped import OTHERS, build_id, file_digest, libraries
from pytest_llmperf.records import Json

MIB = 1 << 20
Start = Callable[[str], int]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts Python on a program that prints a line once it is ready; its pid."""
    with ExitStack() as ends:

        def run(program: str) -> int:
            child = subprocess.Popen(
                [sys.executable, "-c", f"{program}\nprint(flush=True)\ninput()"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            ends.callback(child.communicate)
            assert child.stdout is not None
            assert child.stdout.readline() == b"\n"
            return child.pid

        yield run


# --- real processes --------------------------------------------------------------------------


def seen(pid: int) -> dict[str, Json]:
    found = libraries(pid)
    assert found is not None
    return found


def test_a_child_shows_what_it_has_loaded(start: Start) -> None:
    without, with_numpy = seen(start("")), seen(start("import numpy"))
    new = with_numpy.keys() - without.keys()
    assert any(name.startswith("_multiarray_umath") for name in new)
    assert OTHERS in without
    assert None not in with_numpy.values()


def test_two_alike_show_the_same(start: Start) -> None:
    assert seen(start("import numpy")) == seen(start("import numpy"))


def test_descendants_count(start: Start) -> None:
    grandchild = "import numpy; print(flush=True); input()"
    pid = start(
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {grandchild!r}], "
        "stdout=subprocess.PIPE, stdin=subprocess.PIPE)\n"
        "child.stdout.readline()"
    )
    assert any(name.startswith("_multiarray_umath") for name in seen(pid))


def test_of_a_process_that_is_gone_nothing_is_known() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    assert libraries(child.pid) is None


# --- a made-up process table -----------------------------------------------------------------


class Table:
    """Stands in for /proc, with this process as the only one."""

    def __init__(self, path: Path) -> None:
        self.proc, self.root = path / "proc", path / "root"
        self.process = self.proc / str(os.getpid())
        self.process.mkdir(parents=True)
        self.root.mkdir()
        (self.process / "root").symlink_to(self.root)
        (self.process / "maps").touch()

    def map(self, name: str, data: bytes | None = None, *, perms: str = "r-xp") -> None:
        if data is not None:
            file = self.root / name.lstrip("/")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        with (self.process / "maps").open("a") as maps:
            maps.write(f"7f00-7f01 {perms} 00001000 fe:00 4711{' ' * 20}{name}\n")

    def seen(self, *caches: str) -> dict[str, Json] | None:
        return libraries(os.getpid(), caches, proc=self.proc)


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_large_files_are_listed_and_small_ones_summed_up(table: Table) -> None:
    table.map("/opt/lib/libbig.so", b"b" * MIB)
    table.map("/opt/lib/libsmall.so", b"s")
    table.map("/opt/bin/llama server", b"e" * MIB)
    found = table.seen()
    assert found is not None
    assert set(found) == {"libbig.so", "llama server", OTHERS}


@pytest.mark.parametrize("name", ["/opt/libbig.so", "/opt/libsmall.so"])
def test_other_content_is_seen(table: Table, name: str) -> None:
    for file, size in (("/opt/libbig.so", MIB), ("/opt/libsmall.so", 9)):
        table.map(file, b"x" * size)
    before = table.seen()
    path = table.root / name.lstrip("/")
    path.write_bytes(b"y" * path.stat().st_size)
    after = table.seen()
    assert before is not None
    assert after is not None
    entry = OTHERS if "small" in name else "libbig.so"
    assert [key for key in before if before[key] != after[key]] == [entry]


def test_where_a_file_lies_does_not_matter(table: Table, tmp_path: Path) -> None:
    other = Table(tmp_path / "other")
    for one, prefix in ((table, "/old"), (other, "/new/venv")):
        one.map(f"{prefix}/libbig.so", b"b" * MIB)
        one.map(f"{prefix}/libsmall.so", b"s")
    assert table.seen() == other.seen()


def test_two_files_of_one_name_both_count(table: Table) -> None:
    table.map("/a/libx.so", b"a" * MIB)
    one = table.seen()
    table.map("/b/libx.so", b"b" * MIB)
    two = table.seen()
    assert one is not None
    assert two is not None
    assert str(one["libx.so"]) in str(two["libx.so"])
    assert one != two
    table.map("/c/libx.so (deleted)")
    three = table.seen()
    assert three is not None
    assert three["libx.so"] is None


def test_what_is_no_file_or_no_code_is_left_out(table: Table) -> None:
    table.map("/opt/libbig.so", b"b" * MIB)
    before = table.seen()
    table.map("/opt/weights.bin", b"w" * MIB, perms="r--s")
    for name in ("[vdso]", "/memfd:jit (deleted)", "/dev/nvidia0", "/SYSV00000000"):
        table.map(name)
    assert table.seen() == before


@pytest.mark.parametrize(
    "name",
    [
        "/var/torchinductor_me/ab/cab.so",
        "/home/me/.triton/cache/AB/cuda_utils.so",
        "/home/me/.cache/flashinfer/0.7/90a/cached_ops/x/x.so",
        "/scratch/side-a/whatever/x.so",
    ],
)
def test_what_a_server_compiled_for_itself_is_left_out(table: Table, name: str) -> None:
    table.map("/opt/libbig.so", b"b" * MIB)
    before = table.seen("/scratch/side-a")
    table.map(name, b"j" * MIB)
    assert table.seen("/scratch/side-a") == before


@pytest.mark.parametrize(
    "name",
    [
        "/home/me/.cache/uv/archive-v0/ab/lib/python3.12/site-packages/torch/lib/libx.so",
        "/home/me/.cache/huggingface/hub/models--k--k/snapshots/ab/build/libx.so",
        "/scratch/side-a/venv/lib/python3.12/site-packages/x/libx.so",
        "/home/me/llama.cpp/build/bin/libx.so",
        "/scratch/side-abc/libx.so",
    ],
)
def test_what_was_installed_counts_wherever_it_lies(table: Table, name: str) -> None:
    table.map(name, b"x" * MIB)
    found = table.seen("/scratch/side-a")
    assert found is not None
    assert "libx.so" in found


def test_a_file_replaced_since_it_was_loaded_is_not_known(table: Table) -> None:
    table.map("/opt/libbig.so", b"b" * MIB)
    table.map("/opt/libold.so (deleted)")
    found = table.seen()
    assert found is not None
    assert found["libold.so"] is None
    assert found["libbig.so"] is not None


def test_a_name_that_is_no_text_is_shown_as_text(table: Table) -> None:
    table.map("/opt/libbig.so", b"b" * MIB)
    maps = table.process / "maps"
    for size in (1, MIB):
        Path(os.fsdecode(os.fsencode(table.root) + b"/caf\xe9%d.so" % size)).write_bytes(
            bytes(size)
        )
        line = b"7f00-7f01 r-xp 00001000 fe:00 4711 /caf\xe9%d.so\n" % size
        maps.write_bytes(maps.read_bytes() + line)
    found = table.seen()
    assert found is not None
    assert found[f"caf\ufffd{MIB}.so"] is not None


def test_where_we_may_not_look_nothing_is_known(table: Table) -> None:
    (table.process / "maps").unlink()
    (table.process / "maps").mkdir()
    assert table.seen() is None


# --- build ids -------------------------------------------------------------------------------


def opened(data: bytes) -> io.BufferedReader:
    return io.BufferedReader(io.BytesIO(data))


def note(name: bytes, kind: int, value: bytes, order: str = "<") -> bytes:
    head = struct.pack(f"{order}III", len(name), len(value), kind)
    return head + name.ljust(-(-len(name) // 4) * 4, b"\0") + value.ljust(-(-len(value) // 4) * 4)


def elf(notes: bytes, order: str = "<", *, bits: int = 64, padding: int = 0) -> bytes:
    """A file with two program headers, the second of notes."""
    ident = b"\x7fELF" + bytes([bits // 32, 1 if order == "<" else 2, 1]) + bytes(9)
    header = struct.pack(f"{order}HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    at = 64 + 2 * 56

    def entry(kind: int, place: int, length: int) -> bytes:
        return struct.pack(f"{order}IIQQQQQQ", kind, 4, place, 0, 0, length, length, 4)

    return ident + header + entry(1, 0, at) + entry(4, at, len(notes)) + notes + b"x" * padding


ID = bytes(range(20))


@pytest.mark.parametrize("order", ["<", ">"])
def test_the_build_id_is_found_among_the_notes(order: str) -> None:
    notes = note(b"GNU\0", 5, b"prop", order) + note(b"stapsdt\0", 3, b"no!", order)
    assert build_id(opened(elf(notes + note(b"GNU\0", 3, ID, order), order))) == ID.hex()
    assert build_id(opened(elf(notes, order))) is None


def test_a_cut_file_has_no_build_id() -> None:
    whole = elf(note(b"GNU\0", 3, ID))
    for length in range(len(whole)):
        assert build_id(opened(whole[:length])) is None, length


def test_of_an_old_format_the_whole_file_is_read() -> None:
    assert build_id(opened(elf(note(b"GNU\0", 3, ID), bits=32))) is None


@given(st.binary(max_size=200))
def test_no_file_at_all_is_too_odd(data: bytes) -> None:
    build_id(opened(data))
    build_id(opened(b"\x7fELF\x02\x01" + data))
    build_id(opened(elf(data)))


def test_a_build_id_stands_for_the_file_with_its_size() -> None:
    def digest(data: bytes) -> str:
        return file_digest(opened(data), len(data))

    built = elf(note(b"GNU\0", 3, ID), padding=8)
    same_build = elf(note(b"GNU\0", 3, ID), padding=7) + b"y"
    assert digest(built) == digest(same_build)
    assert digest(built) != digest(built + b"x")
    assert digest(built) != digest(elf(note(b"GNU\0", 3, ID[::-1]), padding=8))
    assert digest(elf(b"", padding=8)) != digest(elf(b"", padding=7) + b"y")
