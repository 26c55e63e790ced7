"""The recipe for a model on an accelerator: the first row that fits, under what the user gave.

It leaves out whatever the user says, whatever that excludes, and how tensors are spread where the
user says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from pytest_llmperf.records import Accelerator, ModelSize, Placement, ServerRequest

from .arguments import Flag
from .cookbook import Recipe, Row
from .naming import recipe_model
from .other_recipes import COOKBOOKS
from .parallel import Parallel, parallel_of
from .sglang_recipes import SGLANG

#: A model that takes less of a device's memory stays on one.
_ROOMY = 0.7

_R1 = r"deepseek-r1(?:-0528|-zero)?"
#: Kinds of models that have recipes, by the last part of their name.
_KINDS: Mapping[str, re.Pattern[str]] = {
    "r1": re.compile(_R1),
    "r1-fp4": re.compile(_R1 + r"-(?:nv)?fp4(?:-v\d+)?"),
    "r1-modelslim": re.compile(_R1 + r"[-_].*w[48]a8.*"),
    "distill": re.compile(r"deepseek-r1-distill-(?:qwen|llama)-[\d.]+b|deepseek-r1-0528-qwen3-8b"),
    "tiny": re.compile(r"tiny-r1.*"),
}


def _usable(accelerator: Accelerator, parallel: Parallel | None) -> int:
    """Devices of one node that are left where the user says with which to begin."""
    if parallel is None:
        return len(accelerator.devices)
    return max(1, len(range(parallel.first, len(accelerator.devices), parallel.step)))


def recipe_for(
    engine: str,
    model: str,
    accelerator: Accelerator,
    *,
    size: ModelSize | None = None,
    args: Sequence[str] = (),
) -> Recipe | None:
    """The recipe of ``engine`` for ``model``, by a name or a path; ``None`` where there is nothing
    to add to the engine's own choices.

    ``args`` are the user's: none of them is said again or contradicted.
    """
    book = SGLANG if engine == "sglang" else COOKBOOKS.get(engine)
    if book is None:
        return None
    parallel = parallel_of(engine, args)
    asked = dict(parallel.sizes) if parallel else {}
    nodes = max(accelerator.nodes, parallel.nodes if parallel else 1)
    kind, devices = kind_of(model, size), nodes * _usable(accelerator, parallel)
    row = next((row for row in book.rows if row.fits(kind, accelerator, devices)), None)
    inside = _is_said("--enable-dp-attention", args, frozenset())
    free = devices // (asked.get("pp", 1) * (1 if inside else asked.get("dp", 1)))
    tp = asked.get("tp") or _tp(row, kind, accelerator, size, max(1, free))
    spreading: list[Flag] = [(book.tp, str(tp))] if book.tp and tp > 1 else []
    flags = tuple(
        flag
        for flag in (*spreading, *(row.flags if row else ()))
        if not _is_said(flag[0], args, book.displaced.get(flag[0], frozenset()))
    )
    env = row.env if row else ()
    if not flags and not env and (tp == 1 or "tp" in asked or book.tp):
        return None
    return Recipe(
        name=row.name if row else f"{tp} devices",
        flags=flags,
        env=env,
        source=row.source if row else "spread as far as its heads divide",
        tp=tp,
    )


def kind_of(model: str, size: ModelSize | None = None) -> str:
    """The kind of recipes that ``model`` has by its name; "other" for none."""
    names = [re.split(r"[\\/]", name.rstrip("\\/"))[-1].lower() for name in _names(model, size)]
    for kind, pattern in _KINDS.items():
        if any(pattern.fullmatch(name) for name in names):
            return kind
    return "other"


def _names(model: str, size: ModelSize | None) -> Iterable[str]:
    return (model,) if size is None else (model, size.name)


def spread(size: ModelSize | None, accelerator: Accelerator, devices: int) -> int:
    """Over how many of ``devices`` to spread a model's tensors.

    One where it is small beside a device's memory, else the most that its heads can be dealt out
    to. One too where nothing is known of it.
    """
    memory = accelerator.devices[0].memory_bytes
    if size is None or devices < 2 or (memory and size.weight_bytes <= _ROOMY * memory):
        return 1
    return max(count for count in range(1, devices + 1) if _deals_out(size, count))


def _deals_out(size: ModelSize, count: int) -> bool:
    """Whether each of ``count`` devices gets the same share; key and value heads may be copied."""
    return size.heads % count == 0 and max(size.kv_heads, count) % min(size.kv_heads, count) == 0


def _tp(
    row: Row | None, kind: str, accelerator: Accelerator, size: ModelSize | None, free: int
) -> int:
    if kind == "tiny" or accelerator.vendor in ("cpu", "remote"):
        return 1
    if row is not None and row.spread is not None:
        return min(row.spread, free)
    if kind.startswith("r1") and size is None:
        return 1 << (free.bit_length() - 1)
    return spread(size, accelerator, free)


def _is_said(flag: str, args: Sequence[str], also: frozenset[str]) -> bool:
    """Whether a user's ``args`` hold ``flag``, one that takes its place, or the beginning of one:
    many parsers take that for the whole."""
    given = {_plain(word.partition("=")[0]) for word in args if word.startswith("-")}
    names = {_plain(name) for name in (flag, *also)}
    long = [word for word in given if len(word) > len("--x")]
    return bool(given & names) or any(name.startswith(word) for name in names for word in long)


def _plain(flag: str) -> str:
    return flag.replace("_", "-")


def recipe_of(
    engine: str, placement: Placement, request: ServerRequest, args: Sequence[str] = ()
) -> Recipe | None:
    """The recipe for what is to run at ``placement``, if ``request`` wants one; see
    :func:`recipe_for`."""
    if not request.recipe:
        return None
    model = recipe_model(placement)
    return recipe_for(engine, model, placement.accelerator, size=placement.size, args=args)
