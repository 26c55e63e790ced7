"""A plan in a container, as a command line."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf import options
from pytest_llmperf.launch import container as containers
from pytest_llmperf.launch.container import Image, Places, causes, contained, exit_status
from pytest_llmperf.launch.diagnose import diagnose
from pytest_llmperf.launch.leftovers import MARK
from pytest_llmperf.records import (
    Accelerator,
    Container,
    Device,
    FailureCause,
    HttpProbe,
    LaunchPlan,
    Vendor,
)

ID = "sha256:" + "0f" * 32
PLAN = LaunchPlan(
    engine="eng",
    argv=("python3", "-m", "eng", "--port", "20001"),
    env=(("A", "1"), ("HF_TOKEN", "hf_secret")),
    host="127.0.0.1",
    port=20001,
    ready=HttpProbe(path="/health"),
    start_timeout_s=10,
    stop_grace_s=1,
    causes=(FailureCause(pattern="of the engine", cause="its own", remedy=""),),
    notes=("a note",),
)
PLACES = Places(
    read=(Path("/models/m"), Path("/code")),
    written=(Path("/cache/hf"),),
    code=(Path("/code"),),
    env=(("HF_HOME", "/cache/hf"),),
)


def devices(vendor: Vendor, *uuids: str) -> Accelerator:
    found = (
        Device(vendor=vendor, product="X", index=index, uuid=uuid)
        for index, uuid in enumerate(uuids)
    )
    return Accelerator(devices=tuple(found), source="test")


def wrapped(tool: str, accelerator: Accelerator, **changes: Any) -> LaunchPlan:
    image = Image(tool=tool, name="eng:1", id=ID if tool == "docker" else ID[7:])
    plan = replace(PLAN, **changes)
    return contained(plan, image, accelerator, name="llmperf-1-a", places=PLACES)


@pytest.mark.parametrize(
    ("entrypoint", "said"),
    [
        ((), (ID, "python3", "-m", "eng")),
        (("/opt/nvidia/nvidia_entrypoint.sh",), (ID, "python3", "-m", "eng")),
        (("/usr/bin/tini", "--"), (ID, "python3", "-m", "eng")),
        (("/bin/bash", "-e", "/entrypoint.sh"), (ID, "python3", "-m", "eng")),
        (("docker-entrypoint", "x"), (ID, "python3", "-m", "eng")),
        (("vllm", "serve"), ("--entrypoint", "python3", ID, "-m", "eng")),
        (("/app/llama-server",), ("--entrypoint", "python3", ID, "-m", "eng")),
        (("python3", "-m", "vllm.entrypoints.api"), ("--entrypoint", "python3", ID, "-m", "eng")),
    ],
)
def test_an_engine_that_an_image_begins_with_gives_way(
    entrypoint: tuple[str, ...], said: tuple[str, ...]
) -> None:
    image = Image(tool="docker", name="eng:1", id=ID, entrypoint=entrypoint)
    plan = contained(PLAN, image, devices("cpu", "c"), name="llmperf-1-a", places=PLACES)
    assert plan.argv[-len(said) - 2 :] == (*said, "--port", "20001")
    assert plan.container is not None
    assert plan.container.argv == PLAN.argv


HEAD = {
    "docker": [
        *("docker", "run", "--rm", "--name", "llmperf-1-a"),
        *("--label", f"pytest-llmperf={os.getpid()}"),
        *("--pull", "never", "--network", "host", "--ipc", "host"),
    ],
    "podman": [
        *("podman", "run", "--rm", "--name", "llmperf-1-a"),
        *("--label", f"pytest-llmperf={os.getpid()}"),
        *("--pull", "never", "--network", "host", "--ipc", "host"),
        *("--security-opt", "label=disable", "--stop-timeout", "0"),
    ],
}
HUB = ["--env", MARK, "--env", "HF_ENDPOINT", "--env", "HF_HUB_OFFLINE"]
GIVEN = ["--env", "A=1", "--env", "HF_HOME=/cache/hf", "--env", "HF_TOKEN"]
VOLUMES = [
    *("--volume", "/models/m:/models/m:ro", "--volume", "/code:/code:ro"),
    *("--volume", "/cache/hf:/cache/hf"),
]
OWN = ["python3", "-m", "eng", "--port", "20001"]
AMD_SEEN = [
    *("--env", "ROCR_VISIBLE_DEVICES", "--env", "HIP_VISIBLE_DEVICES"),
    *("--env", "CUDA_VISIBLE_DEVICES"),
]
AMD = ["--device", "/dev/kfd", "--device", "/dev/dri", "--group-add"]
ASCEND = [
    *("--device", "/dev/davinci0", "--device", "/dev/davinci1"),
    *("--device", "/dev/davinci_manager", "--device", "/dev/devmm_svm"),
    *("--device", "/dev/hisi_hdc"),
]


@pytest.mark.parametrize(
    ("tool", "accelerator", "passed", "seen"),
    [
        ("docker", devices("cpu", "CPU"), [], []),
        ("podman", devices("cpu", "CPU"), [], []),
        ("docker", devices("nvidia", "GPU-a"), ["--gpus", '"device=GPU-a"'], []),
        (
            "docker",
            devices("nvidia", "GPU-a", "GPU-b"),
            ["--gpus", '"device=GPU-a,GPU-b"'],
            [],
        ),
        (
            "podman",
            devices("nvidia", "GPU-a", "GPU-b"),
            ["--device", "nvidia.com/gpu=0", "--device", "nvidia.com/gpu=1"],
            [],
        ),
        ("podman", devices("nvidia", "MIG-a"), ["--device", "nvidia.com/gpu=MIG-a"], []),
        (
            "docker",
            devices("amd", "GPU-a"),
            [*AMD, "video", "--security-opt", "seccomp=unconfined"],
            AMD_SEEN,
        ),
        (
            "podman",
            devices("amd", "GPU-a"),
            [*AMD, "keep-groups", "--security-opt", "seccomp=unconfined"],
            AMD_SEEN,
        ),
        ("docker", devices("ascend", "NPU-a", "NPU-b"), ASCEND, []),
        ("podman", devices("ascend", "NPU-a", "NPU-b"), ASCEND, []),
        ("docker", devices("intel", "XPU-a"), ["--device", "/dev/dri"], []),
        ("podman", devices("intel", "XPU-a"), ["--device", "/dev/dri"], []),
    ],
)
def test_the_whole_command(
    tool: str, accelerator: Accelerator, passed: list[str], seen: list[str]
) -> None:
    made = wrapped(tool, accelerator)
    image = ID if tool == "docker" else ID[7:]
    assert list(made.argv) == [
        *(*HEAD[tool], *passed),
        *(*HUB, *seen, *GIVEN, *VOLUMES),
        *(image, *OWN),
    ]


def test_a_secret_is_named_on_the_command_line_and_given_beside_it() -> None:
    made = wrapped("docker", devices("cpu", "CPU"))
    assert "hf_secret" not in str(made.argv)
    assert made.env == (("HF_TOKEN", "hf_secret"),)


def test_what_the_plan_sets_is_not_taken_from_here() -> None:
    plan = wrapped("docker", devices("amd", "G"), env=(("HIP_VISIBLE_DEVICES", "1"),))
    words = list(plan.argv)
    assert "HIP_VISIBLE_DEVICES" not in words
    assert words[words.index("HIP_VISIBLE_DEVICES=1") - 1] == "--env"


@pytest.mark.parametrize(
    ("tool", "end"),
    [
        ("docker", ("docker", "rm", "--force", "--volumes", "llmperf-1-a")),
        ("podman", ("podman", "rm", "--force", "--volumes", "--ignore", "llmperf-1-a")),
    ],
)
def test_how_it_is_ended_for_certain(tool: str, end: tuple[str, ...]) -> None:
    assert wrapped(tool, devices("cpu", "CPU")).end == end


def test_the_plan_keeps_what_the_server_itself_was_given() -> None:
    made = wrapped("docker", devices("cpu", "CPU"))
    assert made.container == Container(
        tool="docker",
        name="llmperf-1-a",
        image="eng:1",
        image_id="0f" * 8,
        argv=PLAN.argv,
        env=PLAN.env,
        code=(Path("/code"),),
    )
    assert (made.host, made.port, made.ready) == (PLAN.host, PLAN.port, PLAN.ready)
    assert made.notes == ("a note", f"runs in a container of docker: eng:1, {'0f' * 8}")


def test_both_tools_write_an_id_alike_in_a_subject() -> None:
    one, other = (wrapped(tool, devices("cpu", "CPU")).container for tool in ("docker", "podman"))
    assert one is not None
    assert other is not None
    assert one.image_id == other.image_id


@pytest.mark.parametrize(
    ("status", "meant"), [(0, 0), (1, 1), (125, 125), (128, 128), (137, -9), (143, -15), (255, 255)]
)
def test_signals_are_told_as_those_of_the_server(status: int, meant: int) -> None:
    inside = wrapped("docker", devices("cpu", "CPU")).container
    assert exit_status(inside, status) == meant
    assert exit_status(None, status) == status


@pytest.mark.parametrize(
    ("tool", "line", "cause", "remedy"),
    [
        (
            "docker",
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
            "Is the docker daemon running?",
            "docker's daemon does not run",
            "systemctl start docker",
        ),
        (
            "docker",
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/"
            'run/docker.sock: Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.45/images/x/json": dial '
            "unix /var/run/docker.sock: connect: permission denied",
            "this user may not talk to docker's daemon",
            "--llmperf-container podman",
        ),
        (
            "docker",
            "Error response from daemon: No such image: eng:1",
            "has no image",
            "docker pull",
        ),
        (
            "docker",
            "docker: Error response from daemon: No such image: eng:1.",
            "has no image 'eng:1'",
            "docker pull eng:1",
        ),
        ("podman", "Error: eng:1: image not known", "has no image 'eng:1'", "podman pull eng:1"),
        (
            "docker",
            "docker: Error response from daemon: could not select device driver "
            '"" with capabilities: [[gpu]].',
            "cannot pass NVIDIA devices",
            "nvidia-ctk runtime configure --runtime=docker",
        ),
        (
            "podman",
            "Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=0",
            "does not know the NVIDIA device",
            "nvidia-ctk cdi generate",
        ),
        (
            "docker",
            "docker: Error response from daemon: error gathering device information while adding "
            'custom device "/dev/kfd": no such file or directory.',
            "a device that was to be passed",
            "driver is loaded",
        ),
        (
            "docker",
            "docker: Error response from daemon: failed to create task for container: failed to "
            "create shim task: OCI runtime create failed: runc create failed: unable to start "
            'container process: exec: "python3": executable file not found in $PATH: unknown.',
            "the image lacks the program",
            "python= of llm_server",
        ),
        (
            "podman",
            "Error: crun: executable file `python3` not found in $PATH: No such file or directory: "
            "OCI runtime attempted to invoke a command that was not found",
            "the image lacks the program",
            "python= of llm_server",
        ),
        (
            "podman",
            'Error: runc: runc create failed: unable to start container process: exec: "python9": '
            "executable file not found in $PATH: OCI runtime attempted to invoke a command that "
            "was not found",
            "the image lacks the program",
            "python= of llm_server",
        ),
        (
            "podman",
            "Error: stat /dev/kfd: no such file or directory",
            "a device that was to be passed",
            "driver is loaded",
        ),
        (
            "docker",
            "Error response from daemon: no such image: Bad:1:x: invalid reference format: "
            "repository name must be lowercase",
            "is no name of an image",
            "NAME:TAG",
        ),
        (
            "podman",
            "Error: inspecting object: invalid reference format",
            "is no name of an image",
            "NAME:TAG",
        ),
        (
            "podman",
            "Error: inspecting object: eng:1: image not known",
            "has no image 'eng:1'",
            "podman pull eng:1",
        ),
        ("docker", "of the engine", "its own", ""),
        (
            "docker",
            "docker: Error response from daemon: something new.",
            "docker could not run the container",
            "docker info",
        ),
        ("podman", "Error: something new", "podman could not run the container", "podman info"),
    ],
)
def test_what_a_tool_says_in_words(tool: str, line: str, cause: str, remedy: str) -> None:
    plan = wrapped(tool, devices("cpu", "CPU"))
    found = diagnose([line, "Run 'docker run --help' for more information"], 125, plan.causes)
    assert cause in found.cause
    assert line[:60] in found.cause
    assert remedy in found.remedy


def test_every_tool_has_its_words_and_its_option() -> None:
    assert options.TOOLS == containers.TOOLS
    assert all(causes(tool, "x") for tool in containers.TOOLS)
