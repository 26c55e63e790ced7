"""Whether a model fits the memory of the devices it is to run on, asked before anything is fetched.

Only what cannot be is refused: the weights and the smallest useful cache against all the memory of
the devices that a copy of the model is spread over. Nothing is said where the model, its memory or
the flags are not fully known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from pytest_llmperf.engines.arguments import given
from pytest_llmperf.engines.parallel import Parallel, parallel_of
from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics.units import format_number
from pytest_llmperf.records import Accelerator, ModelSize

#: Engines that keep all weights on the devices; others can leave a part elsewhere by themselves.
ENGINES = frozenset({"sglang", "vllm", "lmdeploy", "tensorrt-llm"})
#: Never free for weights: what a driver and its context take.
_USABLE = 0.98
#: A prompt and an answer of one request; with less there is nothing to measure.
_LEAST_TOKENS = 2048
#: Machines with so many devices come in groups.
_WHOLE_NODE = 8
#: Graphics that share the host's memory report only what is set aside for them.
_DEDICATED = re.compile(r"\b(?:RX|MI\d+\w*|W\d{4}|R9700|Instinct)\b", re.IGNORECASE)

#: Bits a weight may come down to, by flags that change how weights are held.
_QUANTISING = frozenset({"--quantization", "-q", "--model-format", "--modelopt-quant"})
_EIGHT_BITS = re.compile(r"(?:mx|w8a8_|modelopt_)?fp8|w8a8_int8|mlx_q8|auto-round-int8|int8")
#: With one of these the memory is the user's own business.
_OWN_BUSINESS = frozenset(
    {
        "--mem-fraction-static",
        "--gpu-memory-utilization",
        "--cache-max-entry-count",
        "--cpu-offload-gb",
        "--offload-group-size",
        "--offload-backend",
        "--kv-offloading-size",
    }
)
#: With one of these it is not known what will be loaded, and nothing is said at all.
_UNKNOWN = frozenset(
    {
        "--config",
        "--device",
        "--revision",
        "--json-model-override-args",
        "--hf-overrides",
        "--kt-weight-path",
        "--load-format",
        "--model-loader-extra-config",
        "--torchao-config",
        "--extra-llm-api-options",
    }
)


def check_fit(
    engine: str,
    words: Sequence[str],
    args: Sequence[str],
    *,
    size: ModelSize | None,
    accelerator: Accelerator,
) -> str | None:
    """``None`` where a model fits or that is not known; a note where it seems not to and the user
    has taken the matter in hand.

    ``words`` are the whole command line, ``args`` the user's part of it; ``accelerator`` are the
    devices of one node. Raises UsageMistake where it cannot fit.
    """
    if engine not in ENGINES or size is None or given(args) & _UNKNOWN:
        return None
    parallel, memory = parallel_of(engine, words), _memory(accelerator)
    if parallel is None or memory is None:
        return None
    copies = _devices_of_a_copy(parallel, size)
    needed = weights(size, args)
    if needed + _LEAST_TOKENS * size.cache_bytes <= _USABLE * memory * copies:
        return None
    told = _told(size, needed, accelerator, copies, memory)
    if given(args) & _OWN_BUSINESS:
        return f"{told}; args= say how to use memory, so it is tried all the same"
    raise UsageMistake(f"{told}: {_remedy(accelerator, parallel, needed, memory)}.")


def weights(size: ModelSize, args: Sequence[str]) -> float:
    """Bytes of the weights, at the least, under flags that quantise them."""
    methods = list(_values(args, _QUANTISING))
    if not methods:
        return float(size.weight_bytes)
    bits = 8 if _EIGHT_BITS.fullmatch(methods[-1].lower()) else 4
    return min(size.weight_bytes, size.parameters * bits / 8)


def _values(args: Sequence[str], flags: frozenset[str]) -> Iterable[str]:
    for word, after in zip(args, [*args[1:], ""], strict=False):
        name, assigned, value = word.partition("=")
        if name.replace("_", "-") in flags:
            yield value if assigned else after


def _memory(accelerator: Accelerator) -> int | None:
    """Bytes of each device, where all are known and their own."""
    shared = accelerator.vendor == "amd" and not _DEDICATED.search(accelerator.product)
    known = [device.memory_bytes or 0 for device in accelerator.devices]
    if shared or accelerator.vendor in ("intel", "remote"):
        return None
    return min(known) or None


def _devices_of_a_copy(parallel: Parallel, size: ModelSize) -> int:
    """Replicas hold everything; experts may be dealt out to all devices."""
    spread = parallel.sizes.get("tp", 1) * parallel.sizes.get("pp", 1)
    everywhere = spread * parallel.sizes.get("dp", 1)
    return (
        max(everywhere, parallel.devices, parallel.sizes.get("ep", 1)) if size.experts else spread
    )


def _told(
    size: ModelSize, needed: float, accelerator: Accelerator, devices: int, memory: int
) -> str:
    dtype = size.dtype if needed == size.weight_bytes else "the format asked for"
    name = size.name.rpartition("/")[2]
    have = f"{_gib(memory * devices)} GiB"
    what = f"{accelerator.product} has {have}"
    if accelerator.vendor == "cpu":
        what = f"this machine has {have}"
    elif devices > 1:
        what = f"{devices} × {accelerator.product} have {have}"
    hardly = " and something for the driver" if needed < memory * devices else ""
    amount = f"{format_number(needed / 1e9, digits=3)} GB"
    if hardly:
        amount += f" ({_gib(needed)} GiB)"
    return f"{name} needs about {amount} for its weights in {dtype}{hardly}, and {what}"


def _remedy(accelerator: Accelerator, parallel: Parallel, needed: float, memory: int) -> str:
    ways = ["a smaller or quantised model"]
    if accelerator.vendor != "cpu":
        ways.append("more devices (--tp)")
        here, nodes = len(accelerator.devices), 2 * max(parallel.nodes, accelerator.nodes)
        if here >= _WHOLE_NODE and needed <= _USABLE * memory * here * nodes:
            ways.append(f"{nodes} such nodes (nodes={nodes}, that is --tp {here * nodes})")
    *first, last = ways
    return f"take {', '.join(first)}{', or ' if first else ''}{last}"


def _gib(amount: float) -> str:
    return format_number(amount / 2**30, digits=3)
