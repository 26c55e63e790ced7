"""Gates that a measurement could not feed with anything real, found out before it is made."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.metrics import units
from pytest_llmperf.models import is_tiny
from pytest_llmperf.records import ServerRequest, Workload

#: What is read from these was said by somebody once; a trace gives lengths only.
_REAL_PROMPTS = frozenset({"sharegpt", "prompts", "ids"})


def check_blind_spots(
    metrics: Sequence[str], workload: Workload | None, server: ServerRequest | None
) -> None:
    """Raise UsageMistake for gates on what made-up prompts or weights make meaningless."""
    if workload is None or server is None:
        return
    bases = {units.row_of(name).name for name in metrics}
    if "accept_length" in bases and server.engine != "sim":
        _check_acceptance(workload, server)
    if "cache_hit_rate" in bases and not workload.shares_prefixes:
        raise UsageMistake(
            "cache_hit_rate: no two prompts of this workload share anything, and the cache is "
            "emptied before each run, so hits would be an accident; ask for shared_prefix_tokens, "
            "turns or flush=False in llm_workload, or gate something else."
        )


def _check_acceptance(workload: Workload, server: ServerRequest) -> None:
    """Drafts are accepted as often as the text can be foreseen, and nonsense cannot."""
    source = workload.source
    if source is None or source.kind not in _REAL_PROMPTS:
        raise UsageMistake(
            "accept_length: this workload asks with made-up prompts and goes on after the answer's "
            "own end, and how many drafts are accepted there says nothing about real text; give "
            'llm_workload a file of prompts, such as llm_workload("prompts.jsonl").'
        )
    if is_tiny(server.model or "") or _dummy_weights(server.args):
        raise UsageMistake(
            f"accept_length: {server.model} has made-up weights here, and how many drafts are "
            "accepted says nothing about the model; name one with its own weights in llm_server."
        )


def _dummy_weights(args: Sequence[str]) -> bool:
    return "--load-format=dummy" in args or ("--load-format", "dummy") in pairwise(args)
