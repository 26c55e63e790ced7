"""A server that runs already, anywhere, and speaks the OpenAI protocol."""

from __future__ import annotations

from collections.abc import Mapping

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.records import (
    Api,
    HttpCall,
    Json,
    LaunchPlan,
    Placement,
    ServerIdentity,
    ServerRequest,
    TokenizeCall,
)

from .answers import as_text, as_whole, first_model
from .counters import CounterNames

_LENGTHS = ("max_model_len", "context_length", "max_context_length")


class Endpoint:
    """Attached to, never started. Nothing beyond ``/v1`` is assumed of it."""

    name = "endpoint"
    info_paths: tuple[str, ...] = ("/v1/models",)
    apis: tuple[Api, ...] = ("chat", "completions")
    #: Strict services refuse fields they do not know.
    exact_length: Mapping[str, Json] = {}
    flush: HttpCall | None = None
    tokenize: TokenizeCall | None = None
    metrics_path: str | None = None
    counters: CounterNames | None = None

    def plan(self, request: ServerRequest, placement: Placement) -> LaunchPlan:  # noqa: ARG002
        """Always raises UsageMistake."""
        raise UsageMistake(
            'The engine "endpoint" attaches to a server that runs already and starts none: give '
            "its address with url= or --llmperf-url, or name an engine that can be started."
        )

    def identify(self, answers: Mapping[str, Json]) -> ServerIdentity:
        """See :meth:`Engine.identify`; the first model listed is taken for the one served."""
        first = first_model(answers.get("/v1/models"))
        lengths = [as_whole(first.get(key)) for key in _LENGTHS]
        return ServerIdentity(
            engine=self.name,
            version=None,
            model=as_text(first.get("id")),
            args={},
            max_context_tokens=next((n for n in lengths if n is not None), None),
        )

    def mismatch(self, identity: ServerIdentity, placement: Placement) -> str | None:  # noqa: ARG002
        """See :meth:`Engine.mismatch`; nothing was planned, so nothing can differ."""
        return None
