"""Writes a tiny model of :mod:`pytest_llmperf.models` (Qwen2's shape) as the file llama.cpp loads.

The vocabulary is filled up with ids that stand for nothing and are never said, because llama.cpp's
own client draws its prompts from ids up to 10,000.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VOCABULARY = 10_240
_ALIGNMENT = 32
_TYPES = {bool: 7, int: 4, float: 6, str: 8}  # unsigned 32 bits, and floats of 32
_ARRAY, _SIGNED = 9, 5
_NORMAL, _CONTROL, _USER_DEFINED, _UNUSED = 1, 3, 4, 5
_F32, _F16 = 0, 1
_NAMES = {
    "lm_head.": "output.",
    "model.embed_tokens.": "token_embd.",
    "model.norm.": "output_norm.",
    "model.layers.": "blk.",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}

Array = npt.NDArray[np.float32]


def write_gguf(model: Path, target: Path) -> Path:
    """``target``, written from the checkpoint in the directory ``model``."""
    config, tokenizer, options = (
        json.loads((model / name).read_text())
        for name in ("config.json", "tokenizer.json", "tokenizer_config.json")
    )
    tensors = [(_renamed(name), _filled_up(name, data)) for name, data in _checkpoint(model)]
    about = {**_shape(config), **_tokenizer(tokenizer), **_template(config, options)}
    with target.open("wb") as file:
        file.write(b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(about)))
        file.write(b"".join(_text(key) + _value(value) for key, value in about.items()))
        file.write(_directory(tensors))
        for _, data in tensors:
            file.write(b"\0" * (-file.tell() % _ALIGNMENT) + _bytes(data))
    return target


def _checkpoint(model: Path) -> list[tuple[str, Array]]:
    raw = (model / "model.safetensors").read_bytes()
    begin = 8 + struct.unpack("<Q", raw[:8])[0]
    found = []
    for name, about in json.loads(raw[8:begin]).items():
        if name != "__metadata__":
            first, last = (begin + at for at in about["data_offsets"])
            halves = np.frombuffer(raw[first:last], "<u2").astype("<u4") << 16  # bfloat16
            found.append((name, halves.view("<f4").reshape(about["shape"])))
    return found


def _renamed(name: str) -> str:
    for theirs, ours in _NAMES.items():
        name = name.replace(theirs, ours)
    return name


def _filled_up(name: str, data: Array) -> Array:
    """Rows for the ids that stand for nothing are those of the first id, which is never said."""
    if not name.startswith(("lm_head.", "model.embed_tokens.")):
        return data
    return np.concatenate([data, np.repeat(data[:1], VOCABULARY - len(data), axis=0)])


def _shape(config: Mapping[str, Any]) -> dict[str, object]:
    heads = config["num_attention_heads"]
    return {
        "general.architecture": "qwen2",
        "general.name": "tiny-r1-distill-qwen",
        "qwen2.block_count": config["num_hidden_layers"],
        "qwen2.context_length": config["max_position_embeddings"],
        "qwen2.embedding_length": config["hidden_size"],
        "qwen2.feed_forward_length": config["intermediate_size"],
        "qwen2.attention.head_count": heads,
        "qwen2.attention.head_count_kv": config["num_key_value_heads"],
        "qwen2.attention.layer_norm_rms_epsilon": float(config["rms_norm_eps"]),
        "qwen2.rope.freq_base": float(config["rope_theta"]),
    }


def _tokenizer(tokenizer: Mapping[str, Any]) -> dict[str, object]:
    model = tokenizer["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    kinds = [_NORMAL] * len(tokens) + [_UNUSED] * (VOCABULARY - len(tokens))
    for added in tokenizer["added_tokens"]:
        kinds[added["id"]] = _CONTROL if added["special"] else _USER_DEFINED
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": [*tokens, *(f"<{n}>" for n in range(len(tokens), VOCABULARY))],
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": model["merges"],
    }


def _template(config: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, object]:
    return {
        "tokenizer.ggml.bos_token_id": config["bos_token_id"],
        "tokenizer.ggml.eos_token_id": config["eos_token_id"],
        "tokenizer.ggml.add_bos_token": bool(options["add_bos_token"]),
        "tokenizer.chat_template": options["chat_template"],
    }


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: object) -> bytes:
    if isinstance(value, list):
        kind = _TYPES[str] if isinstance(value[0], str) else _SIGNED
        return struct.pack("<IIQ", _ARRAY, kind, len(value)) + b"".join(map(_bare, value))
    return struct.pack("<I", _TYPES[type(value)]) + _bare(value)


def _bare(value: object) -> bytes:
    match value:
        case str():
            return _text(value)
        case bool():
            return struct.pack("<?", value)
        case float():
            return struct.pack("<f", value)
        case _:
            return struct.pack("<I", value)


def _directory(tensors: Sequence[tuple[str, Array]]) -> bytes:
    entries, at = [], 0
    for name, data in tensors:
        sizes = data.shape[::-1]
        kind = _F16 if data.ndim > 1 else _F32
        entries.append(_text(name) + struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes))
        entries.append(struct.pack("<IQ", kind, at))
        at += -(-len(_bytes(data)) // _ALIGNMENT) * _ALIGNMENT
    return b"".join(entries)


def _bytes(data: Array) -> bytes:
    """Matrices in 16 bits, vectors in 32, as llama.cpp wants them."""
    return data.astype("<f2" if data.ndim > 1 else "<f4").tobytes()
