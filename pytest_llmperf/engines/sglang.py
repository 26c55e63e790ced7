"""SGLang."""

from __future__ import annotations

import os
from collections.abc import Mapping

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
from pytest_llmperf.redact import is_secret, redact_joined

from . import sglang_cpu
from .answers import as_object, as_text, as_whole, first_model
from .arguments import Flag, merge, refuse
from .base import Extras
from .bytecode import kept_bytecode
from .cookbook import Recipe
from .counters import SGLANG, CounterNames
from .naming import is_local, is_r1, is_tiny, start_timeout_s
from .over_ray import CAUSES as RAY_CAUSES
from .over_ray import RANK_CRASHED, ray_flags, refuse_own
from .profiler import SGLANG as PROFILER
from .recipes import recipe_of
from .sglang_logs import CAUSES, PROGRESS

_RESERVED = (
    ("--host", "the plugin chooses the address"),
    ("--port", "the plugin chooses a free port"),
    ("--model-path", "name the model with model="),
    ("--model", "name the model with model="),
    ("--served-model-name", "requests use the name given with model="),
    ("--api-key", "requests to a server that is started here have no key"),
)
#: Flags that stand for each other on SGLang's command line.
_ALIASES = (frozenset({"--attention-backend", "--prefill-attention-backend"}),)

#: Large, and different at every call.
_LIVE = frozenset({"internal_states"})


class SGLang:
    """SGLang's HTTP server, on any device it supports and, by a recipe, on a plain CPU.

    ``environ`` is the environment the server will start from where its placement does not say; this
    process' own by default.
    """

    name = "sglang"
    info_paths: tuple[str, ...] = ("/server_info", "/model_info", "/v1/models")
    apis: tuple[Api, ...] = ("chat", "completions", "generate")
    #: ``min_tokens`` is not needed beside it and would add work to every step.
    exact_length: Mapping[str, Json] = {"ignore_eos": True}
    flush: HttpCall | None = HttpCall(method="POST", path="/flush_cache")
    tokenize: TokenizeCall | None = TokenizeCall(
        path="/tokenize",
        text_field="prompt",
        tokens_field="tokens",
        body={"add_special_tokens": False},
    )
    metrics_path: str | None = "/metrics"
    counters: CounterNames | None = SGLANG
    extras = Extras(profiler=PROFILER)

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._environ = environ

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        """See :meth:`Engine.plan`."""
        refuse(request.args, _RESERVED, abbreviated=True)
        refuse_own(self.name, request.args)
        on_cpu = placement.accelerator.vendor == "cpu"
        recipe = recipe_of(self.name, placement, request, request.args)
        documented = recipe.flags if recipe else ()
        flags = (*_address(placement), *_flags(placement), *documented, *ray_flags(request))
        return LaunchPlan(
            engine=self.name,
            argv=(
                placement.python,
                "-m",
                "sglang.launch_server",
                *merge(flags, request.args, _ALIASES),
            ),
            env=tuple(sorted(self._env(request, placement, recipe).items())),
            host=placement.host,
            port=placement.port,
            ready=HttpProbe(path="/health_generate"),
            start_timeout_s=request.timeout_s or start_timeout_s(placement),
            stop_grace_s=15.0 if on_cpu else 60.0,
            cores=placement.cores,
            progress=PROGRESS,
            causes=(*RAY_CAUSES, *CAUSES, RANK_CRASHED) if request.ray else CAUSES,
            notes=_notes(placement, recipe),
            recipe=str(recipe) if recipe else None,
        )

    def _env(
        self, request: ServerRequest, placement: Placement, recipe: Recipe | None
    ) -> dict[str, str]:
        user = dict(request.env)
        base = self._environ if placement.environ is None else placement.environ
        env = {
            "PYTHONUNBUFFERED": "1",
            # A crashed server would else wait a minute for core dumps that nobody set up.
            "SGLANG_CUDA_COREDUMP_BEFORE_CRASH": "0",
        }
        env |= kept_bytecode(base)
        if is_local(placement):
            env["HF_HUB_OFFLINE"] = "1"
        if placement.accelerator.vendor == "cpu":
            path = user.pop("PYTHONPATH", base.get("PYTHONPATH", ""))
            env |= sglang_cpu.environment(path, placement.cores, tiny=is_tiny(placement))
            env |= sglang_cpu.OVER_RAY if request.ray else {}
        return env | dict(recipe.env if recipe else ()) | user

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """See :meth:`Engine.identify`."""
        info = as_object(answers.get("/server_info"))
        model = as_object(answers.get("/model_info"))
        args = {
            key: value for key, value in info.items() if key not in _LIVE and not is_secret(key)
        }
        command = args.get("launch_command")
        if isinstance(command, str):
            args["launch_command"] = redact_joined(command)
        return ServerIdentity(
            engine=self.name,
            version=as_text(info.get("version")),
            model=as_text(model.get("served_model_name")) or as_text(info.get("served_model_name")),
            args=args,
            max_context_tokens=_context(info, first_model(answers.get("/v1/models"))),
        )

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:
        """See :meth:`Engine.mismatch`."""
        where = f"the server that answers on {placement.host}:{placement.port}"
        wanted = {
            "model_path": placement.model_path,
            "served_model_name": placement.served_name,
            "port": placement.port,
        }
        for key, value in wanted.items():
            if key not in identity.args:
                return f"{where} is not the SGLang that was started: it does not tell its {key}."
            if identity.args[key] != value:
                return (
                    f"{where} is not the one that was started: its {key} is "
                    f"{identity.args[key]!r}, not {value!r}."
                )
        return None


def _address(placement: Placement) -> tuple[Flag, ...]:
    return (
        ("--model-path", placement.model_path),
        ("--served-model-name", placement.served_name),
        ("--host", placement.host),
        ("--port", str(placement.port)),
    )


def _flags(placement: Placement) -> tuple[Flag, ...]:
    flags: list[Flag] = [("--enable-cache-report",), ("--random-seed", "1")]
    if is_r1(placement):
        flags.append(("--reasoning-parser", "deepseek-r1"))
    flags.append(("--enable-metrics",))
    return tuple(flags)


def _notes(placement: Placement, recipe: Recipe | None) -> tuple[str, ...]:
    if placement.accelerator.vendor != "cpu":
        return ()
    return (*((sglang_cpu.FLAGS_NOTE,) if recipe else ()), sglang_cpu.KERNELS_NOTE)


def _context(info: Mapping[str, Json], model: Mapping[str, Json]) -> int | None:
    """Prompt and output together: what the model allows and the key-value cache can hold."""
    limits = (as_whole(model.get("max_model_len")), as_whole(info.get("max_total_num_tokens")))
    return min((limit for limit in limits if limit is not None), default=None)
