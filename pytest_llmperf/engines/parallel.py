"""How many devices a command line spreads a server over, read off its arguments: data per engine.

The flags and how they multiply are those of the engines' own parsers: SGLang 0.5.23
(``srt/arg_groups/fields/parallel.py``, ``srt/managers/data_parallel_controller.py``), vLLM 0.32
(``vllm/config/parallel.py``), LMDeploy 0.16 (``pytorch/config.py``, ``turbomind/
parallel_config.py``), TensorRT-LLM 1.2 (``commands/serve.py``).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise, zip_longest
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from pytest_llmperf.errors import UsageMistake

from .arguments import begins

#: Sizes by their short names; what a command line does not name is not in it.
Sizes = Mapping[str, int]
#: How the names of files begin that we write for a server; they hold no sizes.
OWN_FILE = "pytest-llmperf-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parallel:
    """How a server is spread over devices.

    ``devices`` are all that it uses, over all of its ``nodes``. ``sizes`` are those above 1 by
    their short names, such as ``{"tp": 8, "dp": 2}``. ``first`` and ``step`` say which of the
    visible devices it takes where its command line does; ``placed`` is whether it does.
    """

    devices: int = 1
    nodes: int = 1
    sizes: Sizes = field(default_factory=dict)
    first: int = 0
    step: int = 1
    placed: bool = False

    @property
    def here(self) -> int:
        """Devices of one node."""
        return math.ceil(self.devices / self.nodes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """What an engine calls its sizes, and how many devices they make.

    ``flags`` are the spellings of each size, without distinction of "-" and "_". ``switches`` are
    flags without a value, or flags with one ("--a=b"), that count as 1 where they stand.
    ``elsewhere`` are flags that name a file which may hold sizes too: with one of them nothing is
    known, unless the file is our own. ``numbers`` is a flag that names the devices themselves, a
    list for each instance. Where ``abbreviated``, the beginning of a flag stands for the whole;
    where ``sections``, a flag may have its section before it. With ``unclear`` sizes nobody knows
    which devices are this machine's.
    """

    flags: Mapping[str, tuple[str, ...]]
    world: Callable[[Sizes], int]
    switches: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    unclear: Callable[[Sizes], bool] = lambda _: False
    numbers: str | None = None
    abbreviated: bool = False
    sections: bool = False


def _product(sizes: Sizes, *names: str) -> int:
    return math.prod(sizes.get(name, 1) for name in names)


def _sglang(sizes: Sizes) -> int:
    # Attention's data parallelism divides the tensor-parallel group; replicas multiply it.
    inside = "dp_attention" in sizes
    return _product(sizes, "tp", "pp") * (1 if inside else sizes.get("dp", 1))


def _vllm(sizes: Sizes) -> int:
    replicas = 1 if "dp_rank" in sizes else sizes.get("dp", 1)
    return _product(sizes, "tp", "pp", "pcp") * replicas


def _lmdeploy(sizes: Sizes) -> int:
    """PyTorch's engine divides by ``dp``; TurboMind, which alone knows ``cp``, multiplies."""
    if "turbomind" not in sizes:
        return sizes.get("ep", 1) if sizes.get("ep", 1) > 1 else sizes.get("tp", 1)
    return _product(sizes, "dp", "tp") * math.gcd(sizes.get("cp", 1), sizes.get("ep", 1))


def _lmdeploy_unclear(sizes: Sizes) -> bool:
    """Which of its backends it takes by itself depends on the model."""
    named = "turbomind" in sizes or "pytorch" in sizes
    return not named and _product(sizes, "dp", "ep", "cp") > 1


def _elsewhere_too(sizes: Sizes) -> bool:
    """Whether some of the devices may be other machines', as Ray or the user deals them out."""
    return "ray" in sizes or "dp_local" in sizes


_NODES = ("--nnodes",)

#: By the names that tests use. An engine that is not here uses every device it sees.
SPREADS: Mapping[str, Spread] = MappingProxyType(
    {
        "sglang": Spread(
            flags={
                "tp": ("--tp-size", "--tensor-parallel-size", "--tp"),
                "dp": ("--dp-size", "--data-parallel-size", "--dp"),
                "pp": ("--pp-size", "--pipeline-parallel-size", "--pp"),
                "ep": ("--ep-size", "--expert-parallel-size", "--ep"),
                "attn_dp": ("--attn-dp-size", "--attention-data-parallel-size"),
                "nodes": _NODES,
                "first": ("--base-gpu-id",),
                "step": ("--gpu-id-step",),
            },
            switches={"--enable-dp-attention": "dp_attention", "--use-ray": "ray"},
            world=_sglang,
            elsewhere=("--config",),
            unclear=_elsewhere_too,
            abbreviated=True,
        ),
        "vllm": Spread(
            flags={
                "tp": ("--tensor-parallel-size", "-tp"),
                "pp": ("--pipeline-parallel-size", "-pp"),
                "pcp": ("--prefill-context-parallel-size", "-pcp"),
                "dp": ("--data-parallel-size", "-dp"),
                "dp_rank": ("--data-parallel-rank", "-dpn"),
                "dp_local": ("--data-parallel-size-local", "-dpl"),
                "nodes": (*_NODES, "-n"),
            },
            switches={
                "--distributed-executor-backend=ray": "ray",
                "--data-parallel-backend=ray": "ray",
            },
            world=_vllm,
            elsewhere=("--config",),
            unclear=_elsewhere_too,
            abbreviated=True,
        ),
        "lmdeploy": Spread(
            flags={
                "tp": ("--tp",),
                "dp": ("--dp",),
                "ep": ("--ep",),
                "cp": ("--cp",),
                "nodes": _NODES,
            },
            switches={"--backend=turbomind": "turbomind", "--backend=pytorch": "pytorch"},
            world=_lmdeploy,
            unclear=_lmdeploy_unclear,
            abbreviated=True,
        ),
        "tensorrt-llm": Spread(
            flags={
                "tp": ("--tp-size", "--tensor-parallel-size"),
                "pp": ("--pp-size", "--pipeline-parallel-size"),
                "cp": ("--cp-size", "--context-parallel-size"),
                "ep": ("--ep-size", "--moe-expert-parallel-size"),
            },
            world=lambda sizes: _product(sizes, "tp", "pp", "cp"),
            elsewhere=("--extra-llm-api-options", "--config"),
        ),
        "mindie": Spread(
            flags={"tp": ("--worldSize",)},
            world=lambda sizes: _product(sizes, "tp"),
            numbers="--npuDeviceIds",
            sections=True,
        ),
    }
)
#: Named by flags too, but no way in which a server is spread.
_NO_SIZES = frozenset({"nodes", "first", "step", "dp_rank", "dp_attention", "turbomind", "pytorch"})


def parallel_of(engine: str, words: Sequence[str]) -> Parallel | None:
    """What the command line ``words`` of ``engine`` says; ``None`` where it cannot tell.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` for a size that is no number of devices.
    """
    spread = SPREADS.get(engine)
    if spread is None:
        return None
    said = [(_meant(spread, flag), value) for flag, value in _said(words)]
    if any(flag in spread.elsewhere and not _is_own(value) for flag, value in said):
        return None
    numbers = [value for flag, value in said if flag == spread.numbers]
    if numbers:
        return _by_numbers(numbers[-1])
    sizes = dict(_sizes(spread, said))
    if spread.unclear(sizes):
        return None
    nodes = sizes.get("nodes", 1)
    return Parallel(
        devices=spread.world(sizes),
        nodes=nodes,
        sizes={n: size for n, size in sizes.items() if n not in _NO_SIZES and size > 1},
        first=sizes.get("first", 0),
        step=sizes.get("step", 1),
        placed="first" in sizes or "step" in sizes,
    )


def _said(words: Sequence[str]) -> list[tuple[str, str]]:
    """Each word as a flag, with its value or the word after it."""
    pairs = []
    for word, after in zip_longest(words, words[1:], fillvalue=""):
        name, assigned, value = word.partition("=")
        plain = name.replace("_", "-") if name.startswith("-") else name
        pairs.append((plain, value if assigned else after))
    return pairs


def _meant(spread: Spread, flag: str) -> str:
    """The whole of a flag that is the beginning of one alone, or has its section before it."""
    if spread.sections and flag.startswith("--"):
        return f"--{flag.removeprefix('--').rpartition('.')[2]}"
    switches = (name.partition("=")[0] for name in spread.switches)
    known = {*(name for names in spread.flags.values() for name in names), *switches}
    whole = [name for name in (*known, *spread.elsewhere) if begins(flag, name)]
    return whole[0] if spread.abbreviated and flag not in known and len(whole) == 1 else flag


def _is_own(path: str) -> bool:
    return PurePath(path).name.startswith(OWN_FILE)


def _by_numbers(text: str) -> Parallel | None:
    """Devices by their numbers; ``None`` where they do not lie at equal distances."""
    try:
        lists: Any = json.loads(text)
    except ValueError:
        return None
    if not isinstance(lists, list) or not all(isinstance(each, list) for each in lists):
        return None
    numbers = [number for each in lists for number in each]
    if not numbers or not all(type(number) is int and number >= 0 for number in numbers):
        return None
    steps = {after - before for before, after in pairwise(numbers)} or {1}
    if len(steps) > 1 or min(steps) < 1:
        return None
    each = len(lists[0])
    return Parallel(
        devices=len(numbers),
        sizes={"tp": each} if each > 1 else {},
        first=numbers[0],
        step=steps.pop(),
        placed=True,
    )


def _sizes(spread: Spread, said: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """Name and size of each flag; of one that stands twice the last counts, as in argparse."""
    names = {flag: size for size, flags in spread.flags.items() for flag in flags}
    found = []
    for flag, value in said:
        switch = spread.switches.get(flag) or spread.switches.get(f"{flag}={value}")
        if switch:
            found.append((switch, 1))
        elif flag in names:
            least = 0 if names[flag] in ("first", "dp_rank") else 1
            found.append((names[flag], _number(flag, value, least)))
    return found


def _number(flag: str, value: str, least: int) -> int:
    if value.isdecimal() and int(value) >= least:
        return int(value)
    raise UsageMistake(
        f"{flag} {value!r} in args= of llm_server: expected a whole number of at least {least}."
    )
