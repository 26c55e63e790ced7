"""What to start, and what it then says it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from .common import Json, Side
from .place import Accelerator
from .sizes import ModelSize

#: Stands for the interpreter of a checkout that is yet to be built.
MERGE_BASE = "merge base"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerRequest:
    """What a test asks for with ``llm_server(...)``; equal requests share one launch.

    With an ``image`` it runs in a container of ``container`` ("docker" or "podman", whichever is
    here by default), and ``python`` is an interpreter inside. ``devices`` are how many it is to
    have, or which: positions among those that are visible, or the beginnings of their identities;
    ``None`` as many as its arguments use. ``nodes`` is over how many it is spread, ``None`` for one
    alone. ``ray`` is where the Ray cluster is that runs its ranks, "auto" or HOST:PORT, ``None``
    for one that starts them itself. ``recipe`` is whether documented flags may be added to
    ``args``. ``reference`` is the server that it is compared with, launch by launch, where a gate
    asks."""

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
    devices: int | tuple[str, ...] | None = None
    nodes: int | None = None
    recipe: bool = True
    reference: ServerRequest | None = None
    ray: str | None = field(default=None, repr=False)

    @property
    def identity(self) -> str:
        """All that it says, alike wherever a Ray cluster may be."""
        return f"{self!r} over Ray" if self.ray else repr(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one launch goes. ``model_path`` is what the engine is told to load: a local directory
    or a hub name; ``cores`` are the CPU cores the server is pinned to, ``None`` for all.
    ``environ`` is the environment that it starts from, ``None`` for that of this process. ``size``
    is what is known of the model, ``None`` if nothing. ``profiles`` is where a launch that is there
    to be profiled leaves its traces; ``None`` for every launch that is measured."""

    host: str
    port: int
    accelerator: Accelerator
    model_path: str
    served_name: str
    python: str
    cores: tuple[int, ...] | None = None
    scratch: Path | None = None
    environ: Mapping[str, str] | None = None
    size: ModelSize | None = None
    profiles: Path | None = None


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
    """A line of the server's log that says why it failed, in words, and what to try.

    ``final`` is whether nobody will be served after that line, though the server may go on.
    """

    pattern: str
    cause: str
    remedy: str
    final: bool = False


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
class Rank:
    """One part of a server that is spread over nodes, beside the first, which answers requests.

    ``number`` counts from 1. ``argv`` is run on this machine, with ``env`` laid over the cleaned
    environment: on another node it is the command that reaches it. ``host`` is what that node is
    called in messages. ``local`` is whether the rank itself is on this machine; then it may listen
    on ``port``.
    """

    number: int
    host: str
    argv: tuple[str, ...]
    env: tuple[tuple[str, str], ...]
    local: bool
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchPlan:
    """Everything needed to start one server; data only.

    ``env`` is laid over the cleaned environment of this process. ``notes`` say in plain words what
    the plan does beyond the engine's own defaults; they go to the log and the report. ``end`` is a
    command that ends for certain what does not end with the process of ``argv``; it succeeds where
    nothing of it is left. ``container`` is where the server runs if not among our own processes.
    ``recipe`` names the documented choice of flags that was taken, and its source. ``others`` are
    its ranks beside the one of ``argv``, for a server that is spread over nodes.
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
    recipe: str | None = None
    others: tuple[Rank, ...] = ()

    @property
    def url(self) -> str:
        """Where requests go, without a trailing slash."""
        return f"http://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"

    def of_rank(self, rank: Rank) -> LaunchPlan:
        """The plan of one of the others, for showing it."""
        notes = (f"rank {rank.number} of the server, on {rank.host}",)
        return replace(self, argv=rank.argv, env=rank.env, notes=notes, others=())


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerIdentity:
    """What a running server says it is. ``args`` are its resolved arguments as it reports them."""

    engine: str
    version: str | None
    model: str | None
    args: Mapping[str, Json]
    max_context_tokens: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RankPlace:
    """Where one part of a server runs that a cluster placed. ``name`` is what the engine calls it,
    such as "dp0 pp0 tp1"; ``node`` is the cluster's id of its node, ``address`` where that is
    reached. ``devices`` are those it was given there, by the cluster's numbers."""

    name: str
    node: str
    host: str
    address: str
    devices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchRecord:
    """One start of a server, whether it came up or not.

    ``server_id`` is shared by all launches of the same request. ``subject`` is what exactly ran,
    where that is compared or remembered; :mod:`pytest_llmperf.launch.subject` names its facts.
    ``failure`` is the one-sentence summary of a launch that never became ready. ``launched`` is
    false for an attached endpoint. ``devices`` are the identities of those it was given. ``recipe``
    is that of its plan. ``ranks`` are where its parts run, where a cluster placed them.
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
    side: Side = "candidate"
    devices: tuple[str, ...] | None = None
    recipe: str | None = None
    ranks: tuple[RankPlace, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpCall:
    """A request an engine offers beside generation, such as flushing its prefix cache.

    ``refusal`` is a regular expression that the body of an answer with status 200 matches where
    the engine did not do it all the same."""

    method: str
    path: str
    refusal: str | None = None

    def refuses(self, body: bytes) -> bool:
        """Whether ``body`` says that nothing was done."""
        text = body.decode("utf-8", "replace")
        return self.refusal is not None and re.search(self.refusal, text) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizeCall:
    """How to ask an engine for the token ids of a text: POST ``{text_field: text, **body}`` and
    read the list under ``tokens_field``."""

    path: str
    text_field: str
    tokens_field: str
    body: Mapping[str, Json] = field(default_factory=dict)
