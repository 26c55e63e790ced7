"""Weights from a seed: the same bits everywhere.

Only integer arithmetic, exact conversions and correctly rounded operations are used, so neither
the mathematics library nor the processor can change a bit. One component of the residual stream,
:data:`CONSTANT`, is the same for every token; the head reads from it how likely the end of thinking
is, and which tokens are never said.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .shapes import HIDDEN, Role, Shape, Tensor
from .vocabulary import END_THINK, speakable, token_id

Array = npt.NDArray[np.float32]

CONSTANT = 0
#: Size of the constant component beside others of size one.
_LEVEL = 4.0
#: The component that only the end of thinking carries, and that keeps it from following itself.
_ENDED = 1
_ENDED_LEVEL = 8.0
#: Spread of the logits: wide, so that sampling at 0.6 to 1.0 and greedy decoding look much alike.
_LOGIT_SPREAD = 4.0
#: What the head's rows read from the constant component, and from the other.
_SILENCE = -40.0
_ONCE = -4.0
#: Spread of the attention scores' factors; sharp attention makes the next token depend on more
#: than the last one, so that greedy decoding does not run in small circles.
_SHARPNESS = 1.8

_GAIN: dict[Role, float] = {
    "score": _SHARPNESS,
    "value": 1.0,
    "inner": 1.5,
    "out": 1.0,
    "router": 1.0,
    "head": _LOGIT_SPREAD,
}


def _normal(seed: int, count: int) -> Array:
    """``count`` numbers of mean 0 and variance 1, near enough to a normal distribution: the sum
    of four 16-bit integers, scaled."""
    raw = np.random.PCG64(seed).random_raw(count).astype("<u8")
    parts = raw.view("<u2").reshape(count, 4).astype(np.int64)
    centred = parts.sum(axis=1) - 2 * 65535
    scaled: Array = (centred * (1 / 37837.0)).astype(np.float32)  # 65536 * sqrt(4 / 12)
    return scaled


def _fill(tensor: Tensor, seed: int, lift: float) -> Array:
    special: dict[Role, Callable[[], Array]] = {
        "norm": lambda: np.ones(tensor.shape, np.float32),
        "zero": lambda: np.zeros(tensor.shape, np.float32),
        "bias": lambda: _normal(seed, tensor.shape[0]),
        "embed": lambda: _embedding(tensor, seed),
        "head": lambda: _head(tensor, seed, lift),
        "out": lambda: _quiet(_matrix(tensor, seed)),
    }
    return special.get(tensor.role, lambda: _matrix(tensor, seed))()


def _matrix(tensor: Tensor, seed: int) -> Array:
    rows, columns = tensor.shape
    scale = np.float32(_GAIN[tensor.role] / np.sqrt(np.float64(columns)))
    return _normal(seed, rows * columns).reshape(rows, columns) * scale


def _embedding(tensor: Tensor, seed: int) -> Array:
    values = _normal(seed, tensor.shape[0] * HIDDEN).reshape(tensor.shape)
    values[:, CONSTANT] = _LEVEL
    values[:, _ENDED] = 0.0
    values[token_id(END_THINK), _ENDED] = _ENDED_LEVEL
    return values


def _quiet(values: Array) -> Array:
    """No layer writes to the constant component."""
    values[CONSTANT, :] = 0.0
    return values


def _head(tensor: Tensor, seed: int, lift: float) -> Array:
    values = _matrix(tensor, seed)
    values[:, CONSTANT] = [0.0 if said else _SILENCE for said in speakable()]
    values[token_id(END_THINK), CONSTANT] = lift
    values[token_id(END_THINK), _ENDED] = _ONCE
    return values


def bfloat16_bits(values: Array) -> npt.NDArray[np.uint16]:
    """The upper halves of float32 numbers, rounded to the nearest, ties to even."""
    bits = values.astype("<f4").view("<u4").astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")


def write_safetensors(shape: Shape, path: Path) -> None:
    """All tensors of ``shape`` in one file: bfloat16, but float32 where a tensor is ``wide``."""
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    blobs: list[bytes] = []
    offset = 0
    for tensor, blob in _blobs(shape):
        header[tensor.name] = {
            "dtype": "F32" if tensor.wide else "BF16",
            "shape": list(tensor.shape),
            "data_offsets": [offset, offset + len(blob)],
        }
        blobs.append(blob)
        offset += len(blob)
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % 8)
    path.write_bytes(len(head).to_bytes(8, "little") + head + b"".join(blobs))


def filled(shape: Shape) -> Iterable[tuple[Tensor, Array]]:
    """Every tensor of ``shape`` with its numbers, before they are rounded to its type."""
    for seed, tensor in enumerate(sorted(shape.tensors, key=lambda t: (not t.wide, t.name))):
        yield tensor, _fill(tensor, seed, shape.end_think_lift)


def _blobs(shape: Shape) -> Iterable[tuple[Tensor, bytes]]:
    for tensor, values in filled(shape):
        yield tensor, (values.astype("<f4") if tensor.wide else bfloat16_bits(values)).tobytes()
