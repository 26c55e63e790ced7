"""Asking docker or podman: which image is meant, and what of a running container can be seen."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from pytest_llmperf.errors import ServerError
from pytest_llmperf.records import Container, Json, LaunchPlan, Placement
from pytest_llmperf.redact import redact_text

from .container import DRIVER_FILES, TOOLS, Image, Places, causes, contained
from .diagnose import diagnose
from .leftovers import MARK

_ASK_S = 60.0
_ELSEWHERE = {"docker": "DOCKER_HOST", "podman": "CONTAINER_HOST"}
_HERE = ("unix:", "npipe:", "fd:", "/")

#: Images by tool and name: what a name means must not change while a session lasts.
_images: dict[tuple[str, str], Image] = {}


# --- before a launch -------------------------------------------------------------------------


def find_image(name: str, asked: str | None = None) -> Image:
    """The image called ``name``, as the tool ``asked`` for knows it, by default docker where it is
    installed and else podman.

    Raises :class:`~pytest_llmperf.errors.ServerError` saying why it cannot be used.
    """
    tool = _tool(name, asked)
    if (tool, name) not in _images:
        _images[tool, name] = _inspected(tool, name)
    return _images[tool, name]


def _tool(name: str, asked: str | None) -> str:
    found = [tool for tool in ((asked,) if asked else TOOLS) if shutil.which(tool)]
    if not found:
        wanted = asked or f"neither {' nor '.join(TOOLS)}"
        raise ServerError(
            f"nothing here can run the image {name!r}: {wanted} is {'not ' if asked else ''}"
            "installed",
            remedy=f"install one of {' and '.join(TOOLS)}, or start the engine of an environment "
            "(python= of llm_server)",
        )
    tool = found[0]
    variable = _ELSEWHERE[tool]
    host = os.environ.get(variable, "")
    if host and not host.startswith(_HERE):
        raise ServerError(
            f"{tool} works on another machine here: {variable}={redact_text(host)}",
            cause="a server must run on the machine whose devices and ports are measured",
            remedy=f"unset {variable}, or run pytest there",
        )
    return tool


def _inspected(tool: str, name: str) -> Image:
    status, out, said = _run((tool, "image", "inspect", name))
    if status != 0:
        lines = tuple(line for line in said.splitlines() if line.strip())
        found = diagnose(lines, None, causes(tool, name))
        asked = f"{tool} image inspect: {said.strip() or f'status {status}'}"
        raise ServerError(
            found.cause or f"the image {name!r} cannot be started: {asked}",
            remedy=found.remedy or f"see that this works: {tool} image inspect {name}",
        )
    match _parsed(out):
        case [{"Id": str(id_), "Config": {**config}}, *_]:
            return Image(
                tool=tool,
                name=name,
                id=id_,
                env=_variables(config.get("Env")),
                entrypoint=tuple(_words(config.get("Entrypoint"))),
            )
    raise ServerError(
        f"the image {name!r} cannot be started: {tool} image inspect did not tell its id",
        remedy=f"see what it prints: {tool} image inspect {name}",
    )


def _parsed(text: str) -> Json:
    try:
        told: Json = json.loads(text)
    except ValueError:
        return None
    return told


def _variables(listed: object) -> dict[str, str]:
    pairs = (word.partition("=") for word in _words(listed))
    return {name: value for name, _, value in pairs}


def _words(listed: object) -> list[str]:
    words = listed if isinstance(listed, list) else []
    return [word for word in words if isinstance(word, str)]


def into_container(
    plan: LaunchPlan,
    image: Image,
    placement: Placement,
    environ: Mapping[str, str] | None = None,
) -> LaunchPlan:
    """``plan`` in a container of ``image``, with a name that no other has.

    ``environ`` is this process's environment by default. For a model of the hub a directory is
    made that keeps what is downloaded, where there is none and one can be made. Raises
    :class:`~pytest_llmperf.errors.ServerError` for what cannot be mounted.
    """
    name = f"llmperf-{os.getpid()}-{secrets.token_hex(4)}"
    environ = os.environ if environ is None else environ
    places = _places(plan, image, placement, environ)
    return contained(plan, image, placement.accelerator, name=name, places=places)


def _places(
    plan: LaunchPlan, image: Image, placement: Placement, environ: Mapping[str, str]
) -> Places:
    given = dict(plan.env)
    model = Path(placement.model_path)
    code = tuple(_code(given, image))
    driver = (Path(file) for file in DRIVER_FILES.get(placement.accelerator.vendor, ()))
    read = [*code, *(path.parent for path, _ in plan.files), *filter(Path.exists, driver)]
    hub = _hub(given, environ)
    if not model.is_absolute():
        _make(hub.values())
    elif model.exists():
        read += [model, *_behind(model, hub.values())]
    for path in filter(None, (*read, *hub.values(), placement.profiles)):
        if ":" in str(path):
            raise ServerError(
                f"{path} cannot be seen in a container: its name holds a colon",
                remedy="move it, or reach it by a link without one",
            )
    hub = {name: path for name, path in hub.items() if path.is_dir()}
    return Places(
        read=tuple(dict.fromkeys(read)),
        written=tuple(dict.fromkeys([*hub.values(), *filter(None, [placement.profiles])])),
        code=code,
        env=tuple((name, str(path)) for name, path in hub.items()),
    )


def _make(directories: Iterable[Path]) -> None:
    # What cannot be made is not mounted: what is downloaded is then gone with the container.
    with contextlib.suppress(OSError):
        for path in directories:
            path.mkdir(parents=True, exist_ok=True)


def _behind(model: Path, hub: Collection[Path]) -> list[Path]:
    """Where files lie that a model's directory only links to; the hub's are seen anyway."""
    links = (path for path in model.iterdir() if path.is_symlink()) if model.is_dir() else ()
    places = dict.fromkeys(link.resolve().parent for link in links)
    seen = (model.resolve(), *hub)
    return [place for place in places if not any(place.is_relative_to(one) for one in seen)]


def _code(given: Mapping[str, str], image: Image) -> Iterator[Path]:
    """What the plan itself puts on the path; the rest of it is the image's own."""
    own = image.env.get("PYTHONPATH", "").split(os.pathsep)
    for entry in filter(None, given.get("PYTHONPATH", "").split(os.pathsep)):
        if entry not in own and Path(entry).is_absolute() and Path(entry).is_dir():
            yield Path(entry)


def _hub(given: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, Path]:
    """Where models of the hub are kept, by the variables that say so."""
    said = {**environ, **given}
    cache = Path(said.get("XDG_CACHE_HOME") or Path(environ.get("HOME", "~"), ".cache"))
    places = {"HF_HOME": Path(said.get("HF_HOME") or cache / "huggingface")}
    if said.get("HF_HUB_CACHE"):
        places["HF_HUB_CACHE"] = Path(said["HF_HUB_CACHE"])
    return {name: path.expanduser().absolute() for name, path in places.items()}


# --- while it runs ---------------------------------------------------------------------------


def pid_of(container: Container, launch_id: str) -> int | None:
    """The container's first process as this process can see it; ``None`` where it cannot, as in a
    container beside it or outside of a virtual machine."""
    asked = (container.tool, "container", "inspect", "--format", "{{.State.Pid}} {{.Id}}")
    status, out, _ = _run((*asked, container.name))
    number, _, id_ = out.strip().partition(" ")
    if status != 0 or not number.isdecimal() or int(number) == 0:
        return None
    return int(number) if _is_it(int(number), id_.strip(), launch_id) else None


def _is_it(pid: int, id_: str, launch_id: str) -> bool:
    """Whether the process that has this number here is the container's."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        if psutil.Process(pid).environ().get(MARK) == launch_id:
            return True
    with contextlib.suppress(OSError):
        return bool(id_) and id_ in Path(f"/proc/{pid}/cgroup").read_text()
    return False


def pin(container: Container, cores: Sequence[int]) -> None:
    """Keep a container on some cores. Raises OSError with the words of the tool."""
    wanted = ",".join(map(str, cores))
    status, _, said = _run((container.tool, "update", "--cpuset-cpus", wanted, container.name))
    if status != 0:
        raise OSError(f"{container.tool} update: {said.strip() or f'status {status}'}")


def output_inside(container: Container, command: Sequence[str]) -> str | None:
    """What a command in a running container prints; ``None`` where it fails."""
    status, out, _ = _run((container.tool, "exec", container.name, *command))
    return out.strip() if status == 0 else None


def _run(command: Sequence[str], seconds: float = _ASK_S) -> tuple[int, str, str]:
    """Status, output and errors; a command that hangs has failed, and says so."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, "", f"no answer within {seconds:g} s"
    except OSError as error:
        return 1, "", str(error)
    return done.returncode, done.stdout, done.stderr
