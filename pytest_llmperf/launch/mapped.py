"""Which native code a server runs: the executable files that its processes have mapped."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterable, Iterator
from io import BufferedReader
from pathlib import Path

from pytest_llmperf.records import Json

from .tree import process_ids

#: The name under which files are summed up that are not listed by name.
OTHERS = "(others)"

_PROC = Path("/proc")
_LISTED_BYTES = 1 << 20
_DIGITS = 16
_GONE = " (deleted)"
_ESCAPED = re.compile(r"\\([0-7]{3})")
_NO_FILE = ("/memfd:", "/dev/", "/SYSV", "/anon_hugepage", "/i915")

#: Where compilers that run inside of a server leave what they made: it follows from the code, the
#: arguments and the packages, and which of it is loaded by now is a matter of luck.
_GENERATED = re.compile(
    r"/(?:torchinductor_|\.triton/|torch_extensions/|\.nv/|numba_cache"
    r"|\.cache/(?:flashinfer|tvm-ffi|deep_gemm|triton|vllm|sglang|torch)/)"
)

#: What was installed is not made by the server, wherever it lies.
_INSTALLED = re.compile(r"/(?:site-packages|dist-packages|huggingface|hub|uv)/")

_PT_NOTE, _NT_GNU_BUILD_ID = 4, 3
_NOTES_AT_MOST = 1 << 20

#: By what makes a file that very file: device, inode, size, times of change.
_digests: dict[tuple[int, ...], str] = {}


def libraries(
    pid: int, caches: Iterable[str] = (), *, proc: Path = _PROC
) -> dict[str, Json] | None:
    """Short digests of the files mapped as code by a process and its descendants, by base name.

    What was compiled into one of the ``caches``, or into a usual one, is left out. Files below a
    mebibyte are summed up as :data:`OTHERS`. The digest of a file that was replaced since it was
    loaded is ``None``; all is ``None`` where a process may not be looked into.
    """
    files: dict[str, Path] = {}
    try:
        for process in process_ids(pid):
            files |= _mapped(proc / str(process))
    except OSError:
        return None
    ours = tuple(f"{cache.rstrip('/')}/" for cache in caches)
    kept = {name: path for name, path in files.items() if not _generated(name, ours)}
    return _summed(kept) if kept else None


def _generated(name: str, caches: tuple[str, ...]) -> bool:
    return _GENERATED.search(name) is not None or (
        name.startswith(caches) and _INSTALLED.search(name) is None
    )


def _mapped(process: Path) -> dict[str, Path]:
    """The mapped files of one process, and where they can be read; none once it has ended."""
    try:
        text = (process / "maps").read_text(errors="surrogateescape")
    except (FileNotFoundError, ProcessLookupError):
        return {}
    # A server in a container of its own sees other files under the same names.
    return {name: process / "root" / name.lstrip("/") for name in _names(text)}


def _names(maps: str) -> Iterator[str]:
    for line in maps.splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) < 6 or "x" not in fields[1]:
            continue
        name = _ESCAPED.sub(lambda match: chr(int(match[1], 8)), fields[5])
        if name.startswith("/") and not name.startswith(_NO_FILE):
            yield name


def _summed(files: dict[str, Path]) -> dict[str, Json]:
    listed: dict[str, set[str | None]] = {}
    others: set[str] = set()
    for name, path in files.items():
        # What is no UTF-8 cannot stand in a report.
        base = os.fsencode(Path(name.removesuffix(_GONE)).name).decode(errors="replace")
        size, digest = _measured(path)
        if digest is not None and size < _LISTED_BYTES:
            others.add(f"{base} {digest}")
        else:
            listed.setdefault(base, set()).add(digest)
    found: dict[str, Json] = {base: _joined(digests) for base, digests in sorted(listed.items())}
    found[OTHERS] = hashlib.sha256("\n".join(sorted(others)).encode()).hexdigest()[:_DIGITS]
    return found


def _joined(digests: set[str | None]) -> str | None:
    """Of several files with one name all count."""
    known = sorted(digest for digest in digests if digest is not None)
    return ",".join(known) if len(known) == len(digests) else None


def _measured(path: Path) -> tuple[int, str | None]:
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            key = (facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            if key not in _digests:
                _digests[key] = file_digest(file, facts.st_size)
            return facts.st_size, _digests[key]
    except OSError:
        return 0, None


def file_digest(file: BufferedReader, size: int) -> str:
    """A short digest of an open file: of its build id and size where it has one, else of all."""
    built = build_id(file)
    if built is not None:
        return hashlib.sha256(f"{built} {size}".encode()).hexdigest()[:_DIGITS]
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()[:_DIGITS]


def build_id(file: BufferedReader) -> str | None:
    """The build id that a linker left in a 64-bit ELF file, in hexadecimal; ``None`` without."""
    try:
        return next(_build_ids(file), None)
    except (struct.error, OverflowError):
        return None  # cut short, or no ELF file at all


def _build_ids(file: BufferedReader) -> Iterator[str]:
    file.seek(0)
    ident = file.read(16)
    if len(ident) < 16 or ident[:5] != b"\x7fELF\x02":
        return
    order = "<" if ident[5] == 1 else ">"
    at, size, count = struct.unpack(f"{order}16xQ14xHH", file.read(42))[:3]
    for number in range(count):
        file.seek(at + number * size)
        kind, place, length = struct.unpack(f"{order}I4xQ16xQ", file.read(40))
        if kind == _PT_NOTE:
            file.seek(place)
            yield from _ids_in(file.read(min(length, _NOTES_AT_MOST)), order)


def _ids_in(notes: bytes, order: str) -> Iterator[str]:
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from(f"{order}III", notes, at)
        name_at = at + 12
        value_at = name_at + (name_size + 3 & ~3)
        value = notes[value_at : value_at + size]
        gnu = notes[name_at : name_at + name_size] == b"GNU\0"
        if gnu and kind == _NT_GNU_BUILD_ID and 0 < size == len(value):
            yield value.hex()
        at = value_at + (size + 3 & ~3)
