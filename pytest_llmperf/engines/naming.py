"""What a model's name tells of it, for engines to choose by."""

from __future__ import annotations

import re
from pathlib import PurePath

from pytest_llmperf.records import Placement

_R1 = re.compile(r"(?<![a-z0-9])r1(?![a-z0-9])", re.IGNORECASE)
_DISTILL = re.compile(r"distill", re.IGNORECASE)
_BILLIONS = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)b(?![a-z0-9])", re.IGNORECASE)
_R1_BILLIONS = 671.0


def is_r1(placement: Placement) -> bool:
    """Whether the model is DeepSeek-R1 or one of its distills, and so thinks before it answers."""
    return any(_R1.search(name) for name in (placement.served_name, placement.model_path))


def is_distill(placement: Placement) -> bool:
    """Whether the model is a distill: R1's thoughts in the shape of a smaller model."""
    return any(_DISTILL.search(name) for name in (placement.served_name, placement.model_path))


def is_tiny(placement: Placement) -> bool:
    """Whether the model is one of those that this package makes on the spot."""
    return placement.served_name.startswith("tiny-r1")


def is_local(placement: Placement) -> bool:
    """Whether the model is a directory, so that the hub is not needed."""
    return PurePath(placement.model_path).is_absolute()


def recipe_model(placement: Placement) -> str:
    """What recipes know the model by: tiny models by their name, others by what is loaded."""
    return placement.served_name if is_tiny(placement) else placement.model_path


def start_timeout_s(placement: Placement) -> float:
    """Ten minutes and 4.5 s per billion parameters, so an hour for R1 itself; half an hour for a
    model whose name does not tell its size."""
    if is_tiny(placement):
        return 300.0 if placement.accelerator.vendor == "cpu" else 600.0
    name = PurePath(placement.served_name).name
    sizes = [float(size) for size in _BILLIONS.findall(name)]
    if not sizes and not _R1.search(name):
        return 1800.0
    return round(600.0 + 4.5 * max(sizes, default=_R1_BILLIONS))
