"""A plan wrapped in a container: the same server, started by ``docker run`` or ``podman run``.

Networks, shared memory and paths are those of the machine, so that address, port and model mean the
same inside and outside. Nothing here runs anything: see :mod:`.container_tool`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_llmperf.records import Accelerator, Container, Device, FailureCause, LaunchPlan
from pytest_llmperf.redact import is_secret

from .leftovers import MARK

TOOLS = ("docker", "podman")
#: The interpreter of an image, unless the test names another one in it.
PYTHON = "python3"
#: What is ours among all containers of a machine; its value is the process that asked for it.
LABEL = "pytest-llmperf"

#: What a server may need of our environment to load its model; a name without a value is taken
#: from there, and left out where it is not set.
_HUB = ("HF_TOKEN", "HF_ENDPOINT", "HF_HUB_OFFLINE")
#: Which devices are meant, where all of them are passed through.
_AMD_VISIBLE = ("ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES")
_ASCEND_DEVICES = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
#: The host's part of Ascend's driver, which no image has.
DRIVER_FILES: Mapping[str, tuple[str, ...]] = {
    "ascend": (
        "/usr/local/Ascend/driver",
        "/usr/local/dcmi",
        "/usr/local/sbin/npu-smi",
        "/usr/local/bin/npu-smi",
        "/etc/ascend_install.info",
    )
}

#: Names of programs and scripts that end by running what follows them.
_RUNNER = re.compile(
    r"entrypoint|\.sh$|^(?:.*/)?(?:tini|dumb-init|catatonit|init|env)(?:-static)?$"
)
_SHELL = re.compile(r"^(?:.*/)?(?:ba|da|z)?sh$|^-")
_ID_DIGITS = 16
_SIGNALLED = 128
_SIGNALS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """An image that is here: ``name`` as asked for, its ``id`` as ``tool`` writes it, the
    environment that it brings, and the words that it puts before every command."""

    tool: str
    name: str
    id: str
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()

    @property
    def runs_commands(self) -> bool:
        """Whether it runs the command that it is given, as a script that sets up an environment
        does. Engines' own images begin with their engine, and take a command for its arguments."""
        program = next((word for word in self.entrypoint if not _SHELL.search(word)), "")
        return not self.entrypoint or bool(_RUNNER.search(program))

    @property
    def digest(self) -> str:
        """The beginning of its id, written alike by all tools."""
        return self.id.rpartition(":")[2][:_ID_DIGITS]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """What of this machine is seen inside, where it lies here: ``read`` only, or ``written`` too.
    ``code`` of those are read for code; ``env`` tells the server where its caches are."""

    read: tuple[Path, ...] = ()
    written: tuple[Path, ...] = ()
    code: tuple[Path, ...] = ()
    env: tuple[tuple[str, str], ...] = ()


def contained(
    plan: LaunchPlan, image: Image, accelerator: Accelerator, *, name: str, places: Places
) -> LaunchPlan:
    """``plan`` in a container of ``image`` called ``name``, which sees ``accelerator``.

    The image is started by its id: a name may come to mean another one while a session lasts. Of
    the environment the server gets what the plan sets and what it needs to reach the hub. Values of
    secrets never stand on the command line; the tool takes them from its own environment.
    """
    given = {**dict(places.env), **dict(plan.env)}
    argv = (
        *(image.tool, "run", "--rm", "--name", name, "--label", f"{LABEL}={os.getpid()}"),
        *("--pull", "never", "--network", "host", "--ipc", "host"),
        *_habits(image.tool),
        *_devices(image.tool, accelerator),
        *_environment(given, accelerator),
        *_volumes(places),
        *_command(image, plan.argv),
    )
    inside = Container(
        tool=image.tool,
        name=name,
        image=image.name,
        image_id=image.digest,
        argv=plan.argv,
        env=plan.env,
        code=places.code,
    )
    return replace(
        plan,
        argv=argv,
        env=tuple((key, value) for key, value in plan.env if is_secret(key)),
        causes=(*causes(image.tool, image.name), *plan.causes, _last_cause(image.tool)),
        notes=(*plan.notes, f"runs in a container of {image.tool}: {image.name}, {image.digest}"),
        end=_end(image.tool, name),
        container=inside,
    )


def _command(image: Image, argv: Sequence[str]) -> tuple[str, ...]:
    if image.runs_commands:
        return (image.id, *argv)
    return ("--entrypoint", argv[0], image.id, *argv[1:])


def _habits(tool: str) -> tuple[str, ...]:
    """What podman does otherwise: it labels files, and waits for what it is told to remove."""
    if tool == "podman":
        return ("--security-opt", "label=disable", "--stop-timeout", "0")
    return ()


def _end(tool: str, name: str) -> tuple[str, ...]:
    absent = ("--ignore",) if tool == "podman" else ()
    return (tool, "rm", "--force", "--volumes", *absent, name)


# --- devices ---------------------------------------------------------------------------------


def _devices(tool: str, accelerator: Accelerator) -> tuple[str, ...]:
    match accelerator.vendor:
        case "nvidia" if tool == "docker":
            uuids = ",".join(device.uuid for device in accelerator.devices)
            # The quotes are docker's: without them a comma would begin another field.
            return ("--gpus", f'"device={uuids}"')
        case "nvidia":
            names = (f"nvidia.com/gpu={_cdi(device)}" for device in accelerator.devices)
            return _each("--device", names)
        case "amd":
            # Rootless, the groups that may use the devices are the caller's.
            group = "video" if tool == "docker" else "keep-groups"
            passed = _each("--device", ("/dev/kfd", "/dev/dri"))
            return (*passed, "--group-add", group, "--security-opt", "seccomp=unconfined")
        case "ascend":
            chips = (f"/dev/davinci{device.index}" for device in accelerator.devices)
            return _each("--device", (*chips, *_ASCEND_DEVICES))
        case "intel":
            return ("--device", "/dev/dri")
        case _:
            return ()


def _cdi(device: Device) -> str:
    """A device's name in NVIDIA's own specification; slices have none but their UUID there."""
    return device.uuid if device.uuid.startswith("MIG-") else str(device.index)


def _each(option: str, values: Iterable[str]) -> tuple[str, ...]:
    return tuple(word for value in values for word in (option, value))


# --- environment and files -------------------------------------------------------------------


def _environment(given: Mapping[str, str], accelerator: Accelerator) -> tuple[str, ...]:
    visible = _AMD_VISIBLE if accelerator.vendor == "amd" else ()
    named = [name for name in (MARK, *_HUB, *visible) if name not in given]
    told = [name if is_secret(name) else f"{name}={value}" for name, value in sorted(given.items())]
    return _each("--env", (*named, *told))


def _volumes(places: Places) -> tuple[str, ...]:
    read = (f"{path}:{path}:ro" for path in places.read)
    return _each("--volume", (*read, *(f"{path}:{path}" for path in places.written)))


# --- how it ends -----------------------------------------------------------------------------


def exit_status(container: Container | None, status: int) -> int:
    """How the server itself ended: a tool tells a signal as 128 and its number."""
    if container is not None and _SIGNALLED < status <= _SIGNALLED + _SIGNALS:
        return _SIGNALLED - status
    return status


def causes(tool: str, image: str) -> tuple[FailureCause, ...]:
    """What ``tool`` may say of itself, the most specific first."""
    other = TOOLS[1 - TOOLS.index(tool)]
    choice = f"choose the other tool with --llmperf-container {other}"
    return tuple(
        FailureCause(pattern=pattern, cause=cause, remedy=remedy)
        for pattern, cause, remedy in (
            (
                r"(?i)permission denied.*(?:docker daemon|docker\.sock|docker API|podman\.sock)",
                f"this user may not talk to {tool}'s daemon",
                f"add the user to the group that owns its socket (docker), or {choice}",
            ),
            (
                r"(?i)cannot connect to (?:the )?(?:docker|podman)|is the docker daemon running"
                r"|failed to connect to the docker API",
                f"{tool}'s daemon does not run, or not where this user looks for it",
                f"start it (systemctl start {tool}), or {choice}",
            ),
            (
                r"(?i)invalid reference format",
                f"{image!r} is no name of an image",
                "write it as the tool lists it: NAME:TAG, or an id",
            ),
            (
                r"(?i)no such image|image not known|unable to find image|not found: manifest"
                r"|did not resolve to an image|no such object",
                f"{tool} has no image {image!r}, and none is ever pulled for a measurement",
                f"{tool} pull {image}",
            ),
            (
                r"could not select device driver .*gpu|unknown or invalid runtime name: nvidia",
                f"{tool} cannot pass NVIDIA devices into a container",
                "install NVIDIA's container toolkit and run: "
                f"nvidia-ctk runtime configure --runtime={tool}",
            ),
            (
                r"unresolvable CDI devices?|nvidia\.com/gpu=\S+: no such file",
                f"{tool} does not know the NVIDIA device by that name",
                "run: nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
            ),
            (
                r"(?i)error gathering device information|stat /dev/\S+: no such file",
                "a device that was to be passed into the container is not here",
                "see that the driver is loaded; the log names the device",
            ),
            (
                r"(?i)executable file .*not found|no such file or directory: OCI",
                "the image lacks the program that was to be started in it",
                "name the interpreter inside the image with python= of llm_server",
            ),
        )
    )


def _last_cause(tool: str) -> FailureCause:
    """Whatever else a tool says when nothing was started."""
    return FailureCause(
        pattern=r"^docker: " if tool == "docker" else r"^Error: ",
        cause=f"{tool} could not run the container",
        remedy=f"run the command by hand; {tool} info tells how it is set up",
    )
