"""Does each engine's own parser accept our command lines?

For every engine below this plans a server for every accelerator and every model of two tables, and
gives the command of each plan to the parser of the real package, in an environment of its own.
Nothing is started, and no device is needed. Run it with ``make contracts``, or by hand::

    LLMPERF_CONTRACT_SGLANG=/path/to/python python tests/contracts/parsers.py

One variable names the interpreter of each engine: ``LLMPERF_CONTRACT_SGLANG``, ``_VLLM``,
``_LMDEPLOY``, ``_TENSORRT_LLM``. An engine without one is left out, and said to be. A package may
be installed without what it depends on (``pip install --no-deps``): what its parser imports besides
is then replaced by stand-ins. Of TensorRT-LLM, whose package is a few gigabytes, its source will
do: ``LLMPERF_CONTRACT_SOURCE`` names a checkout that has ``tensorrt_llm/commands/serve.py``, and
``LLMPERF_CONTRACT_VERSION`` its version; then the interpreter needs click, pyyaml and strenum only.

Exits with 1 if a command was refused or a parser could not be had, with 2 if no engine was named.
With ``-v`` every command is shown; words after it name the engines to check.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pytest_llmperf.engines import resolve
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import Accelerator, Device, ModelSize, Placement, ServerRequest, Vendor

PROBE = Path(__file__).with_name("probe.py")
GIB = 1 << 30
#: The word of a plan's command that the parser's own words come after.
PROGRAMS = {
    "sglang": "sglang.launch_server",
    "vllm": "vllm.entrypoints.cli.main",
    "lmdeploy": "lmdeploy",
    "tensorrt-llm": "tensorrt_llm.commands.serve",
}
_TIMEOUT_S = 600

ACCELERATORS: tuple[tuple[Vendor, str, int, int], ...] = (
    ("nvidia", "NVIDIA H200", 8, 141),
    ("nvidia", "NVIDIA H100 80GB HBM3", 8, 80),
    ("nvidia", "NVIDIA H800", 8, 80),
    ("nvidia", "NVIDIA B200", 8, 180),
    ("nvidia", "NVIDIA B200", 4, 180),
    ("nvidia", "NVIDIA GeForce RTX 4080 SUPER", 1, 16),
    ("nvidia", "NVIDIA GeForce RTX 4090", 2, 24),
    ("nvidia", "NVIDIA GeForce RTX 5090", 1, 32),
    ("amd", "AMD Instinct MI300X", 8, 192),
    ("amd", "AMD Instinct MI325X", 8, 256),
    ("amd", "AMD Radeon RX 7900 XTX", 1, 24),
    ("ascend", "Ascend 910B3", 8, 64),
    ("ascend", "Ascend 910C", 16, 64),
    ("intel", "Intel Data Center GPU Max 1550", 1, 128),
    ("cpu", "Some processor", 1, 64),
)
#: With its size a model's tensors are spread, without it is left where it is.
SIZE = ModelSize(
    name="DeepSeek-R1-Distill-Llama-70B",
    parameters=70_600_000_000,
    weight_bytes=141_000_000_000,
    dtype="bfloat16",
    heads=64,
    kv_heads=8,
    cache_bytes=327_680,
)
MODELS: tuple[tuple[str, ModelSize | None], ...] = (
    ("deepseek-ai/DeepSeek-R1-0528", None),
    ("deepseek-ai/DeepSeek-R1", None),
    ("nvidia/DeepSeek-R1-0528-FP4-v2", None),
    ("/models/DeepSeek-R1-0528-w8a8", None),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", None),
    ("deepseek-ai/DeepSeek-R1-Distill-Qwen-32B", None),
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-8B", None),
    ("deepseek-ai/DeepSeek-R1-Distill-Llama-70B", SIZE),
    ("Qwen/Qwen2.5-7B-Instruct", None),
    ("tiny-r1", None),
    ("tiny-r1-distill-qwen", None),
)


@dataclass(frozen=True, slots=True)
class Command:
    """A command of ours: what it is for, the parser's words of it, and the recipe in it."""

    label: str
    words: tuple[str, ...]
    recipe: str | None


def placement(model: str, size: ModelSize | None, row: tuple[Vendor, str, int, int]) -> Placement:
    """A place on such an accelerator."""
    vendor, product, count, memory = row
    devices = tuple(
        Device(
            vendor=vendor,
            product=product,
            index=number,
            uuid=f"device-{number}",
            memory_bytes=memory * GIB,
        )
        for number in range(count)
    )
    return Placement(
        host="127.0.0.1",
        port=30000,
        accelerator=Accelerator(devices=devices, source="override"),
        model_path=f"/models/{model}" if model.startswith("tiny") else model,
        served_name=model,
        python="python",
        cores=(0, 1) if vendor == "cpu" else None,
        scratch=Path("/tmp/llmperf"),  # noqa: S108 - only a word of the command
        size=size,
    )


def commands(engine: str) -> Iterator[Command | str]:
    """Every command of ``engine``, or why there is none, in words."""
    planner = resolve(engine)
    for row in ACCELERATORS:
        for model, size in MODELS:
            label = f"{model} on {row[2]}x {row[1]}"
            request = ServerRequest(engine=engine, model=model)
            try:
                plan = planner.plan(request, placement(model, size, row))
            except UsageMistake as mistake:
                yield f"{label}: {mistake}"
                continue
            yield Command(label, _words(engine, plan.argv), plan.recipe)


def _words(engine: str, argv: Sequence[str]) -> tuple[str, ...]:
    """What the parser gets: all after the program, which may be a stand-in of ours for it."""
    if PROGRAMS[engine] in argv:
        return tuple(argv[argv.index(PROGRAMS[engine]) + 1 :])
    return tuple(argv[argv.index("-m") + 2 :])


def ask(engine: str, python: str, given: Sequence[Command]) -> tuple[str, str, list[str | None]]:
    """Version of the package, how its parser was had, and for each command why it was refused.

    Raises CalledProcessError where the parser cannot be had.
    """
    with tempfile.TemporaryDirectory() as place:
        answer = Path(place, "answer.json")
        subprocess.run(
            [_absolute(python), str(PROBE), engine, str(answer)],
            input=json.dumps([command.words for command in given]),
            text=True,
            check=True,
            timeout=_TIMEOUT_S,
            capture_output=True,
            cwd=place,
            env={**os.environ, "OMP_NUM_THREADS": "1", "SGLANG_USE_CPU_ENGINE": "1"},
        )
        found = json.loads(answer.read_text(encoding="utf-8"))
    return found["version"], found["how"], found["refusals"]


def _absolute(python: str) -> str:
    """A path that holds in another directory; links stay, for an environment is known by them."""
    return str(Path(python).absolute()) if os.sep in python else python


def check(engine: str, python: str, *, verbose: bool) -> bool:
    """Print what came of it; whether all was accepted."""
    found = list(commands(engine))
    none = [each for each in found if isinstance(each, str)]
    different: dict[tuple[str, ...], Command] = {}
    for each in found:
        if isinstance(each, Command):
            different.setdefault(each.words, each)
    given = list(different.values())
    try:
        version, how, refusals = ask(engine, python, given)
    except subprocess.CalledProcessError as error:
        print(f"{engine}: its parser cannot be had from {python}")
        print("\n".join(error.stderr.splitlines()[-8:]))
        return False
    accepted = refusals.count(None)
    recipes = {each.recipe for each in given if each.recipe}
    print(
        f"{engine} {version}: {accepted} of {len(given)} different commands accepted, "
        f"{len(recipes)} recipes among them ({how})"
    )
    for command, refusal in zip(given, refusals, strict=True):
        if refusal is not None or verbose:
            print(f"  {'REFUSED' if refusal else 'accepted'}: {command.label}")
            print(f"    {' '.join(command.words)}")
        if refusal is not None:
            print(f"    {refusal}")
    if verbose:
        print("".join(f"  no plan: {each}\n" for each in none), end="")
    return bool(given) and accepted == len(given)


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("engines", nargs="*", default=list(PROGRAMS), metavar="ENGINE")
    args = parser.parse_args()
    asked, good = 0, True
    for engine in args.engines:
        variable = f"LLMPERF_CONTRACT_{engine.upper().replace('-', '_')}"
        python = os.environ.get(variable)
        if not python:
            print(f"{engine}: left out, {variable} names no interpreter")
            continue
        asked += 1
        good = check(engine, python, verbose=args.verbose) and good
    if not asked:
        return 2
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
