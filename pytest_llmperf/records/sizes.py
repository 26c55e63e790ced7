"""How large a model is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """What an engine loads of a model: without the layers that only predict further tokens.

    ``weight_bytes`` is what the weights take on devices as they come; ``dtype`` is what most of
    them are in, in words ("bfloat16", "fp8"). ``heads`` and ``kv_heads`` are those of the
    attention, ``cache_bytes`` what the key-value cache takes for a token in 16 bit. ``experts``
    counts the experts that a router chooses from, 0 in a dense model.
    """

    name: str
    parameters: int
    weight_bytes: int
    dtype: str
    heads: int
    kv_heads: int
    cache_bytes: int
    experts: int = 0
