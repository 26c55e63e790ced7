"""MindIE, Huawei's server for Ascend.

Read off the sources that Huawei opened with version 3.0.0 (``MindIE-LLM`` of May 2026:
``src/server/daemon/llm_daemon.cpp``, ``src/server/endpoint/``, ``src/config_manager/``,
``src/utils/common_util.cpp``, ``docs/zh/user_guide/``). 2.x is documented only: its commands, its
fields and its answers are the same there as far as they are used here.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
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

from .answers import as_object, as_text, as_whole, first_model
from .counters import MINDIE, CounterNames
from .mindie_config import config_text, model_name, spread_args
from .mindie_logs import CAUSES, PROGRESS
from .naming import is_local, start_timeout_s
from .recipes import recipe_of

_NOTES = (
    "MindIE's own limits are raised: maxSeqLen to 10240, maxInputTokenLen to 8192, maxIterTimes to "
    "maxSeqLen, tokenTimeout and e2eTimeout to their largest values",
    "its metrics are switched on (MIES_SERVICE_MONITOR_MODE), HTTPS is off",
)


class MindIE:
    """MindIE's server with one model, on one machine.

    It takes no options but a file of settings. ``args=`` of ``llm_server`` names settings of that
    file as flags: ``args=["--maxBatchSize", "64"]``, and with its section one that the file has not
    yet: ``args=["--ModelConfig.plugin_params={...}"]``.
    """

    name = "mindie"
    info_paths: tuple[str, ...] = ("/info", "/v1/models")
    apis: tuple[Api, ...] = ("chat", "completions")
    exact_length: Mapping[str, Json] = {"ignore_eos": True}
    #: There is none; prefixes are kept only where ``plugin_params`` ask for it.
    flush: HttpCall | None = None
    #: ``/v1/tokenizer`` counts tokens and gives their texts, but no ids.
    tokenize: TokenizeCall | None = None
    metrics_path: str | None = "/metrics"
    counters: CounterNames | None = MINDIE

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        """See :meth:`Engine.plan`."""
        _check(request, placement)
        place = placement.scratch or Path(tempfile.gettempdir())
        script = place / f"mindie-{placement.port}.sh"
        config = place / f"mindie-{placement.port}.json"
        recipe = recipe_of(self.name, placement, request)
        args = spread_args(request.args, placement, recipe) if request.recipe else request.args
        return LaunchPlan(
            engine=self.name,
            # What is only in a file would not tell two sides of a comparison apart.
            argv=("bash", str(script), *args),
            env=tuple(sorted({**_env(config, placement), **dict(request.env)}.items())),
            host=placement.host,
            port=placement.port,
            ready=HttpProbe(path="/v2/health/ready"),
            start_timeout_s=request.timeout_s or start_timeout_s(placement),
            # It waits five seconds for its endpoint and fifteen for its processes.
            stop_grace_s=60.0,
            cores=placement.cores,
            files=((config, config_text(args, placement)), (script, SCRIPT)),
            progress=PROGRESS,
            causes=CAUSES,
            notes=_NOTES,
            recipe=str(recipe) if recipe and args != request.args else None,
        )

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """See :meth:`Engine.identify`; of its settings it tells a few limits."""
        info = as_object(answers.get("/info"))
        models = info.get("models")
        model = as_object(models[0]) if isinstance(models, list) and models else {}
        listed = first_model(answers.get("/v1/models"))
        told = {key: value for key, value in info.items() if value not in (None, models)}
        return ServerIdentity(
            engine=self.name,
            version=as_text(info.get("version")),
            model=as_text(listed.get("id")) or as_text(model.get("model_id")),
            args=told | {key: value for key, value in model.items() if value is not None},
            max_context_tokens=as_whole(model.get("max_total_tokens")),
        )

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:
        """See :meth:`Engine.mismatch`."""
        expected = model_name(placement.served_name)
        if identity.model == expected:
            return None
        return (
            f"the server that answers on {placement.host}:{placement.port} is not the one that was "
            f"started: it serves {identity.model!r}, not {expected!r}."
        )


def _check(request: ServerRequest, placement: Placement) -> None:
    vendor = placement.accelerator.vendor
    if vendor != "ascend":
        raise UsageMistake(
            f'The engine "mindie" has no build for {placement.accelerator.product} ({vendor}): it '
            'runs on Ascend only. On a plain CPU, on NVIDIA or on AMD take llm_server("sglang"), '
            '"vllm" or "llama.cpp".'
        )
    if request.python is not None:
        raise UsageMistake(
            f'python={request.python!r} means nothing to the engine "mindie", which is a program '
            "of its own: leave it out, and set MIES_INSTALL_PATH if MindIE is not where its "
            "installer puts it."
        )
    if not is_local(placement):
        raise UsageMistake(
            f'model={placement.model_path!r}: the engine "mindie" loads models from a directory '
            "and downloads none. Download it, and give the full path of its directory as model=."
        )


def _env(config: PurePath, placement: Placement) -> dict[str, str]:
    return {
        "LLMPERF_MINDIE_CONFIG": str(config),
        # These two go before the addresses in the file.
        "MIES_CONTAINER_IP": placement.host,
        "MIES_CONTAINER_MANAGEMENT_IP": placement.host,
        "MIES_SERVICE_MONITOR_MODE": "1",
        "MINDIE_LOG_TO_STDOUT": "1",
        "PYTHONUNBUFFERED": "1",
    }


#: The daemon puts itself into a process group of its own, which the kernel refuses the leader of a
#: session: so it is a child of this script, which hands it the signal to stop. It refuses a file of
#: settings that others may write or that lies behind a link, and writes into where it is started.
SCRIPT = """\
#!/usr/bin/env bash
# Starts MindIE's server for one launch; written by pytest-llmperf. Its arguments are in the file of
# settings already.
home="${MIES_INSTALL_PATH:-/usr/local/Ascend/mindie/latest/mindie-service}"
if [ -z "${MIES_INSTALL_PATH:-}${MINDIE_LLM_HOME_PATH:-}" ]; then
    for file in /usr/local/Ascend/cann/set_env.sh /usr/local/Ascend/ascend-toolkit/set_env.sh \\
        /usr/local/Ascend/nnal/atb/set_env.sh /usr/local/Ascend/atb-models/set_env.sh \\
        /usr/local/Ascend/mindie/latest/mindie-llm/set_env.sh "$home/set_env.sh"; do
        if [ -f "$file" ]; then . "$file"; fi
    done
fi
server="$(command -v mindie_llm_server || echo "$home/bin/mindieservice_daemon")"
if [ ! -x "$server" ]; then
    echo "pytest-llmperf: there is no MindIE server at $server" >&2
    exit 127
fi
work="$(cd "$(mktemp -d)" && pwd -P)" || exit 1
trap 'rm -rf "$work"' EXIT
cd "$work" && cp "$LLMPERF_MINDIE_CONFIG" config.json && chmod 640 config.json || exit 1
export MIES_CONFIG_JSON_PATH="$work/config.json"
"$server" &
child=$!
trap 'kill -TERM "$child" 2>/dev/null' TERM INT
wait "$child"
status=$?
while kill -0 "$child" 2>/dev/null; do
    wait "$child"
    status=$?
done
exit "$status"
"""
