"""The GGUF file, taken apart by a reader of its own and held against the safetensors."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from pytest_llmperf.models import TINY_MODELS, gguf, materialize
from pytest_llmperf.models import vocabulary as v

Array = npt.NDArray[np.float32]


@dataclass
class File:
    """What a GGUF file of version 3 says, and its tensors as float32."""

    facts: dict[str, Any]
    tensors: dict[str, Array]


#: Forms of the types that are one value.
SINGLE = {4: "<I", 5: "<i", 6: "<f", 7: "<?"}


class Reader:
    """Reads little-endian values one after another."""

    def __init__(self, raw: bytes) -> None:
        self.raw, self.at = raw, 0

    def take(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.raw, self.at)
        self.at += struct.calcsize(form)
        return value

    def text(self) -> str:
        size = self.take("<Q")
        self.at += size
        return self.raw[self.at - size : self.at].decode()

    def value(self, kind: int) -> Any:
        if kind == 8:
            return self.text()
        if kind == 9:
            inner, count = self.take("<I"), self.take("<Q")
            return [self.value(inner) for _ in range(count)]
        return self.take(SINGLE[kind])


def read(path: Path) -> File:
    reader = Reader(path.read_bytes())
    assert reader.raw[:4] == b"GGUF"
    reader.at = 4
    assert reader.take("<I") == 3
    tensor_count, fact_count = reader.take("<Q"), reader.take("<Q")
    facts = {}
    for _ in range(fact_count):
        key = reader.text()
        facts[key] = reader.value(reader.take("<I"))
    infos = []
    for _ in range(tensor_count):
        name = reader.text()
        sizes = [reader.take("<Q") for _ in range(reader.take("<I"))]
        infos.append((name, sizes[::-1], reader.take("<I"), reader.take("<Q")))
    start = -(-reader.at // 32) * 32
    tensors = {name: numbers(reader.raw, start, *info) for name, *info in infos}
    return File(facts, tensors)


def numbers(raw: bytes, start: int, sizes: list[int], kind: int, offset: int) -> Array:
    assert offset % 32 == 0
    count = int(np.prod(sizes))
    if kind == 30:
        bits = np.frombuffer(raw, "<u2", count, start + offset)
        return widened(bits).reshape(sizes)
    assert kind == 0
    return np.frombuffer(raw, "<f4", count, start + offset).reshape(sizes)


def widened(bits: npt.NDArray[np.uint16]) -> Array:
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def safetensors(directory: Path) -> dict[str, Array]:
    raw = (directory / "model.safetensors").read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    found = {}
    for name, one in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + at for at in one["data_offsets"])
            wide = one["dtype"] == "F32"
            flat = np.frombuffer(raw[begin:end], "<f4" if wide else "<u2")
            found[name] = (flat if wide else widened(flat)).reshape(one["shape"])
    return found


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def both(name: str, cache: Path) -> tuple[File, dict[str, Array]]:
    return read(materialize(name, cache, "gguf")), safetensors(materialize(name, cache))


@pytest.mark.parametrize("name", TINY_MODELS)
def test_one_file_is_made_beside_the_directory_and_kept(name: str, cache: Path) -> None:
    file = materialize(name, cache, "gguf")
    assert file.is_file()
    assert file.name == f"{name}.gguf"
    written = file.stat().st_mtime_ns
    assert materialize(name, cache, "gguf") == file
    assert file.stat().st_mtime_ns == written
    assert materialize(name, cache).is_dir()


def test_it_is_the_same_file_on_every_machine(cache: Path) -> None:
    digests = {
        name: hashlib.sha256(materialize(name, cache, "gguf").read_bytes()).hexdigest()[:16]
        for name in TINY_MODELS
    }
    assert digests == DIGESTS, "raise GGUF_FORMAT where the bytes are meant to change"


@pytest.mark.parametrize("name", TINY_MODELS)
def test_all_numbers_are_those_of_the_safetensors(name: str, cache: Path) -> None:
    file, tensors = both(name, cache)
    ours = sorted(file.tensors)
    assert ours == sorted(set(ours))
    have = np.sort(np.concatenate([t.ravel() for n, t in file.tensors.items() if "rope" not in n]))
    want = np.sort(np.concatenate([t.ravel() for t in tensors.values()]))
    assert np.array_equal(have, want)


def test_qwen_is_laid_out_as_it_was(cache: Path) -> None:
    file, tensors = both("tiny-r1-distill-qwen", cache)
    for ours, theirs in {
        "token_embd.weight": "model.embed_tokens.weight",
        "output.weight": "lm_head.weight",
        "output_norm.weight": "model.norm.weight",
        "blk.1.attn_q.weight": "model.layers.1.self_attn.q_proj.weight",
        "blk.1.attn_k.bias": "model.layers.1.self_attn.k_proj.bias",
        "blk.0.attn_output.weight": "model.layers.0.self_attn.o_proj.weight",
        "blk.0.ffn_norm.weight": "model.layers.0.post_attention_layernorm.weight",
        "blk.0.ffn_down.weight": "model.layers.0.mlp.down_proj.weight",
    }.items():
        assert np.array_equal(file.tensors[ours], tensors[theirs])
    assert file.facts["general.architecture"] == "qwen2"
    assert file.facts["qwen2.rope.freq_base"] == 10000.0
    assert file.facts["qwen2.attention.head_count_kv"] == 2


def test_llamas_rotated_pairs_stand_side_by_side(cache: Path) -> None:
    file, tensors = both("tiny-r1-distill-llama", cache)
    ours = file.tensors["blk.0.attn_k.weight"].reshape(2, 32, 2, 256)
    theirs = tensors["model.layers.0.self_attn.k_proj.weight"].reshape(2, 2, 32, 256)
    assert np.array_equal(ours[:, :, 0], theirs[:, 0])
    assert np.array_equal(ours[:, :, 1], theirs[:, 1])
    values = tensors["model.layers.0.self_attn.v_proj.weight"]
    assert np.array_equal(file.tensors["blk.0.attn_v.weight"], values)


def test_llamas_frequencies_are_scaled(cache: Path) -> None:
    file, _ = both("tiny-r1-distill-llama", cache)
    factors = file.tensors["rope_freqs.weight"]
    assert factors.shape == (32,)
    assert (factors[0], factors[-1]) == (1.0, 8.0)
    between = factors[(factors > 1.0) & (factors < 8.0)]
    assert len(between)
    assert np.all(np.diff(factors) >= 0)


def test_r1s_latents_are_made_keys_and_values_apart(cache: Path) -> None:
    file, tensors = both("tiny-r1", cache)
    together = tensors["model.layers.2.self_attn.kv_b_proj.weight"].reshape(4, 256, 512)
    keys, values = (file.tensors[f"blk.2.attn_{part}_b.weight"] for part in "kv")
    assert np.array_equal(keys, together[:, :128].swapaxes(1, 2))
    assert np.array_equal(values, together[:, 128:])
    facts = {k.removeprefix("deepseek2."): value for k, value in file.facts.items()}
    assert facts["attention.head_count_kv"] == 1
    assert (facts["attention.key_length"], facts["attention.value_length"]) == (576, 512)
    assert (facts["attention.key_length_mla"], facts["attention.value_length_mla"]) == (192, 128)


def test_r1s_experts_stand_in_their_order(cache: Path) -> None:
    file, tensors = both("tiny-r1", cache)
    stacked = file.tensors["blk.1.ffn_up_exps.weight"]
    assert stacked.shape == (8, 128, 256)
    for number in range(8):
        one = tensors[f"model.layers.1.mlp.experts.{number}.up_proj.weight"]
        assert np.array_equal(stacked[number], one)
    assert "blk.0.ffn_up.weight" in file.tensors
    assert "blk.0.ffn_up_exps.weight" not in file.tensors
    assert file.facts["deepseek2.leading_dense_block_count"] == 1
    assert file.facts["deepseek2.expert_gating_func"] == 2


@pytest.mark.parametrize("name", TINY_MODELS)
def test_the_words_are_those_of_the_tokenizer(name: str, cache: Path) -> None:
    facts = read(materialize(name, cache, "gguf")).facts
    tokenizer = json.loads((materialize(name, cache) / "tokenizer.json").read_text())
    words = facts["tokenizer.ggml.tokens"]
    assert {word: number for number, word in enumerate(words)} == tokenizer["model"]["vocab"]
    assert facts["tokenizer.ggml.merges"] == tokenizer["model"]["merges"]
    kinds = facts["tokenizer.ggml.token_type"]
    added = {one["id"]: 3 if one["special"] else 4 for one in tokenizer["added_tokens"]}
    assert {at: kind for at, kind in enumerate(kinds) if kind != 1} == added
    assert words[facts["tokenizer.ggml.bos_token_id"]] == v.BOS
    assert words[facts["tokenizer.ggml.eos_token_id"]] == v.EOS
    assert facts["tokenizer.ggml.add_bos_token"] is True


@pytest.mark.parametrize(
    "messages",
    [
        [("user", "Hi")],
        [("system", "Be short."), ("user", "A"), ("assistant", "hmm</think>B"), ("user", "C")],
    ],
)
def test_conversations_read_the_same_in_both(messages: list[tuple[str, str]]) -> None:
    jinja2 = pytest.importorskip("jinja2")
    assert gguf.TEMPLATE != v.CHAT_TEMPLATE
    told = [{"role": role, "content": content} for role, content in messages]
    ours, theirs = (
        jinja2.Environment()
        .from_string(text)
        .render(messages=told, bos_token=v.BOS, eos_token=v.EOS, add_generation_prompt=True)
        for text in (gguf.TEMPLATE, v.CHAT_TEMPLATE)
    )
    assert ours == theirs


def test_llama_cpp_knows_by_the_template_that_it_thinks() -> None:
    assert "content.split('</think>')" in gguf.TEMPLATE
    assert "reasoning_content" not in gguf.TEMPLATE


def test_a_value_without_a_form_is_not_written() -> None:
    with pytest.raises(TypeError, match="GGUF has no form for None"):
        gguf._typed(None)


#: Beginnings of the files' SHA-256.
DIGESTS = {
    "tiny-r1": "1c508a791e67e7b1",
    "tiny-r1-distill-qwen": "d42bd9e14275cc1c",
    "tiny-r1-distill-llama": "20b4ae1665e01bf4",
}
