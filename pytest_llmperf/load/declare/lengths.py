"""Lengths that differ from request to request: their range, and a draw from it."""

from __future__ import annotations

from hashlib import blake2b


def bounds(mean: int, spread: float) -> tuple[int, int]:
    """The least and the greatest length where lengths have ``mean`` and ``spread``.

    They lie equally far from the mean, so that a uniform draw keeps it.
    """
    reach = int(mean * spread + 1e-9)
    return mean - reach, mean + reach


def uniform(name: bytes, label: str, low: int, high: int) -> int:
    """A whole number from ``low`` to ``high``, both included, decided by the two names alone."""
    digest = blake2b(label.encode(), digest_size=8, key=blake2b(name).digest()).digest()
    return low + (int.from_bytes(digest, "big") * (high - low + 1) >> 64)
