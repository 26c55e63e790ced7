"""Tiny models of DeepSeek-R1's shapes, made on the spot: real weights, no download.

They answer with nonsense, but through the same code paths, special tokens, chat template and
thinking phase as the models they are shaped after, and with the same words on every machine.
"""

from __future__ import annotations

from pathlib import Path

from pytest_llmperf.records import WeightFormat

#: Names that may stand wherever a model is named.
TINY_MODELS: tuple[str, ...] = ("tiny-r1", "tiny-r1-distill-qwen", "tiny-r1-distill-llama")


def is_tiny(name: str) -> bool:
    """Whether ``name`` is one of :data:`TINY_MODELS`."""
    return name in TINY_MODELS


def materialize(name: str, cache_dir: Path, weights: WeightFormat = "safetensors") -> Path:
    """A tiny model, made below ``cache_dir`` unless it is there already: a directory as on the
    hub, or with "gguf" for ``weights`` one file.

    The same name gives the same bytes on every machine. Two processes may do this at once.
    Raises :class:`~pytest_llmperf.errors.UsageMistake` for a name that is not in
    :data:`TINY_MODELS`.
    """
    from .build import build  # numpy and a second of work: only for those who ask

    return build(name, cache_dir, weights)


__all__ = ["TINY_MODELS", "is_tiny", "materialize"]
