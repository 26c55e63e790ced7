"""The same tiny models as one GGUF file, for llama.cpp.

Weights, words and chat template are those of the safetensors. Names, layouts and metadata are what
llama.cpp's own conversion makes of such checkpoints (``conversion/`` and ``gguf-py`` as of October
2026); the format is GGUF version 3, little-endian (``ggml/docs/gguf.md``).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pytest_llmperf.records import Json

from .shapes import Shape
from .vocabulary import (
    BOS_ID,
    CHAT_TEMPLATE,
    EOS_ID,
    PAD_ID,
    VOCAB_SIZE,
    is_added,
    is_hidden,
    merges,
    tokens,
)
from .weights import Array, bfloat16_bits, filled

_MAGIC, _VERSION, _ALIGNMENT = b"GGUF", 3, 32
_U32, _I32, _F32, _BOOL, _TEXT, _ARRAY = 4, 5, 6, 7, 8, 9
_TENSOR_F32, _TENSOR_BF16 = 0, 30
#: What ``general.file_type`` calls a model whose matrices are bfloat16.
_MOSTLY_BF16 = 32
_NORMAL, _CONTROL, _USER_DEFINED = 1, 3, 4
#: The same text, an earlier answer being told in R1's own words: by ``content.split`` llama.cpp
#: knows that a model thinks, and by an empty answer's place that nothing is put around the others
#: (``common/chat-diff-analyzer.cpp``). So it tells thoughts and answer apart, as it does for R1.
TEMPLATE = CHAT_TEMPLATE.replace(
    "and m['content'] -%}{{- '<｜Assistant｜>' + m['content'].split(",
    "and m['content'] is not none -%}{%- set content = m['content'] -%}"
    "{{- '<｜Assistant｜>' + content.split(",
)
#: Read by one thread in plain float, whatever the rest is.
_KEPT_WIDE = ("ffn_gate_inp.weight",)

_ARCHITECTURES = {"qwen2": "qwen2", "llama": "llama", "deepseek_v3": "deepseek2"}
_OUTSIDE = {
    "model.embed_tokens.weight": "token_embd.weight",
    "model.norm.weight": "output_norm.weight",
    "lm_head.weight": "output.weight",
}
_INSIDE = {
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_a_proj": "attn_q_a",
    "self_attn.q_a_layernorm": "attn_q_a_norm",
    "self_attn.q_b_proj": "attn_q_b",
    "self_attn.kv_a_proj_with_mqa": "attn_kv_a_mqa",
    "self_attn.kv_a_layernorm": "attn_kv_a_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.gate": "ffn_gate_inp",
    "mlp.shared_experts.gate_proj": "ffn_gate_shexp",
    "mlp.shared_experts.up_proj": "ffn_up_shexp",
    "mlp.shared_experts.down_proj": "ffn_down_shexp",
}
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias|e_score_correction_bias)")
_EXPERT = re.compile(r"mlp\.experts\.\d+\.(gate|up|down)_proj")


def write_gguf(shape: Shape, path: Path) -> None:
    """All tensors of ``shape`` with its vocabulary and template: matrices in bfloat16, the rest
    in float32."""
    facts = {**_model_facts(shape), **_vocabulary_facts()}
    head = [_MAGIC, struct.pack("<I", _VERSION)]
    blobs: list[bytes] = []
    infos: list[bytes] = []
    offset = 0
    for name, values in sorted(_tensors(shape).items()):
        kind, blob = _encoded(name, values)
        infos.append(_tensor_info(name, values.shape, kind, offset))
        blobs.append(blob + bytes(-len(blob) % _ALIGNMENT))
        offset += len(blobs[-1])
    head.append(struct.pack("<QQ", len(infos), len(facts)))
    head += [_text(key) + _typed(value) for key, value in facts.items()]
    start = b"".join([*head, *infos])
    path.write_bytes(start + bytes(-len(start) % _ALIGNMENT) + b"".join(blobs))


# --- metadata --------------------------------------------------------------------------------


def _model_facts(shape: Shape) -> dict[str, Json]:
    config = shape.config
    architecture = _ARCHITECTURES[str(config["model_type"])]
    facts: dict[str, Json] = {
        "block_count": config["num_hidden_layers"],
        "context_length": config["max_position_embeddings"],
        "embedding_length": config["hidden_size"],
        "feed_forward_length": config["intermediate_size"],
        "attention.head_count": config["num_attention_heads"],
        "attention.head_count_kv": config["num_key_value_heads"],
        "attention.layer_norm_rms_epsilon": config["rms_norm_eps"],
        "rope.freq_base": float(str(config["rope_theta"])),
        "vocab_size": VOCAB_SIZE,
    }
    facts |= _mla_facts(config) if architecture == "deepseek2" else _dense_facts(config)
    return {
        "general.architecture": architecture,
        "general.file_type": _MOSTLY_BF16,
        **{f"{architecture}.{name}": value for name, value in facts.items()},
    }


def _dense_facts(config: Mapping[str, Json]) -> dict[str, Json]:
    head = _whole(config["hidden_size"]) // _whole(config["num_attention_heads"])
    return {"rope.dimension_count": head}


def _mla_facts(config: Mapping[str, Json]) -> dict[str, Json]:
    """Latent attention is run as attention with one wide key and value head."""
    rank, rope = _whole(config["kv_lora_rank"]), _whole(config["qk_rope_head_dim"])
    scaling = config["rope_scaling"]
    assert isinstance(scaling, dict)  # noqa: S101 - as shapes.py writes it
    return {
        "attention.head_count_kv": 1,
        "attention.q_lora_rank": config["q_lora_rank"],
        "attention.kv_lora_rank": rank,
        "attention.key_length": rank + rope,
        "attention.value_length": rank,
        "attention.key_length_mla": _whole(config["qk_nope_head_dim"]) + rope,
        "attention.value_length_mla": config["v_head_dim"],
        "leading_dense_block_count": config["first_k_dense_replace"],
        "expert_count": config["n_routed_experts"],
        "expert_used_count": config["num_experts_per_tok"],
        "expert_shared_count": config["n_shared_experts"],
        "expert_group_count": config["n_group"],
        "expert_group_used_count": config["topk_group"],
        "expert_feed_forward_length": config["moe_intermediate_size"],
        "expert_weights_scale": config["routed_scaling_factor"],
        "expert_weights_norm": config["norm_topk_prob"],
        "expert_gating_func": 2,  # sigmoid
        "rope.dimension_count": rope,
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": float(_whole(scaling["factor"])),
        "rope.scaling.original_context_length": scaling["original_max_position_embeddings"],
        "rope.scaling.yarn_beta_fast": float(_whole(scaling["beta_fast"])),
        "rope.scaling.yarn_beta_slow": float(_whole(scaling["beta_slow"])),
        # A tenth, as the conversion has it for this architecture alone.
        "rope.scaling.yarn_log_multiplier": 0.1 * float(str(scaling["mscale_all_dim"])),
    }


def _vocabulary_facts() -> dict[str, Json]:
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": list(tokens()),
        "tokenizer.ggml.token_type": [_token_type(token) for token in tokens()],
        "tokenizer.ggml.merges": [f"{left} {right}" for left, right in merges()],
        "tokenizer.ggml.bos_token_id": BOS_ID,
        "tokenizer.ggml.eos_token_id": EOS_ID,
        "tokenizer.ggml.padding_token_id": PAD_ID,
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.ggml.add_eos_token": False,
        "tokenizer.chat_template": TEMPLATE,
    }


def _token_type(token: str) -> int:
    if is_hidden(token):
        return _CONTROL
    return _USER_DEFINED if is_added(token) else _NORMAL


def _whole(value: Json) -> int:
    assert isinstance(value, int)  # noqa: S101 - as shapes.py writes it
    return value


# --- tensors ---------------------------------------------------------------------------------


def _tensors(shape: Shape) -> dict[str, Array]:
    """Tensors by their names in GGUF, laid out as llama.cpp reads them."""
    found: dict[str, Array] = {}
    experts: dict[str, dict[str, Array]] = {}
    for tensor, values in filled(shape):
        layer = _LAYER.fullmatch(tensor.name)
        if layer is None:
            found[_OUTSIDE[tensor.name]] = values
        elif expert := _EXPERT.fullmatch(layer[2]):
            name = f"blk.{layer[1]}.ffn_{expert[1]}_exps.weight"
            experts.setdefault(name, {})[tensor.name] = values
        else:
            found |= _of_layer(shape, f"blk.{layer[1]}", layer[2], layer[3], values)
    for name, parts in experts.items():
        found[name] = np.stack([parts[key] for key in sorted(parts, key=_number_of_expert)])
    if shape.config["model_type"] == "llama":
        found["rope_freqs.weight"] = _rope_factors(shape.config)
    return found


def _number_of_expert(name: str) -> int:
    return int(name.split(".experts.")[1].partition(".")[0])


def _of_layer(shape: Shape, block: str, part: str, kind: str, values: Array) -> dict[str, Array]:
    if kind == "e_score_correction_bias":
        return {f"{block}.exp_probs_b.bias": values}
    if part == "self_attn.kv_b_proj":
        return _split_latent(shape.config, block, values)
    if shape.config["model_type"] == "llama" and part in ("self_attn.q_proj", "self_attn.k_proj"):
        name = "num_attention_heads" if "q_proj" in part else "num_key_value_heads"
        values = _interleaved(values, _whole(shape.config[name]))
    return {f"{block}.{_INSIDE[part]}.{kind}": values}


def _interleaved(values: Array, heads: int) -> Array:
    """Rotated pairs side by side, where the checkpoint has them half a head apart."""
    rows, columns = values.shape
    halves = values.reshape(heads, 2, rows // heads // 2, columns)
    return halves.swapaxes(1, 2).reshape(rows, columns)


def _split_latent(config: Mapping[str, Json], block: str, values: Array) -> dict[str, Array]:
    """What makes keys and values from the latents, apart, and the keys' part transposed."""
    nope = _whole(config["qk_nope_head_dim"])
    heads = values.reshape(_whole(config["num_attention_heads"]), -1, values.shape[1])
    return {
        f"{block}.attn_k_b.weight": heads[:, :nope].swapaxes(1, 2),
        f"{block}.attn_v_b.weight": heads[:, nope:],
    }


def _rope_factors(config: Mapping[str, Json]) -> Array:
    """Llama 3's scaling of the rotation's frequencies, one factor per pair."""
    scaling, width = config["rope_scaling"], _whole(config["head_dim"])
    assert isinstance(scaling, dict)  # noqa: S101 - as shapes.py writes it
    base = float(str(config["rope_theta"]))
    waves = [2 * math.pi * base ** (2 * pair / width) for pair in range(width // 2)]
    return np.array([_rope_factor(scaling, wave) for wave in waves], np.float32)


def _rope_factor(scaling: Mapping[str, Json], wave: float) -> float:
    names = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    factor, low, high, length = (float(str(scaling[name])) for name in names)
    if wave < length / high:
        return 1.0
    if wave > length / low:
        return factor
    smooth = (length / wave - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)


# --- bytes -----------------------------------------------------------------------------------


def _encoded(name: str, values: Array) -> tuple[int, bytes]:
    """The tensor's type and its bytes; every number is one that bfloat16 can hold, but for those
    that the checkpoint keeps wider too."""
    if name.endswith((".exp_probs_b.bias", "rope_freqs.weight")):
        return _TENSOR_F32, values.astype("<f4").tobytes()
    bits = bfloat16_bits(np.ascontiguousarray(values))
    if values.ndim == 1 or name.endswith(_KEPT_WIDE):
        return _TENSOR_F32, _widened(bits).tobytes()
    return _TENSOR_BF16, bits.tobytes()


def _widened(bits: npt.NDArray[np.uint16]) -> Array:
    return (bits.astype("<u4") << np.uint32(16)).view("<f4")


def _tensor_info(name: str, shape: tuple[int, ...], kind: int, offset: int) -> bytes:
    sizes = [struct.pack("<Q", size) for size in reversed(shape)]
    count = struct.pack("<I", len(shape))
    return b"".join([_text(name), count, *sizes, struct.pack("<IQ", kind, offset)])


def _text(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _typed(value: Json) -> bytes:
    """A value of the metadata with its type before it."""
    match value:
        case bool():
            return struct.pack("<I?", _BOOL, value)
        case int():
            return struct.pack("<II", _U32, value)
        case float():
            return struct.pack("<If", _F32, value)
        case str():
            return struct.pack("<I", _TEXT) + _text(value)
        case list():
            return b"".join(_items(value))
        case _:
            raise TypeError(f"GGUF has no form for {value!r}")


def _items(values: list[Json]) -> Iterator[bytes]:
    kind = _TEXT if isinstance(values[0], str) else _I32
    yield struct.pack("<IIQ", _ARRAY, kind, len(values))
    for value in values:
        yield _text(value) if isinstance(value, str) else struct.pack("<i", _whole(value))
