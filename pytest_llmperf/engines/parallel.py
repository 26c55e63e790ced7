"""How many devices a command line spreads a server over, read off its arguments: data per engine.

The flags and how they multiply are those of the engines' own parsers: SGLang 0.5.23
(``srt/arg_groups/fields/parallel.py``, ``srt/managers/data_parallel_controller.py``), vLLM 0.32
(``vllm/config/parallel.py``), LMDeploy 0.16 (``pytorch/config.py``, ``turbomind/
parallel_config.py``), TensorRT-LLM 1.2 (``commands/serve.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from types import MappingProxyType

from pytest_llmperf.errors import UsageMistake

#: Sizes by their short names; what a command line does not name is not in it.
Sizes = Mapping[str, int]


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
    flags without a value that count as 1 where they stand. ``elsewhere`` are flags that name a file
    which may hold sizes too: with one of them nothing is known.
    """

    flags: Mapping[str, tuple[str, ...]]
    world: Callable[[Sizes], int]
    switches: Mapping[str, str] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()


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
            switches={"--enable-dp-attention": "dp_attention"},
            world=_sglang,
            elsewhere=("--config",),
        ),
        "vllm": Spread(
            flags={
                "tp": ("--tensor-parallel-size", "-tp"),
                "pp": ("--pipeline-parallel-size", "-pp"),
                "pcp": ("--prefill-context-parallel-size", "-pcp"),
                "dp": ("--data-parallel-size", "-dp"),
                "dp_rank": ("--data-parallel-rank", "-dpn"),
                "nodes": (*_NODES, "-n"),
            },
            world=_vllm,
            elsewhere=("--config",),
        ),
        "lmdeploy": Spread(
            flags={
                "tp": ("--tp",),
                "dp": ("--dp",),
                "ep": ("--ep",),
                "cp": ("--cp",),
                "nodes": _NODES,
            },
            switches={"turbomind": "turbomind"},
            world=_lmdeploy,
        ),
        "tensorrt-llm": Spread(
            flags={
                "tp": ("--tp-size", "--tensor-parallel-size"),
                "pp": ("--pp-size", "--pipeline-parallel-size"),
                "cp": ("--cp-size", "--context-parallel-size"),
                "ep": ("--ep-size", "--moe-expert-parallel-size"),
            },
            world=lambda sizes: _product(sizes, "tp", "pp", "cp"),
        ),
        "mindie": Spread(flags={"tp": ("--worldSize",)}, world=lambda sizes: _product(sizes, "tp")),
    }
)
#: Named by flags too, but no way in which a server is spread.
_NO_SIZES = frozenset({"nodes", "first", "step", "dp_rank", "dp_attention", "turbomind"})


def parallel_of(engine: str, words: Sequence[str]) -> Parallel | None:
    """What the command line ``words`` of ``engine`` says; ``None`` where it cannot tell.

    Raises :class:`~pytest_llmperf.errors.UsageMistake` for a size that is no number of devices.
    """
    spread = SPREADS.get(engine)
    if spread is None:
        return None
    said = list(_said(words))
    if any(name in spread.elsewhere for name, _ in said):
        return None
    sizes = dict(_sizes(spread, said))
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


def _sizes(spread: Spread, said: Sequence[tuple[str, str]]) -> list[tuple[str, int]]:
    """Name and size of each flag; of one that stands twice the last counts, as in argparse."""
    names = {flag: size for size, flags in spread.flags.items() for flag in flags}
    found = []
    for flag, value in said:
        if flag in spread.switches:
            found.append((spread.switches[flag], 1))
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
