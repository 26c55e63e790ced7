"""The side calls: everything that generates nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict

from .script import Script
from .state import State

_VERSION = "1.0"
_FLUSHED = (
    "Cache flushed.\nPlease check backend logs for more details. "
    "(When there are running or waiting requests, the operation will not be performed.)\n"
)
#: Told to nobody.
_SECRETS = frozenset({"api_key"})
#: Open to everybody, key or not.
_OPEN = ("/health", "/ready", "/metrics")


def allowed(script: Script, path: str, authorization: str) -> bool:
    """Whether a request with this ``authorization`` header is served."""
    if script.api_key is None or path.startswith(_OPEN):
        return True
    scheme, _, key = authorization.partition(" ")
    return scheme.lower() == "bearer" and key == script.api_key


def answer(state: State, method: str, path: str, body: bytes) -> tuple[int, object]:
    """Status and JSON (or text) of a side call."""
    script = state.script
    pages: dict[str, Callable[[], object]] = {
        "/health": dict,
        "/health_generate": dict,
        "/v1/models": lambda: {"object": "list", "data": [_model_card(script)]},
        "/server_info": lambda: _server_info(state),
        "/get_server_info": lambda: _server_info(state),
        "/model_info": lambda: {"model_path": script.model, "is_generation": True},
        "/metrics": lambda: state.tally.prometheus(
            script.model, received=len(state.truth), running=state.running
        ),
    }
    if path in pages:
        return 200, pages[path]()
    if path == "/flush_cache":
        return (200, _FLUSHED) if state.flush() else (400, "Flush cache failed.\n")
    if path.endswith("_profile") and method == "POST" and state.profiler is not None:
        if path == "/start_profile":
            return state.profiler.start(body, state.truth)
        return state.profiler.stop(state.truth)
    if path == "/tokenize" and method == "POST" and script.tokenizer:
        return _tokenize(body)
    return 404, {"error": {"message": f"no such path: {path}", "code": 404}}


def _model_card(script: Script) -> dict[str, object]:
    return {"id": script.model, "object": "model", "max_model_len": script.max_context_tokens}


def _server_info(state: State) -> dict[str, object]:
    accepted = state.tally.accept_length
    told = {name: value for name, value in asdict(state.script).items() if name not in _SECRETS}
    return {
        "version": _VERSION,
        "simulated": True,
        "model_path": state.script.model,
        "served_model_name": state.script.model,
        "context_length": state.script.max_context_tokens,
        "pace": state.pace,
        "internal_states": [{} if accepted is None else {"avg_spec_accept_length": accepted}],
        **{f"sim_{name}": value for name, value in told.items()},
    }


def _tokenize(body: bytes) -> tuple[int, object]:
    try:
        asked = json.loads(body)
        text = asked.get("prompt", asked.get("content", ""))
    except (ValueError, AttributeError):
        return 400, {"error": {"message": "the request's body is no JSON object", "code": 400}}
    tokens = list(str(text).encode())
    return 200, {"tokens": tokens, "count": len(tokens)}
