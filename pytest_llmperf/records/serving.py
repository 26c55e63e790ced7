"""What to start, and what it then says it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .common import Json
from .place import Accelerator

#: Stands for the interpreter of a checkout that is yet to be built.
MERGE_BASE = "merge base"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRequest:
    """What a test asks for with ``llm_server(...)``; equal requests share one launch.

    With an ``image`` it runs in a container of ``container`` ("docker" or "podman", whichever is
    here by default), and ``python`` is an interpreter inside. ``reference`` is the server that it
    is compared with, launch by launch, where a gate asks."""

    engine: str
    model: str | None = None
    args: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    accelerator: str | None = None
    python: str | None = None
    timeout_s: float | None = None
    url: str | None = None
    image: str | None = None
    container: str | None = None
    reference: ServerRequest | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one launch goes. ``model_path`` is what the engine is told to load: a local directory
    or a hub name; ``cores`` are the CPU cores the server is pinned to, ``None`` for all.
    ``environ`` is the environment that it starts from, ``None`` for that of this process."""

    host: str
    port: int
    accelerator: Accelerator
    model_path: str
    served_name: str
    python: str
    cores: tuple[int, ...] | None = None
    scratch: Path | None = None
    environ: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpProbe:
    """A request that must answer with ``status`` before a server counts as ready."""

    path: str
    status: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class LogProgress:
    """A line of the server's log that tells how far it has come; ``text`` may use the groups of
    ``pattern`` as in :meth:`re.Match.expand`."""

    pattern: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureCause:
    """A line of the server's log that says why it failed, in words, and what to try."""

    pattern: str
    cause: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Where a server runs that is started in a container.

    ``tool`` is "docker" or "podman". ``image`` is as it was asked for, ``image_id`` what that stood
    for. ``argv`` and ``env`` are the server's own, ``code`` the directories of this machine that it
    imports from, mounted where they lie here.
    """

    tool: str
    name: str
    image: str
    image_id: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    code: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """Everything needed to start one server; data only.

    ``env`` is laid over the cleaned environment of this process. ``notes`` say in plain words what
    the plan does beyond the engine's own defaults; they go to the log and the report. ``end`` is a
    command that ends for certain what does not end with the process of ``argv``; it succeeds where
    nothing of it is left. ``container`` is where the server runs if not among our own processes.
    """

    engine: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    host: str
    port: int
    ready: HttpProbe
    start_timeout_s: float
    stop_grace_s: float
    cores: tuple[int, ...] | None = None
    files: tuple[tuple[Path, str], ...] = ()
    progress: tuple[LogProgress, ...] = ()
    causes: tuple[FailureCause, ...] = ()
    notes: tuple[str, ...] = ()
    end: tuple[str, ...] = ()
    container: Container | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What a running server says it is. ``args`` are its resolved arguments as it reports them."""

    engine: str
    version: str | None
    model: str | None
    args: Mapping[str, Json]
    max_context_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRecord:
    """One start of a server, whether it came up or not.

    ``server_id`` is shared by all launches of the same request. ``subject`` is what exactly ran,
    where that is compared or remembered; :mod:`pytest_llmperf.launch.subject` names its facts.
    ``failure`` is the one-sentence summary of a launch that never became ready. ``launched`` is
    false for an attached endpoint.
    """

    id: str
    server_id: str
    launched: bool
    engine: str
    version: str | None
    model: str | None
    url: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    args: Mapping[str, Json]
    notes: tuple[str, ...]
    cores: tuple[int, ...] | None
    started_at: str
    startup_time_s: float | None
    log: str | None
    failure: str | None = None
    subject: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """A request an engine offers beside generation, such as flushing its prefix cache."""

    method: str
    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeCall:
    """How to ask an engine for the token ids of a text: POST ``{text_field: text, **body}`` and
    read the list under ``tokens_field``."""

    path: str
    text_field: str
    tokens_field: str
    body: Mapping[str, Json] = field(default_factory=dict)
