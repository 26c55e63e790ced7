"""TensorRT-LLM.

Read off the sources of ``NVIDIA/TensorRT-LLM``: ``tensorrt_llm/commands/serve.py`` at commit
4c05a74 (older than 1.2, newer than 1.0) and at 1.3.0rc3 (February 2026, when 1.2 was branched off
already); ``serve/openai_server.py``, ``llmapi/llm_args.py`` and ``docs/source/llm-api/index.md`` at
1.3.0rc3. The flags used here are in both; the newer one calls the options' file ``--config`` too.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from itertools import zip_longest
from pathlib import Path, PurePath

from pytest_llmperf.errors import UsageMistake
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

from .answers import as_object, as_text, first_model
from .arguments import Flag, given, merge, refuse
from .counters import TENSORRT_LLM, CounterNames
from .naming import is_local, is_r1, start_timeout_s
from .parallel import OWN_FILE
from .recipes import recipe_of
from .tensorrt_llm_logs import CAUSES, PROGRESS

_RESERVED = (
    ("--host", "the plugin chooses the address"),
    ("--port", "the plugin chooses a free port"),
    ("--grpc", "requests go over HTTP"),
    ("--server-role", "servers of several roles are not started here"),
    ("--metadata-server-config-file", "servers of several roles are not started here"),
    ("--disagg-cluster-uri", "servers of several roles are not started here"),
)
_OPTIONS_FILE = frozenset({"--config", "--extra-llm-api-options"})
_MEMORY_FRACTION = frozenset({"--free-gpu-memory-fraction", "--kv-cache-free-gpu-memory-fraction"})
_ALIASES = (_OPTIONS_FILE,)

#: On a node of Slurm it hangs without (``docs/source/llm-api/index.md``); elsewhere nothing is
#: needed before it, and it starts its own workers.
_MPIRUN = ("mpirun", "-n", "1", "--oversubscribe", "--allow-run-as-root")
_SLURM = "SLURM_JOB_ID"
#: One node's workers find each other over loopback; on a container's host network they may hang
#: otherwise (the same page).
_ON_ONE_NODE = {"OMPI_MCA_btl_tcp_if_include": "lo", "OMPI_MCA_oob_tcp_if_include": "lo"}


class TensorRTLLM:
    """``trtllm-serve`` with its PyTorch backend, on one node.

    ``environ`` is the environment the server will start from where its placement does not say; this
    process' own by default.
    """

    name = "tensorrt-llm"
    info_paths: tuple[str, ...] = ("/version", "/v1/models")
    apis: tuple[Api, ...] = ("chat", "completions")
    exact_length: Mapping[str, Json] = {"ignore_eos": True}
    #: There is none: :meth:`plan` has blocks not used again.
    flush: HttpCall | None = None
    tokenize: TokenizeCall | None = None
    #: Answers only where an options' file of the user says ``return_perf_metrics: true``.
    metrics_path: str | None = "/prometheus/metrics"
    counters: CounterNames | None = TENSORRT_LLM

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        """See :meth:`Engine.plan`."""
        refuse(request.args, _RESERVED)
        _check_device(placement)
        own_file = _OPTIONS_FILE & given(request.args)
        options = _options_path(placement)
        recipe = recipe_of(self.name, placement, request, request.args)
        ours = (*_flags(placement, options), *(recipe.flags if recipe else ()))
        env = {**_env(placement), **dict(recipe.env if recipe else ()), **dict(request.env)}
        return LaunchPlan(
            engine=self.name,
            argv=(
                *self._prefix(placement),
                placement.python,
                *("-m", "tensorrt_llm.commands.serve", "serve"),
                placement.model_path,
                *merge(ours, request.args, _ALIASES),
            ),
            env=tuple(sorted(env.items())),
            host=placement.host,
            port=placement.port,
            ready=HttpProbe(path="/health"),
            start_timeout_s=request.timeout_s or start_timeout_s(placement),
            stop_grace_s=60.0,
            cores=placement.cores,
            files=() if own_file else ((options, _options(request.args)),),
            progress=PROGRESS,
            causes=CAUSES,
            notes=(_OWN_FILE if own_file else _NO_REUSE, *self._slurm_note(placement)),
            recipe=str(recipe) if recipe else None,
        )

    def _prefix(self, placement: Placement) -> tuple[str, ...]:
        base = self._environ if placement.environ is None else placement.environ
        return _MPIRUN if _SLURM in base else ()

    def _slurm_note(self, placement: Placement) -> tuple[str, ...]:
        return ("started under mpirun, as on a node of Slurm",) if self._prefix(placement) else ()

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """See :meth:`Engine.identify`; the server does not tell its arguments."""
        return ServerIdentity(
            engine=self.name,
            version=as_text(as_object(answers.get("/version")).get("version")),
            model=as_text(first_model(answers.get("/v1/models")).get("id")),
            args={},
        )

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:
        """See :meth:`Engine.mismatch`."""
        # It calls a model by the name of its directory, and nobody else can give it a name.
        expected = placement.model_path
        if is_local(placement):
            expected = PurePath(expected).name
        if identity.model == expected:
            return None
        return (
            f"the server that answers on {placement.host}:{placement.port} is not the one that was "
            f"started: it serves {identity.model!r}, not {expected!r}."
        )


_NO_REUSE = "blocks of the key-value cache are not used again (kv_cache_config.enable_block_reuse)"
_OWN_FILE = (
    "whether blocks of the key-value cache are used again is as the options' file in args= says, "
    "and by default they are: there is no call that empties the cache"
)


def _check_device(placement: Placement) -> None:
    vendor = placement.accelerator.vendor
    if vendor != "nvidia":
        raise UsageMistake(
            f'The engine "tensorrt-llm" has no build for {placement.accelerator.product} '
            f"({vendor}): it runs on NVIDIA only. On a plain CPU or on AMD take "
            'llm_server("sglang"), "vllm" or "llama.cpp"; on Ascend "sglang", "lmdeploy" or '
            '"mindie".'
        )


def _flags(placement: Placement, options: Path) -> tuple[Flag, ...]:
    flags: list[Flag] = [
        ("--host", placement.host),
        ("--port", str(placement.port)),
        ("--extra_llm_api_options", str(options)),
    ]
    if is_r1(placement):
        flags.append(("--reasoning_parser", "deepseek-r1"))
    return tuple(flags)


def _options_path(placement: Placement) -> Path:
    place = placement.scratch or Path(tempfile.gettempdir())
    return place / f"{OWN_FILE}tensorrt-llm-{placement.port}.yaml"


def _options(args: Sequence[str]) -> str:
    """YAML. In older versions what stands under ``kv_cache_config`` replaces all that the command
    line says of the cache, so that is said here too."""
    lines = ["kv_cache_config:", "  enable_block_reuse: false"]
    fraction = _value(args, _MEMORY_FRACTION)
    if fraction is not None:
        lines.append(f"  free_gpu_memory_fraction: {fraction}")
    return "\n".join(lines) + "\n"


def _value(args: Sequence[str], flags: frozenset[str]) -> str | None:
    """The value that ``args`` give to one of ``flags`` last."""
    found = None
    for word, after in zip_longest(args, args[1:]):
        name, assigned, value = word.partition("=")
        if name.replace("_", "-") in flags:
            found = value if assigned else after
    return found


def _env(placement: Placement) -> dict[str, str]:
    env = {"PYTHONUNBUFFERED": "1", **_ON_ONE_NODE}
    if is_local(placement):
        env["HF_HUB_OFFLINE"] = "1"
    return env
