"""Requests as bytes: the body an OpenAI-compatible server takes, and the HTTP around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from pytest_llmperf.load.send.connect import Origin
from pytest_llmperf.records import Api, Json, TokenizeCall, Workload

#: A prompt as text, or as token ids where the API takes them.
Prompt = str | list[int]
#: How much usage reporting the server accepts being asked for.
UsageLevel = Literal["continuous", "final", "none"]
USAGE_LEVELS: tuple[UsageLevel, ...] = ("continuous", "final", "none")

_PATHS: Mapping[Api, str] = {"chat": "/chat/completions", "completions": "/completions"}
_GENERATE_PATH = "/generate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The server a load client asks.

    ``url`` is its root, or ends in the version prefix (``/v1``) that the API lives under.
    ``api_fields`` are laid over every request body (what the engine needs for exact lengths, such
    as ``ignore_eos``; ``/generate`` takes it among the sampling parameters). ``tokenize`` says how
    to ask for token ids, ``None`` where it cannot. ``exact_output`` is false where the server
    cannot be held to an output length, so that a shorter answer is a success too.
    """

    url: str
    model: str
    api_fields: Mapping[str, Json] = field(default_factory=dict)
    tokenize: TokenizeCall | None = None
    headers: tuple[tuple[str, str], ...] = ()
    exact_output: bool = True


def api_path(origin: Origin, api: Api) -> str:
    """The path of the generation call."""
    if api == "generate":
        return server_path(origin, _GENERATE_PATH)
    base = origin.base_path if origin.base_path else "/v1"
    return base + _PATHS[api]


def server_path(origin: Origin, path: str) -> str:
    """A path given from the server's root, below whatever prefix its URL carries."""
    return origin.base_path.removesuffix("/v1") + path


def body(
    target: Target,
    workload: Workload,
    prompt: Prompt,
    *,
    usage: UsageLevel,
    max_tokens: int | None = None,
    stream: bool = True,
) -> dict[str, Json]:
    """The JSON of one generation request; sampling parameters are always explicit.

    ``max_tokens`` is the workload's output length unless given; one of them must be known.
    """
    asked = workload.output_tokens if max_tokens is None else max_tokens
    if asked is None:
        raise ValueError(f"workload {workload.name!r} does not say how many tokens to ask for")
    sampling: dict[str, Json] = {"temperature": workload.temperature, "top_p": 1.0}
    if workload.api == "generate":
        return _generate_body(prompt, sampling, asked, stream=stream, extra=target.api_fields)
    fields: dict[str, Json] = {"model": target.model}
    if workload.api == "chat":
        fields["messages"] = [{"role": "user", "content": _as_json(prompt)}]
    else:
        fields["prompt"] = _as_json(prompt)
    fields |= {"max_tokens": asked, **sampling, "stream": stream}
    if stream and usage != "none":
        options: dict[str, Json] = {"include_usage": True}
        if usage == "continuous":
            options["continuous_usage_stats"] = True
        fields["stream_options"] = options
    return fields | dict(target.api_fields)


def _generate_body(
    prompt: Prompt,
    sampling: Mapping[str, Json],
    asked: int,
    *,
    stream: bool,
    extra: Mapping[str, Json],
) -> dict[str, Json]:
    return {
        "text" if isinstance(prompt, str) else "input_ids": _as_json(prompt),
        "sampling_params": {"max_new_tokens": asked, **sampling, **extra},
        "stream": stream,
    }


def _as_json(prompt: Prompt) -> Json:
    return prompt if isinstance(prompt, str) else list(prompt)


def post(origin: Origin, path: str, content: Json, headers: Sequence[tuple[str, str]]) -> bytes:
    """One POST request over a connection that stays open, as bytes."""
    import msgspec

    data = msgspec.json.encode(content)
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {origin.authority}",
        "Content-Type: application/json",
        "Accept: text/event-stream, application/json",
        "Accept-Encoding: identity",
        f"Content-Length: {len(data)}",
        *(f"{name}: {value}" for name, value in headers),
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + data
