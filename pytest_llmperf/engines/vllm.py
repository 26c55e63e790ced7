"""vLLM.

Read off the sources of ``vllm-project/vllm`` 0.11 to 0.32: ``entrypoints/``, ``config/``,
``platforms/cpu.py``, ``v1/metrics/``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping

from pytest_llmperf.records import (
    Api,
    HttpCall,
    HttpProbe,
    Json,
    LaunchPlan,
    Placement,
    ServerIdentity,
    ServerRequest,
    TokenizeCall,
)
from pytest_llmperf.redact import is_secret

from . import vllm_cpu
from .answers import as_object, as_text, as_whole, first_model
from .arguments import Flag, merge, refuse
from .base import Extras
from .bytecode import kept_bytecode
from .counters import VLLM as COUNTERS
from .counters import CounterNames
from .naming import is_local, is_r1, is_tiny, start_timeout_s
from .over_ray import CAUSES as RAY_CAUSES
from .over_ray import ray_flags, refuse_own
from .profiler import VLLM as PROFILER
from .profiler import vllm_flag
from .recipes import recipe_of
from .vllm_logs import CAUSES, PROGRESS

_RESERVED = (
    ("--host", "the plugin chooses the address"),
    ("--port", "the plugin chooses a free port"),
    ("--uds", "the plugin chooses the address"),
    ("--model", "name the model with model="),
    ("--served-model-name", "requests use the name given with model="),
    ("--api-key", "requests to a server that is started here have no key"),
    ("--ssl-certfile", "requests to a server that is started here are plain HTTP"),
    ("--root-path", "requests go to the paths of the OpenAI protocol as they are"),
)
_ALIASES = (frozenset({"--enforce-eager", "--no-enforce-eager"}),)
#: What the engine resolved, in development mode alone.
_CONFIG = "/server_info?config_format=json"
#: Of that: different at every start, or nothing that changes how it serves.
_LEFT_OUT = re.compile(
    r"^(?:instance_id|(?:observability|logging|profiler|weight_transfer)_config)(?:\.|$)"
    r"|(?:_port|_port_list|_ip|_addr|_dir|_time|num_gpu_blocks|traced_files"
    r"|kv_cache_size_tokens|kv_cache_max_concurrency)$"
    r"|^model_config\.(?:model|tokenizer|served_model_name)$"
)


class VLLM:
    """vLLM's server for the OpenAI protocol, on devices or by a recipe on a plain CPU.

    It is started in its development mode: only so it has a request that empties the prefix cache,
    and tells its configuration. ``environ`` is the environment the server will start from where its
    placement does not say; this process' own by default.
    """

    name = "vllm"
    info_paths: tuple[str, ...] = ("/version", "/v1/models")
    apis: tuple[Api, ...] = ("chat", "completions")
    exact_length: Mapping[str, Json] = {"ignore_eos": True}
    #: From some version on it says whether it did: blocks are held for a moment after an answer.
    flush: HttpCall | None = HttpCall(
        method="POST", path="/reset_prefix_cache", refusal=r'"success":\s*false'
    )
    tokenize: TokenizeCall | None = TokenizeCall(
        path="/tokenize",
        text_field="prompt",
        tokens_field="tokens",
        body={"add_special_tokens": False},
    )
    metrics_path: str | None = "/metrics"
    counters: CounterNames | None = COUNTERS
    extras = Extras(more_info_paths=(_CONFIG,), profiler=PROFILER)

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        """See :meth:`Engine.plan`."""
        refuse(request.args, _RESERVED, abbreviated=True)
        refuse_own(self.name, request.args)
        on_cpu = placement.accelerator.vendor == "cpu"
        recipe = recipe_of(self.name, placement, request, request.args)
        documented = recipe.flags if recipe else ()
        flags = (*_flags(placement), *documented, *ray_flags(request))
        base = self._environ if placement.environ is None else placement.environ
        env = {
            **kept_bytecode(base),
            **_env(placement),
            **dict(recipe.env if recipe else ()),
            **dict(request.env),
        }
        return LaunchPlan(
            engine=self.name,
            argv=(
                placement.python,
                "-m",
                *_started(placement),
                *merge(flags, request.args, _ALIASES),
            ),
            env=tuple(sorted(env.items())),
            host=placement.host,
            port=placement.port,
            ready=HttpProbe(path="/health"),
            start_timeout_s=request.timeout_s or start_timeout_s(placement),
            stop_grace_s=15.0 if on_cpu else 60.0,
            cores=placement.cores,
            progress=PROGRESS,
            causes=(*RAY_CAUSES, *CAUSES) if request.ray else CAUSES,
            notes=vllm_cpu.NOTES if on_cpu else (),
            recipe=str(recipe) if recipe else None,
        )

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """See :meth:`Engine.identify`."""
        card = first_model(answers.get("/v1/models"))
        config = as_object(as_object(answers.get(_CONFIG)).get("vllm_config"))
        told = {"model": card.get("root"), "owned_by": card.get("owned_by")}
        return ServerIdentity(
            engine=self.name,
            version=as_text(as_object(answers.get("/version")).get("version")),
            model=as_text(card.get("id")),
            args={**told, **dict(_resolved(config))},
            max_context_tokens=as_whole(card.get("max_model_len")),
        )

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:
        """See :meth:`Engine.mismatch`."""
        where = f"the server that answers on {placement.host}:{placement.port}"
        if identity.args.get("owned_by") != "vllm":
            return f"{where} is not vLLM: it says it is {identity.args.get('owned_by')!r}."
        pairs = (
            ("model", identity.args.get("model"), placement.model_path),
            ("served model's name", identity.model, placement.served_name),
        )
        for what, said, wanted in pairs:
            if said != wanted:
                return (
                    f"{where} is not the one that was started: its {what} is {said!r}, not "
                    f"{wanted!r}."
                )
        return None


def _started(placement: Placement) -> tuple[str, ...]:
    """The module that is run, and how it is told the model."""
    if placement.accelerator.vendor == "cpu":
        return (vllm_cpu.MODULE, "--model", placement.model_path)
    return ("vllm.entrypoints.cli.main", "serve", placement.model_path)


def _flags(placement: Placement) -> tuple[Flag, ...]:
    flags: list[Flag] = [
        ("--served-model-name", placement.served_name),
        ("--host", placement.host),
        ("--port", str(placement.port)),
        # Without it an answer does not say how much of its prompt came from the cache.
        ("--enable-prompt-tokens-details",),
    ]
    if is_r1(placement):
        flags.append(("--reasoning-parser", "deepseek_r1"))
    if placement.profiles is not None:
        flags.append(vllm_flag(placement.profiles))
    if placement.accelerator.vendor == "cpu":
        flags += vllm_cpu.FLAGS
    return tuple(flags)


def _env(placement: Placement) -> dict[str, str]:
    env = {
        "PYTHONUNBUFFERED": "1",
        "VLLM_SERVER_DEV_MODE": "1",
        "VLLM_NO_USAGE_STATS": "1",
    }
    if is_local(placement):
        env["HF_HUB_OFFLINE"] = "1"
    if placement.accelerator.vendor == "cpu":
        env |= vllm_cpu.environment(placement.cores, tiny=is_tiny(placement))
    return env


def _resolved(config: Mapping[str, Json], above: str = "") -> Iterator[tuple[str, Json]]:
    """Every value of a tree of settings by its path, such as ``cache_config.block_size``."""
    for key, value in config.items():
        path = f"{above}{key}"
        if value is None or is_secret(key) or _LEFT_OUT.search(path):
            continue
        if isinstance(value, dict):
            yield from _resolved(value, f"{path}.")
        else:
            yield path, value
