"""What is under test: the server as it really runs, in facts that two launches can be told
apart by."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pytest_llmperf.records import Json, LaunchPlan, Scalar, ServerIdentity
from pytest_llmperf.redact import redact_argv, redact_env, redact_mapping, redact_text

from . import inside, installed, mapped, weights
from .addresses import LOOPBACK
from .environment import server_environment

#: Names of what differs from launch to launch, or only follows from it.
_FLEETING = re.compile(
    r"(?:^|_)(?:ports?|host|addr|address|seed|pid|status|uptime|socket|ipc_name"
    r"|launch_command|startup_time|start_time|started_at|created|timestamp"
    r"|(?:instance|worker|server|run|launch)_id)$"
    # How much fits depends on the memory that happened to be free.
    r"|^(?:version|max_total_num_tokens|max_req_input_len|num_gpu_blocks)$"
)
#: Of the environment also: which device, what is ours, and what changes nothing that is measured.
_FLEETING_VARIABLE = re.compile(
    r"VISIBLE_DEVICES$|^ZE_AFFINITY_MASK$|SEED$|_PORT$|_ADDR$|^(?:PYTEST|LLMPERF)_"
    r"|^PYTHON(?:UNBUFFERED|DONTWRITEBYTECODE)$"
)
#: Where something is kept from launch to launch: each side of a comparison has its own.
_CACHE_VARIABLE = re.compile(r"CACHE|TMPDIR$|WORKSPACE|^TRITON_HOME$")

#: Variables by which people change how a server runs without naming them in its declaration.
_INHERITED = re.compile(
    r"^(?:LD_PRELOAD$|LD_LIBRARY_PATH$|GLIBC_TUNABLES$|PYTHON|OMP_|GOMP_|KMP_|MKL_|OPENBLAS_|BLIS_"
    r"|MALLOC_|TCMALLOC|JEMALLOC|CUDA_|CUBLAS|CUDNN|NVIDIA_TF32|NCCL_|NVSHMEM_|UCX_|TORCH|PYTORCH_"
    r"|TRITON_|FLASHINFER_|HIP_|HSA_|ROC|RCCL_|MIOPEN_|AITER|ASCEND|HCCL_|GGML_|TOKENIZERS_)"
)
_TEMPORARY = (
    (re.compile(r"pytest-of-[^/]+/pytest-\d+"), "<pytest>"),
    (re.compile(r"(?<=/)tmp[a-z0-9_]{8}\b"), "<tmp>"),
)
_SAMES = ("engine", "version", "model", "revision", "image", "args", "env", "platform")
#: What an image holds and no environment does: there it must be the same by itself.
_INSTALLED = ("libraries", "python", "packages")


def subject(
    pid: int | None,
    identity: ServerIdentity,
    plan: LaunchPlan | None,
    python: str | None,
    *,
    url: str | None = None,
    platform: Mapping[str, Scalar] | None = None,
    environ: Mapping[str, str] | None = None,
) -> dict[str, Json]:
    """The facts of a live server; every name is always there, ``None`` where it cannot be told.

    ``pid`` is the server's own; ``python`` the interpreter that it was placed on. An attached
    server has neither, nor a ``plan``; its ``url`` tells it apart. ``platform`` are facts of what
    lies beneath (driver, kernel), and ``environ`` is what the server inherited, this process's
    environment by default. Nothing is raised for what cannot be found out.

    ``args`` are the arguments as given and, over them, as the server resolved them; ``env`` what
    it was given and what of the environment may change how it runs. ``code`` holds, by name,
    digest, number of files, commit and uncommitted changes of what runs from source; it is empty
    for a native server. ``libraries`` and ``packages`` have an entry "(others)".

    A server in a container is told by the id of its ``image``, of which everything else follows
    but for ``code``, which is what it imports from this machine. It inherits nothing, and without
    a ``pid`` its ``libraries`` cannot be seen.
    """
    within = plan.container if plan else None
    environ = os.environ if environ is None else environ
    inherited = server_environment(environ) if within is None else {}
    argv, given = _started(plan)
    whole = {**inherited, **given}
    mask = _Mask(plan, environ.get("HOME", ""))
    started = installed.program(argv, python) if plan else None
    facts: dict[str, Json] = {
        "engine": identity.engine,
        "version": identity.version,
        "model": identity.model,
        "revision": _revision(identity, argv, {**environ, **given}) if plan else None,
        "url": _plain_url(url) if plan is None else None,
        "image": within.image_id if within else None,
        "args": _args(identity, argv, mask),
        "env": _env(identity.engine, given, inherited, mask) if plan else None,
        "libraries": _libraries(pid, whole) if pid else None,
        "platform": dict(platform or {}),
    }
    if within is not None:
        seen = inside.ask(within, started) if started else None
        return {
            **facts,
            "code": installed.code_in(within.code),
            "python": seen.version if seen else None,
            "packages": installed.told(seen.packages, identity.engine) if seen else None,
        }
    found = installed.ask(started, whole) if started else None
    return {
        **facts,
        "code": _code(plan, started, found, whole),
        "python": found.version if found else None,
        "packages": installed.packages(found, identity.engine) if found else None,
    }


def _started(plan: LaunchPlan | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """The server's own command line and what it was given of an environment."""
    if plan is None:
        return (), {}
    own = plan if plan.container is None else plan.container
    return own.argv, dict(own.env)


def same_subject(one: Mapping[str, Json], other: Mapping[str, Json]) -> bool:
    """Whether both are proven to be the same, so that there is nothing to compare.

    Of launched servers everything must be equal, and code and libraries known: what is unknown on
    either side proves nothing. Of an image its id says what is in it. Nothing is known of what runs
    behind an address that we only attach to, so there the address decides, with all that the server
    says of itself.
    """
    if one.get("url") or other.get("url"):
        return dict(one) == dict(other)
    names = _SAMES if one.get("image") else (*_SAMES, *_INSTALLED)
    alike = all(one.get(name) == other.get(name) for name in names)
    return alike and _digests(one) == _digests(other) and _proven(one)


def _digests(facts: Mapping[str, Json]) -> dict[str, Json] | None:
    """Of the code only what is in it: the same files may stand in several commits."""
    code = facts.get("code")
    if not isinstance(code, Mapping):
        return None
    return {name: root["digest"] for name, root in code.items() if isinstance(root, dict)}


def _proven(facts: Mapping[str, Json]) -> bool:
    code, libraries = _digests(facts), facts.get("libraries")
    if facts.get("image"):
        return code is not None and None not in code.values()
    if code is None or not isinstance(libraries, Mapping):
        return False
    # Without any Python code there are no packages to know.
    packages = facts.get("packages") is not None or not code
    return packages and None not in (*code.values(), *libraries.values())


# --- arguments -------------------------------------------------------------------------------


class _Mask:
    """Takes out of a text what differs between launches, users and machines."""

    def __init__(self, plan: LaunchPlan | None, home: str) -> None:
        places = {str(path.parent) for path, _ in plan.files} if plan else set()
        self._swaps = [(place, "<scratch>") for place in sorted(places, key=len, reverse=True)]
        self._swaps += [(home.rstrip("/"), "~")] if len(home) > 1 else []
        # It is the same server wherever it listens.
        host = re.escape(plan.host) if plan and plan.host != LOOPBACK else None
        self._host = re.compile(rf"(?<![\w.:]){host}(?![\w.:])") if host else None
        self._port = re.compile(rf"(?<!\d){plan.port}(?!\d)") if plan and plan.port else None

    def text(self, text: str) -> str:
        for place, instead in self._swaps:
            text = re.sub(rf"{re.escape(place)}(?=/|$)", instead, text)
        for pattern, instead in _TEMPORARY:
            text = pattern.sub(instead, text)
        text = self._host.sub(LOOPBACK, text) if self._host else text
        return self._port.sub("<port>", text) if self._port else text

    def json(self, value: Json) -> Json:
        match value:
            case str():
                return self.text(value)
            case list():
                return [self.json(item) for item in value]
            case dict():
                return self.mapping(value)
            case _:
                return value

    def mapping(self, values: Mapping[str, Json]) -> dict[str, Json]:
        """Without what is ``None`` or fleeting, in the order of names."""
        return {
            name: self.json(value)
            for name, value in sorted(values.items())
            if value is not None and not _FLEETING.search(name)
        }


def _args(identity: ServerIdentity, argv: Sequence[str], mask: _Mask) -> dict[str, Json]:
    given = flags(redact_argv(argv[1:], repeated=False))
    return mask.mapping({**given, **redact_mapping(identity.args, repeated=False)})


def flags(words: Sequence[str]) -> dict[str, Json]:
    """A command line as names and values: ``--a-b 1`` is ``{"a_b": "1"}``, a flag alone is true,
    a repeated one a list; words that belong to no flag are listed as "words"."""
    found: dict[str, list[Json]] = {}
    name = ""
    for word in words:
        if _is_flag(word):
            flag, assigned, value = word.partition("=")
            name = flag if len(flag) == 2 else flag.lstrip("-").replace("-", "_")
            found.setdefault(name, [])
            if assigned:
                found[name].append(value)
                name = ""
        elif name:
            found[name].append(word)
        else:
            found.setdefault("words", []).append(word)
    return {name: _one(values) for name, values in found.items()}


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.match(r"-\.?\d|-$|--$", word)


def _one(values: list[Json]) -> Json:
    if len(values) > 1:
        return values
    return values[0] if values else True


# --- environment -----------------------------------------------------------------------------


def _env(
    engine: str, given: Mapping[str, str], inherited: Mapping[str, str], mask: _Mask
) -> dict[str, Json]:
    own = f"{re.sub('[^A-Z0-9]', '_', engine.upper())}_"
    meant = {
        name: value
        for name, value in inherited.items()
        if _INHERITED.match(name) or name.startswith(own)
    }
    shown = redact_env(sorted({**meant, **given}.items()), repeated=False)
    return {
        name: _basenames(value) if name == "PYTHONPATH" else mask.text(value)
        for name, value in shown
        if not _FLEETING_VARIABLE.search(name) and not _is_cache(name, value)
    }


def _is_cache(name: str, value: str) -> bool:
    return _CACHE_VARIABLE.search(name) is not None and value.startswith(("/", "~"))


def _basenames(paths: str) -> str:
    """What lies there is part of the code, wherever that is."""
    return os.pathsep.join(Path(path).name for path in paths.split(os.pathsep) if path)


def _libraries(pid: int, env: Mapping[str, str]) -> dict[str, Json] | None:
    caches = [value for name, value in env.items() if _is_cache(name, value)]
    return mapped.libraries(pid, caches)


# --- code ------------------------------------------------------------------------------------


def _code(
    plan: LaunchPlan | None,
    started: installed.Program | None,
    found: installed.Found | None,
    env: Mapping[str, str],
) -> dict[str, Json] | None:
    if plan is None:
        return None
    if started is None:
        return {}
    return installed.code(found, started, env.get("PYTHONPATH", "")) if found else None


def _revision(identity: ServerIdentity, argv: Sequence[str], env: Mapping[str, str]) -> str | None:
    said = {**flags(argv[1:]), **identity.args}
    # Where a server may say what it loaded, the surest first.
    places = [said.get(name) for name in ("model_path", "model", "-m", "model_tag")]
    wanted = said.get("revision")
    return weights.revision(
        [place for place in places if isinstance(place, str)],
        env,
        wanted=wanted if isinstance(wanted, str) else "main",
    )


def _plain_url(url: str | None) -> str | None:
    return None if url is None else redact_text(url).partition("?")[0].rstrip("/")
