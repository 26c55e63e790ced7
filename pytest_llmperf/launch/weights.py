"""Which revision of a model a server has loaded."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_COMMIT = re.compile(r"^[0-9a-f]{40}$")
_SMALL_BYTES = 1 << 20
_DIGITS = 16


def revision(places: Iterable[str], env: Mapping[str, str], *, wanted: str = "main") -> str | None:
    """Of the first of ``places`` that can be found: a hub's commit, that of the
    ``wanted`` branch or tag, or for a directory or file
    "files:" and a digest of names and sizes, and of the content of what is small."""
    for place in places:
        path = Path(place)
        if _COMMIT.match(path.name):
            return path.name
        try:
            found = _of_files(path) if path.exists() else _of_hub(place, wanted, env)
        except (OSError, ValueError):
            found = None  # not ours to read, or no text where a commit should be
        if found is not None:
            return found
    return None


def _of_files(path: Path) -> str:
    whole = hashlib.sha256()
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    for file in files:
        if file.is_file() and not file.name.startswith("."):
            size = file.stat().st_size
            whole.update(f"{file.name}\0{size}\0".encode())
            if size < _SMALL_BYTES:
                whole.update(file.read_bytes())
    return f"files:{whole.hexdigest()[:_DIGITS]}"


def _of_hub(name: str, wanted: str, env: Mapping[str, str]) -> str | None:
    """The commit of a model in the hub's cache; ``None`` where the cache does not hold it."""
    if _COMMIT.match(wanted):
        return wanted
    home = Path(env.get("HF_HOME") or Path(env.get("XDG_CACHE_HOME") or "~/.cache", "huggingface"))
    hub = Path(env.get("HF_HUB_CACHE") or home / "hub").expanduser()
    ref = hub / f"models--{name.replace('/', '--')}" / "refs" / wanted
    return ref.read_text().strip() if ref.is_file() else None
