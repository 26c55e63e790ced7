"""Apache Otava as it is released, on simulated nights, in an environment of its own.

``LLMPERF_PEER_OTAVA`` names an environment that is there already; otherwise one is made below
``.build/peers`` from ``pins/otava.txt``.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .cells import Number
from .noise import Noise, Rng

BEFORE, AFTER = 30, 40  # nights before the loss begins, and looks after that
_SOON = (1, 5, 10, 20, 40)
_HERE = Path(__file__).parent
_ROOT = _HERE.parents[1]
_UV = _ROOT / ".build" / "uv" / "bin" / "uv"


@dataclass(frozen=True, slots=True)
class _Found:
    """The first look of each series that showed a loss, and Otava's version."""

    first: list[int | None]
    version: str


def play(noise: Noise, loss: float, rng: Rng, repetitions: int) -> Mapping[str, Number]:
    """How soon it tells of a change for the worse, re-run each night on all the nights so far."""
    nights = noise.values(rng, repetitions, BEFORE + AFTER).mean(axis=2)
    nights[:, BEFORE:] *= 1 - loss
    try:
        python = _python()
    except OSError as error:
        return {"not_run": str(error)}
    found = _analysed(python, {"series": nights.tolist(), "before": BEFORE})
    looks = [look for look in found.first if look is not None]
    return {
        "alarms": len(looks),
        **{f"within_{soon}": sum(look <= soon for look in looks) / repetitions for soon in _SOON},
        "version": found.version,
    }


def _analysed(python: Path, asked: Mapping[str, object]) -> _Found:
    done = subprocess.run(
        [str(python), "-P", str(_HERE / "otava_child.py")],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"Otava ended with status {done.returncode}: {done.stderr[-500:]}")
    return _Found(**json.loads(done.stdout))


def _python() -> Path:
    """Raises :class:`OSError` where there is none, and none can be made."""
    given = os.environ.get("LLMPERF_PEER_OTAVA")
    root = Path(given).expanduser() if given else _ROOT / ".build" / "peers" / "otava"
    python = root / "bin" / "python"
    if not python.exists():
        _make(root)
    return python


def _make(root: Path) -> None:
    pins = str(_HERE / "pins" / "otava.txt")
    for argv in (
        [str(_UV), "venv", "--python", "3.11", str(root)],
        [str(_UV), "pip", "install", "--python", str(root / "bin" / "python"), "-r", pins],
    ):
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(f"Otava is not to be had: {done.stderr[-500:]}")
