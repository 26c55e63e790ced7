"""What the adapters of the other load clients have in common."""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from .base import Load, Seen
from .processes import Finished, run_tree

_START_AND_END_S = 180.0
#: Nothing is fetched and nothing reported home, and loopback is never asked through a proxy.
_QUIET = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "OTEL_SDK_DISABLED": "true",
    "NO_PROXY": "127.0.0.1,localhost",
    "no_proxy": "127.0.0.1,localhost",
    "NO_COLOR": "1",
}
#: Ours, or a key that a load client would send along.
_DROPPED = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "OPENAI_API_KEY", "API_KEY", "HF_TOKEN")


def surroundings(
    extra: Mapping[str, str] | None = None, without: Sequence[str] = ()
) -> dict[str, str]:
    """The environment that a peer runs in: ours, offline, with ``extra`` and ``without`` some."""
    kept = {name: value for name, value in os.environ.items() if name not in _DROPPED}
    wanted = {**kept, **_QUIET, **(extra or {})}
    return {name: value for name, value in wanted.items() if name not in without}


def ask(
    client: str, argv: Sequence[str | Path], load: Load, env: Mapping[str, str] | None = None
) -> Finished:
    """Run a peer on the load's core. Raises :class:`RuntimeError` quoting it when it fails."""
    finished = run_tree(
        argv,
        env=surroundings() if env is None else env,
        core=load.core,
        timeout_s=load.timeout_s + _START_AND_END_S,
        cwd=load.scratch,
    )
    finished.check(client)
    return finished


def written(client: str, path: Path, finished: Finished) -> str:
    """What a peer wrote to ``path``. Raises :class:`RuntimeError` quoting it when it did not."""
    if not path.exists():
        raise RuntimeError(f"{client} ended well but wrote no {path.name}:\n{finished.tail()}")
    return path.read_text()


def with_costs(seen: Seen, finished: Finished) -> Seen:
    """``seen`` with the CPU time and memory of all the peer's processes."""
    return dataclasses.replace(seen, cpu_s=finished.cpu_s, peak_rss_bytes=finished.peak_rss_bytes)


def parse(text: str) -> dict[str, object]:
    """A JSON object. Raises :class:`ValueError` for anything else."""
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError(f"a JSON object was expected, not {text[:80]!r}")  # noqa: TRY004
    return document


def number(document: object, *path: str, scale: float = 1.0) -> float | None:
    """The number at ``path`` times ``scale``; ``None`` where there is none, or it is not finite."""
    for name in path:
        document = document.get(name) if isinstance(document, Mapping) else None
    if isinstance(document, bool) or not isinstance(document, int | float):
        return None
    return document * scale if math.isfinite(document) else None


def count(document: object, *path: str) -> int:
    """The whole number at ``path``. Raises :class:`ValueError` where there is none."""
    found = number(document, *path)
    if found is None:
        raise ValueError(f"the client's file says nothing at {'.'.join(path)}")
    return round(found)
