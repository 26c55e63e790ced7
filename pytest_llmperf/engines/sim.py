"""The simulated server of :mod:`pytest_llmperf.testing`: scripted answers, no model."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_llmperf.records import (
    Api,
    FailureCause,
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
from .arguments import refuse
from .counters import SGLANG, CounterNames

_RESERVED = (
    ("--host", "the plugin chooses the address"),
    ("--port", "the plugin chooses a free port"),
    ("--model", "name the model with model="),
)

_CAUSES = (
    FailureCause(
        pattern=r"No module named '?pytest_llmperf",
        cause="pytest-llmperf is not installed in the Python that was to run the simulated server",
        remedy="pip install pytest-llmperf there, or leave python= out",
    ),
    FailureCause(
        pattern=r"error: (unrecognized arguments|argument --[\w-]+)",
        cause="the simulated server does not accept its command line",
        remedy="correct args= of llm_server; python -m pytest_llmperf.testing --help lists them",
    ),
    FailureCause(
        pattern=r"Errno 98|[Aa]ddress already in use",
        cause="the port is taken by another process",
        remedy="stop the other server, or leave the choice of the port to the plugin",
    ),
)


class Sim:
    """For trying gates and reports, and for tests of tests, without an engine."""

    name = "sim"
    info_paths: tuple[str, ...] = ("/server_info", "/v1/models")
    apis: tuple[Api, ...] = ("chat", "completions", "generate")
    exact_length: Mapping[str, Json] = {"ignore_eos": True}
    flush: HttpCall | None = HttpCall(method="POST", path="/flush_cache")
    tokenize: TokenizeCall | None = TokenizeCall(
        path="/tokenize", text_field="prompt", tokens_field="tokens"
    )
    metrics_path: str | None = "/metrics"
    counters: CounterNames | None = SGLANG

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:
        """See :meth:`Engine.plan`."""
        refuse(request.args, _RESERVED, abbreviated=True)
        return LaunchPlan(
            engine=self.name,
            argv=(
                placement.python,
                *("-m", "pytest_llmperf.testing"),
                *("--host", placement.host),
                *("--port", str(placement.port)),
                *("--model", placement.served_name),
                *request.args,
            ),
            env=tuple(sorted({"PYTHONUNBUFFERED": "1", **dict(request.env)}.items())),
            host=placement.host,
            port=placement.port,
            ready=HttpProbe(path="/health"),
            start_timeout_s=request.timeout_s or 30.0,
            stop_grace_s=5.0,
            cores=placement.cores,
            causes=_CAUSES,
            notes=("The server is simulated: its figures say nothing about any hardware.",),
        )

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """See :meth:`Engine.identify`."""
        card = first_model(answers.get("/v1/models"))
        return ServerIdentity(
            engine=self.name,
            version="simulated",
            model=as_text(card.get("id")),
            # How fast this launch happens to be is its luck, not what it was told.
            args={k: v for k, v in as_object(answers.get("/server_info")).items() if k != "pace"},
            max_context_tokens=as_whole(card.get("max_model_len")),
        )

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:
        """See :meth:`Engine.mismatch`."""
        if identity.model == placement.served_name:
            return None
        return (
            f"the server that answers on {placement.host}:{placement.port} is not the one that was "
            f"started: it serves {identity.model!r}, not {placement.served_name!r}."
        )
