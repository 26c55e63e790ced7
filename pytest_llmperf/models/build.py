"""A tiny model as a directory on disk, complete or not there at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Json, WeightFormat

from . import TINY_MODELS, is_tiny
from .gguf import write_gguf
from .shapes import shape_of
from .vocabulary import BOS_ID, EOS_ID, tokenizer_config, tokenizer_json
from .weights import write_safetensors

#: Parts of the directories' names: raise one whenever a byte of any file in it would change.
FORMAT = 1
GGUF_FORMAT = 1


def build(name: str, cache_dir: Path, weights: WeightFormat) -> Path:
    """See :func:`pytest_llmperf.models.materialize`."""
    if not is_tiny(name):
        raise UsageMistake(f"{name!r} is not a tiny model; choose one of {', '.join(TINY_MODELS)}.")
    if weights == "gguf":
        return _published(name, cache_dir, f"-v{GGUF_FORMAT}-gguf", _write_gguf) / f"{name}.gguf"
    return _published(name, cache_dir, f"-v{FORMAT}", _write)


def _published(name: str, cache_dir: Path, suffix: str, write: Callable[[str, Path], None]) -> Path:
    target = cache_dir / f"{name}{suffix}"
    if target.is_dir():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=cache_dir))
    try:
        write(name, scratch)
        _publish(scratch, target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return target


def _publish(scratch: Path, target: Path) -> None:
    scratch.chmod(0o755)
    try:
        scratch.rename(target)
    except OSError:
        if not target.is_dir():  # else another process was first, with the same bytes
            raise


def _write_gguf(name: str, directory: Path) -> None:
    write_gguf(shape_of(name), directory / f"{name}.gguf")


def _write(name: str, directory: Path) -> None:
    shape = shape_of(name)
    _dump(shape.config, directory / "config.json")
    _dump(
        {
            "_from_model_config": True,
            "bos_token_id": BOS_ID,
            "eos_token_id": EOS_ID,
            "do_sample": True,
            "temperature": 0.6,
            "top_p": 0.95,
        },
        directory / "generation_config.json",
    )
    _dump(tokenizer_json(), directory / "tokenizer.json")
    _dump(
        tokenizer_config(shape.config["max_position_embeddings"]),
        directory / "tokenizer_config.json",
    )
    write_safetensors(shape, directory / "model.safetensors")


def _dump(value: dict[str, Json], path: Path) -> None:
    text = json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")
