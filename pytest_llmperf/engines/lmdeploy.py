"""LMDeploy.

Read off the sources of ``InternLM/lmdeploy``: the tags v0.10.0 to v0.16.0 and the package 0.18.0
(``cli/serve.py``, ``cli/utils.py``, ``serve/openai/``, ``metrics/loggers.py``). Metrics are on by
default from 0.11; before that they want ``--enable-metrics``, which later versions do not know.
"""

from __future__ import annotations

from collections.abc import Mapping

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

from .answers import as_text, first_model
from .arguments import Flag, given, merge, refuse
from .counters import LMDEPLOY, CounterNames
from .lmdeploy_logs import CAUSES, PROGRESS
from .naming import is_local, is_r1, is_tiny, start_timeout_s
from .recipes import recipe_of

_RESERVED = (
    ("--server-name", "the plugin chooses the address"),
    ("--server-port", "the plugin chooses a free port"),
    ("--model-name", "requests use the name given with model="),
    ("--api-keys", "requests to a server that is started here have no key"),
    ("--ssl", "requests to a server that is started here are plain HTTP"),
    ("--proxy-url", "requests go to the server itself"),
)


class LMDeploy:
    """LMDeploy's server for the OpenAI protocol, with TurboMind or its PyTorch engine."""

    name = "lmdeploy"
    info_paths: tuple[str, ...] = ("/v1/models",)
    #: ``/generate`` is there too, but its answers are not SGLang's.
    apis: tuple[Api, ...] = ("chat", "completions")
    exact_length: Mapping[str, Json] = {"ignore_eos": True}
    #: Prefixes are kept only with ``--enable-prefix-caching``, and nothing empties them then.
    flush: HttpCall | None = None
    #: ``/v1/encode`` gives ids, but ``/v1/completions`` reads a list of ids as a list of prompts.
    tokenize: TokenizeCall | None = None
    metrics_path: str | None = "/metrics"
    counters: CounterNames | None = LMDEPLOY

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        """See :meth:`Engine.plan`."""
        refuse(request.args, _RESERVED, abbreviated=True)
        _check_device(placement)
        recipe = recipe_of(self.name, placement, request, request.args)
        ours = (*_address(placement), *_flags(placement), *(recipe.flags if recipe else ()))
        env = {**_env(placement), **dict(recipe.env if recipe else ()), **dict(request.env)}
        return LaunchPlan(
            engine=self.name,
            argv=(
                placement.python,
                *("-m", "lmdeploy", "serve", "api_server"),
                placement.model_path,
                *merge(ours, request.args),
            ),
            env=tuple(sorted(env.items())),
            host=placement.host,
            port=placement.port,
            ready=HttpProbe(path="/health"),
            start_timeout_s=request.timeout_s or start_timeout_s(placement),
            stop_grace_s=60.0,
            cores=placement.cores,
            progress=PROGRESS,
            causes=CAUSES,
            notes=_notes(request),
            recipe=str(recipe) if recipe else None,
        )

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """See :meth:`Engine.identify`; the server tells neither its version nor its arguments."""
        card = first_model(answers.get("/v1/models"))
        return ServerIdentity(
            engine=self.name,
            version=None,
            model=as_text(card.get("id")),
            args={"owned_by": card["owned_by"]} if "owned_by" in card else {},
        )

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:
        """See :meth:`Engine.mismatch`."""
        where = f"the server that answers on {placement.host}:{placement.port}"
        if identity.args.get("owned_by") != "lmdeploy":
            return f"{where} is not LMDeploy: it says it is {identity.args.get('owned_by')!r}."
        if identity.model != placement.served_name:
            return (
                f"{where} is not the one that was started: it serves {identity.model!r}, not "
                f"{placement.served_name!r}."
            )
        return None


def _check_device(placement: Placement) -> None:
    vendor = placement.accelerator.vendor
    if vendor not in ("nvidia", "ascend"):
        raise UsageMistake(
            f'The engine "lmdeploy" has no build for {placement.accelerator.product} ({vendor}): '
            "it runs on NVIDIA and Ascend. On a plain CPU take "
            'llm_server("sglang"), "vllm" or "llama.cpp"; on AMD "sglang", "vllm" or "llama.cpp".'
        )


def _address(placement: Placement) -> tuple[Flag, ...]:
    return (
        ("--model-name", placement.served_name),
        ("--server-name", placement.host),
        ("--server-port", str(placement.port)),
    )


def _flags(placement: Placement) -> tuple[Flag, ...]:
    flags: list[Flag] = []
    if is_r1(placement):
        # Called "default" from 0.13 on, where this name still stands for it.
        flags.append(("--reasoning-parser", "deepseek-r1"))
    if is_tiny(placement) and placement.accelerator.vendor == "nvidia":
        # TurboMind has no kernels for heads that small.
        flags.append(("--backend", "pytorch"))
    return tuple(flags)


def _env(placement: Placement) -> dict[str, str]:
    env = {"PYTHONUNBUFFERED": "1"}
    if is_local(placement):
        env["HF_HUB_OFFLINE"] = "1"
    return env


def _notes(request: ServerRequest) -> tuple[str, ...]:
    if "--enable-prefix-caching" not in given(request.args):
        return ()
    return ("prefixes are kept from run to run: LMDeploy has no call that empties its cache",)
