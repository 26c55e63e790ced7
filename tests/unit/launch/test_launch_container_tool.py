"""What is asked of docker and podman, with scripts in their place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.engines.sglang import SGLang
from pytest_llmperf.engines.sglang_cpu import SERVER_PATH
from pytest_llmperf.errors import ServerError
from pytest_llmperf.launch import container_tool, inside
from pytest_llmperf.launch.container import Image
from pytest_llmperf.launch.container_tool import find_image, into_container, pid_of, pin
from pytest_llmperf.launch.installed import Program
from pytest_llmperf.launch.leftovers import MARK
from pytest_llmperf.records import Accelerator, Container, Device, Placement, ServerRequest

ID = "sha256:" + "0f" * 32
INSPECTED = json.dumps([{"Id": ID, "Config": {"Env": ["PATH=/bin", "A=b=c"]}}])
BOX = Container(
    tool="docker", name="box", image="i", image_id="0f", argv=("python3", "-m", "eng"), env=()
)
Programs = Callable[[str, str], None]


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Programs:
    """Puts shell scripts on the path, and nothing else but the system's."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    for variable in ("DOCKER_HOST", "CONTAINER_HOST"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(container_tool, "_images", {})
    monkeypatch.setattr(inside, "_answers", {})
    monkeypatch.setattr("shutil.which", lambda name: which(tmp_path, name))

    def write(name: str, text: str) -> None:
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)

    return write


def which(directory: Path, name: str) -> str | None:
    return str(directory / name) if (directory / name).exists() else None


def says(text: str) -> str:
    return f"cat <<'END'\n{text}\nEND"


# --- the image -------------------------------------------------------------------------------


def test_docker_is_asked_where_both_are(programs: Programs) -> None:
    programs("docker", says(INSPECTED))
    programs("podman", "exit 1")
    found = find_image("eng:1")
    assert found == Image(tool="docker", name="eng:1", id=ID, env={"PATH": "/bin", "A": "b=c"})
    assert found.digest == "0f" * 8


def test_podman_is_asked_where_it_is_alone(programs: Programs) -> None:
    programs("podman", says(INSPECTED.replace("sha256:", "")))
    assert find_image("eng:1").tool == "podman"
    assert find_image("eng:1").digest == "0f" * 8


def test_the_one_that_was_chosen_is_asked(programs: Programs) -> None:
    programs("docker", "exit 1")
    programs("podman", says(INSPECTED))
    assert find_image("eng:1", "podman").tool == "podman"


def test_an_image_stays_what_it_was_while_a_session_lasts(programs: Programs) -> None:
    programs("docker", says(INSPECTED))
    before = find_image("eng:1")
    programs("docker", says(INSPECTED.replace("0f", "aa")))
    assert find_image("eng:1") == before


def test_an_image_without_an_environment(programs: Programs) -> None:
    programs("podman", says(json.dumps([{"Id": ID, "Config": {"Env": None}}])))
    assert find_image("eng:1").env == {}


@pytest.mark.parametrize(
    ("asked", "missing"), [(None, "neither docker nor podman"), ("podman",) * 2]
)
def test_nothing_to_run_it_with(programs: Programs, asked: str | None, missing: str) -> None:
    with pytest.raises(ServerError, match="nothing here can run the image 'eng:1'") as caught:
        find_image("eng:1", asked)
    assert missing in caught.value.summary
    assert "install one of docker and podman" in caught.value.remedy


def test_a_daemon_on_another_machine(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs("docker", says(INSPECTED))
    monkeypatch.setenv("DOCKER_HOST", "tcp://me:secret@far:2376")
    with pytest.raises(ServerError, match="works on another machine") as caught:
        find_image("eng:1")
    assert "secret" not in str(caught.value)
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/user/1000/docker.sock")
    assert find_image("eng:1").id == ID


@pytest.mark.parametrize(
    ("said", "cause", "remedy"),
    [
        (
            "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. "
            "Is the docker daemon running?",
            "docker's daemon does not run",
            "systemctl start docker",
        ),
        (
            "permission denied while trying to connect to the Docker daemon socket",
            "this user may not talk to docker's daemon",
            "group",
        ),
        ("Error response from daemon: No such image: eng:1", "has no image", "docker pull eng:1"),
        ("something new", "docker image inspect: something new", "docker image inspect eng:1"),
        ("", "docker image inspect: status 1", "docker image inspect eng:1"),
    ],
)
def test_why_an_image_cannot_be_used(
    programs: Programs, said: str, cause: str, remedy: str
) -> None:
    programs("docker", f"echo '[]'\ncat >&2 <<'END'\n{said}\nEND\nexit 1")
    with pytest.raises(ServerError) as caught:
        find_image("eng:1")
    assert cause in caught.value.summary
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("out", ["", "{", "[]", '[{"Id": 1}]'])
def test_an_answer_that_tells_no_id(programs: Programs, out: str) -> None:
    programs("docker", says(out))
    with pytest.raises(ServerError, match="cannot be started") as caught:
        find_image("eng:1")
    assert "did not tell its id" in caught.value.summary


def test_a_tool_that_hangs(programs: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    programs("docker", "exec sleep 60")
    monkeypatch.setattr(
        container_tool,
        "_run",
        lambda command: run_shortly(command),  # the real one waits longer
    )
    with pytest.raises(ServerError) as caught:
        find_image("eng:1")
    assert "no answer within 0.2 s" in caught.value.summary


run = container_tool._run


def run_shortly(command: tuple[str, ...]) -> tuple[int, str, str]:
    return run(command, 0.2)


# --- what is mounted -------------------------------------------------------------------------


IMAGE = Image(tool="docker", name="eng:1", id=ID, env={"PYTHONPATH": "/in/the/image"})
CPU = Accelerator(
    devices=(Device(vendor="cpu", product="C", index=0, uuid="CPU"),), source="cpuinfo"
)


def placed(model: str) -> Placement:
    return Placement(
        host="127.0.0.1",
        port=20001,
        accelerator=CPU,
        model_path=model,
        served_name="m",
        python="python3",
        environ=IMAGE.env,
    )


def mounted(
    placement: Placement, environ: dict[str, str], **env: str
) -> tuple[list[str], list[str]]:
    """The volumes and the environment of a container with SGLang on the processor."""
    request = ServerRequest(engine="sglang", model="m", env=tuple(env.items()))
    plan = SGLang({"PYTHONPATH": "/of/this/machine"}).plan(request, placement)
    argv = into_container(plan, IMAGE, placement, environ).argv
    return values(argv, "--volume"), values(argv, "--env")


def values(argv: tuple[str, ...], option: str) -> list[str]:
    return [argv[at + 1] for at, word in enumerate(argv) if word == option]


def test_a_local_model_and_our_own_code_are_read_only(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    volumes, env = mounted(placed(str(model)), {"HOME": str(tmp_path)})
    assert volumes == [f"{SERVER_PATH}:{SERVER_PATH}:ro", f"{model}:{model}:ro"]
    assert f"PYTHONPATH={SERVER_PATH}:/in/the/image" in env
    assert not any(word.startswith("HF_HOME") for word in env)


def test_a_model_in_the_image_is_left_there(tmp_path: Path) -> None:
    volumes, _ = mounted(placed("/no/such/directory/here"), {"HOME": str(tmp_path)})
    assert volumes == [f"{SERVER_PATH}:{SERVER_PATH}:ro"]
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    volumes, env = mounted(placed("org/model"), {"HF_HOME": str(tmp_path / "file" / "hf")})
    assert volumes == [f"{SERVER_PATH}:{SERVER_PATH}:ro"]
    assert not any(word.startswith("HF_HOME") for word in env)


def test_a_path_that_no_option_can_name(tmp_path: Path) -> None:
    model = tmp_path / "a:b"
    model.mkdir()
    with pytest.raises(ServerError, match="its name holds a colon"):
        mounted(placed(str(model)), {"HOME": str(tmp_path)})


def test_what_a_models_directory_links_to_is_seen_too(tmp_path: Path) -> None:
    model, blobs = tmp_path / "model", tmp_path / "blobs"
    for directory in (model, blobs):
        directory.mkdir()
    (blobs / "weights").write_text("w")
    (model / "one.safetensors").symlink_to(blobs / "weights")
    (model / "two.safetensors").symlink_to(blobs / "weights")
    (model / "same").symlink_to(model / "one.safetensors")
    volumes, _ = mounted(placed(str(model)), {"HOME": str(tmp_path)})
    assert volumes[1:] == [f"{model}:{model}:ro", f"{blobs}:{blobs}:ro"]


def test_a_model_of_the_hub_is_kept_here(tmp_path: Path) -> None:
    cache = tmp_path / "hf"
    volumes, env = mounted(placed("org/model"), {"HF_HOME": str(cache)})
    assert volumes[-1] == f"{cache}:{cache}"
    assert f"HF_HOME={cache}" in env
    assert cache.is_dir()


def test_a_hub_cache_of_its_own_is_seen_too(tmp_path: Path) -> None:
    volumes, env = mounted(
        placed("org/model"), {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "c")},
        HF_HUB_CACHE=str(tmp_path / "hub"),
    )  # fmt: skip
    home = tmp_path / "c" / "huggingface"
    assert volumes[-2:] == [f"{home}:{home}", f"{tmp_path / 'hub'}:{tmp_path / 'hub'}"]
    assert env.count(f"HF_HUB_CACHE={tmp_path / 'hub'}") == 1


def test_each_container_has_a_name_of_its_own(tmp_path: Path) -> None:
    plan = SGLang({}).plan(ServerRequest(engine="sglang", model="m"), placed("/m"))
    names = {
        box.name
        for _ in range(3)
        if (box := into_container(plan, IMAGE, placed("/m"), {"HOME": str(tmp_path)}).container)
    }
    assert len(names) == 3
    assert all(name.startswith(f"llmperf-{os.getpid()}-") for name in names)


def test_compiled_modules_are_kept_where_the_image_says() -> None:
    environ = {"PYTHONDONTWRITEBYTECODE": "1", "HOME": "/home/me"}
    plan = SGLang(environ).plan(ServerRequest(engine="sglang", model="m"), placed("/m"))
    assert "PYTHONPYCACHEPREFIX" not in dict(plan.env)


# --- a running container ---------------------------------------------------------------------


def test_a_container_that_can_be_seen(programs: Programs) -> None:
    env = {**os.environ, MARK: "abcd"}
    with subprocess.Popen(["/bin/sleep", "60"], env=env) as process:
        programs("docker", f"echo {process.pid} 0123456789ab")
        assert pid_of(BOX, "abcd") == process.pid
        # A number of another namespace, which here is somebody else's.
        assert pid_of(BOX, "other") is None
        process.kill()


def test_a_container_that_is_known_by_its_group_alone(
    programs: Programs, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = Path("/proc/self/cgroup").read_text().split()
    programs("docker", f"echo {os.getpid()} '{groups[0]}'")
    assert pid_of(BOX, "not the mark of this process") == os.getpid()


@pytest.mark.parametrize("text", ["echo 0 abc", "echo '<no value> abc'", "exit 1", "exec true"])
def test_a_container_that_cannot_be_seen(programs: Programs, text: str) -> None:
    programs("docker", text)
    assert pid_of(BOX, "abcd") is None


def test_cores_are_set_by_the_tool(programs: Programs, tmp_path: Path) -> None:
    programs("docker", f'echo "$@" > {tmp_path}/asked')
    pin(BOX, (0, 2, 3))
    assert (tmp_path / "asked").read_text() == "update --cpuset-cpus 0,2,3 box\n"


def test_cores_that_the_tool_refuses(programs: Programs) -> None:
    programs("docker", "echo 'Requested CPUs are not available' >&2; exit 1")
    with pytest.raises(OSError, match="docker update: Requested CPUs are not available"):
        pin(BOX, (99,))


def test_packages_are_told_by_the_interpreter_inside(programs: Programs, tmp_path: Path) -> None:
    programs("docker", f'echo "$1 $2 $3" >> {tmp_path}/asked; shift 3; exec {sys.executable} "$@"')
    seen = inside.ask(BOX, Program(interpreter=("python3",), package="eng"))
    assert seen is not None
    assert seen.version == sys.version.split()[0]
    assert seen.packages["pytest"] == pytest.__version__
    # once an image
    assert (
        inside.ask(replace(BOX, name="other"), Program(interpreter=("python3",), package=""))
        == seen
    )
    assert (tmp_path / "asked").read_text() == "exec box python3\n"


@pytest.mark.parametrize("text", ["exit 1", "echo no json", "echo '{}'", "true"])
def test_packages_that_nobody_tells(programs: Programs, text: str) -> None:
    programs("docker", text)
    assert inside.ask(BOX, Program(interpreter=("python3",), package="")) is None
