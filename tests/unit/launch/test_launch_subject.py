from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.launch.subject import flags, same_subject, subject
from pytest_llmperf.launch.weights import revision
from pytest_llmperf.records import Container, HttpProbe, Json, LaunchPlan, ServerIdentity

NAMES = {
    *("engine", "version", "model", "revision", "url", "image", "args", "env", "code"),
    *("libraries", "python", "packages", "platform"),
}
SERVE = "import sys\nprint(flush=True)\nsys.stdin.read()\n"
#: Words of SGLang's /server_info, of one launch.
INFO: dict[str, Json] = {
    "model_path": "/home/me/models/tiny-r1",
    "served_model_name": "tiny-r1",
    "host": "127.0.0.1",
    "port": 31001,
    "nccl_port": 31002,
    "random_seed": 42,
    "dtype": "auto",
    "quantization": None,
    "chunked_prefill_size": 2048,
    "api_key": "sk-secret",
    "watchdog_timeout": 300,
    "max_total_num_tokens": 445012,
    "startup_time": {"load_weight": 0.93},
    "launch_command": "--port 31001",
    "status": "ready",
    "version": "0.5.23",
}
ENGINE = ServerIdentity(engine="eng", version="0.5.23", model="tiny-r1", args=INFO)
BASE = {"PATH": os.environ["PATH"], "HOME": "/home/me"}


def planned(*argv: str, port: int = 31001, env: Mapping[str, str] | None = None) -> LaunchPlan:
    return LaunchPlan(
        engine="eng",
        argv=argv,
        env=tuple((env or {}).items()),
        host="127.0.0.1",
        port=port,
        ready=HttpProbe(path="/health"),
        start_timeout_s=10,
        stop_grace_s=1,
    )


class Side:
    """An engine of our own in a directory of its own, and launches of it."""

    def __init__(self, path: Path, ends: ExitStack) -> None:
        self.path = path / "python"
        self._ends = ends
        self.write("serve.py", SERVE)
        self.write("__init__.py", "")

    def write(self, name: str, text: str) -> None:
        path = self.path / "eng" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def start(self, *args: str, port: int = 31001, **info: Json) -> dict[str, Json]:
        plan = planned(
            *(sys.executable, "-m", "eng.serve", "--port", str(port), *args),
            port=port,
            env={"PYTHONPATH": str(self.path)},
        )
        child = subprocess.Popen(
            plan.argv,
            env=BASE | dict(plan.env),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._ends.callback(child.communicate)
        assert child.stdout is not None
        assert child.stdout.readline() == b"\n"
        said = replace(ENGINE, args={**INFO, "port": port, **info})
        return subject(child.pid, said, plan, sys.executable, environ=BASE)


@pytest.fixture
def side(tmp_path: Path) -> Iterator[Callable[[str], Side]]:
    with ExitStack() as ends:
        yield lambda name: Side(tmp_path / name, ends)


Sides = Callable[[str], Side]


# --- launched servers ------------------------------------------------------------------------


def test_two_launches_of_one_engine_are_the_same_subject(side: Sides) -> None:
    a = side("a")
    one = a.start("--random-seed", "1", port=31001)
    two = a.start("--random-seed", "7", port=4096, random_seed=43, max_total_num_tokens=445020)
    assert one == two
    assert same_subject(one, two)
    assert same_subject(one, json.loads(json.dumps(two)))
    assert set(one) == NAMES


def test_the_same_engine_elsewhere_is_the_same_subject(side: Sides) -> None:
    assert same_subject(side("a").start(), side("b").start())


def test_a_changed_engine_is_another_subject(side: Sides) -> None:
    a, b = side("a"), side("b")
    b.write("step.py", "import time; time.sleep(0.001)")
    assert not same_subject(a.start(), b.start())


def test_an_engine_that_is_changed_between_launches_is_another_subject(side: Sides) -> None:
    a = side("a")
    before = a.start()
    a.write("serve.py", SERVE + "\n")
    assert not same_subject(before, a.start())


def test_an_argument_makes_another_subject(side: Sides) -> None:
    a = side("a")
    assert not same_subject(a.start(), a.start("--page-size", "16"))
    assert not same_subject(a.start(), a.start(chunked_prefill_size=4096))


def test_other_libraries_make_another_subject(side: Sides, tmp_path: Path) -> None:
    a, mark = side("a"), tmp_path / "mark"
    a.write("serve.py", f"import os\nif os.path.exists({str(mark)!r}): import numpy\n{SERVE}")
    plain = a.start()
    mark.touch()
    loaded = a.start()
    assert {name for name in NAMES if plain[name] != loaded[name]} == {"libraries"}
    assert not same_subject(plain, loaded)


def test_who_differs_in_no_known_fact_but_one_unknown_is_not_proven(side: Sides) -> None:
    known = side("a").start()
    code, libraries = known["code"], known["libraries"]
    assert isinstance(code, dict)
    assert isinstance(libraries, dict)
    unknowns: tuple[tuple[str, Json], ...] = (
        ("code", None),
        ("code", {**code, "eng": {"digest": None}}),
        ("libraries", None),
        ("libraries", {**libraries, "libold.so": None}),
        ("packages", None),
    )
    for name, value in unknowns:
        unknown: dict[str, Json] = {**known, name: value}
        assert not same_subject(unknown, unknown), name
        assert not same_subject(known, unknown), name


def test_the_commit_alone_makes_no_other_subject(side: Sides) -> None:
    known = side("a").start()
    moved = json.loads(json.dumps(known))
    moved["code"]["eng"] |= {"commit": "a" * 40, "dirty": True}
    assert same_subject(known, moved)


def test_a_server_that_is_gone_proves_nothing() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    plan = planned(sys.executable, "-m", "json")
    gone = subject(child.pid, ENGINE, plan, sys.executable, environ=BASE)
    assert gone["libraries"] is None
    assert not same_subject(gone, gone)


def test_a_native_server_has_no_code_and_is_known_by_its_program() -> None:
    argv = ("sleep", "60")
    child = subprocess.Popen(argv)
    try:
        native = subject(child.pid, ENGINE, planned(*argv), None, environ=BASE)
    finally:
        child.kill()
        child.wait()
    assert (native["code"], native["packages"], native["python"]) == ({}, None, None)
    assert native["libraries"]
    assert same_subject(native, native)


def test_an_interpreter_that_does_not_answer_is_unknown(tmp_path: Path) -> None:
    plan = planned(str(tmp_path / "python"), "-m", "eng")
    found = subject(os.getpid(), ENGINE, plan, None, environ=BASE)
    assert (found["code"], found["packages"], found["python"]) == (None, None, None)
    assert not same_subject(found, found)


# --- attached servers ------------------------------------------------------------------------


def attached(url: str, identity: ServerIdentity = ENGINE) -> dict[str, Json]:
    return subject(None, identity, None, None, url=url, environ=BASE)


def test_of_an_attached_server_the_address_decides() -> None:
    one = attached("https://api.example.org/v1")
    assert set(one) == NAMES
    assert same_subject(one, attached("https://api.example.org/v1/"))
    assert not same_subject(one, attached("https://other.example.org/v1"))
    assert not same_subject(one, attached("https://api.example.org/v1", replace(ENGINE, model="x")))


def test_an_attached_server_is_not_a_launched_one(side: Sides) -> None:
    launched = side("a").start()
    assert launched["url"] is None
    assert not same_subject(launched, attached("http://127.0.0.1:31001"))
    assert not same_subject(attached("http://127.0.0.1:31001"), launched)


def test_an_address_keeps_its_secrets() -> None:
    text = json.dumps(attached("https://me:hunter2@api.example.org/v1?key=hunter3"))
    assert "hunter" not in text


# --- arguments and environment ---------------------------------------------------------------


def shown(plan: LaunchPlan, base: Mapping[str, str] | None = None) -> dict[str, Json]:
    return subject(None, ENGINE, plan, None, environ={**BASE, **(base or {})})


def test_what_changes_from_launch_to_launch_is_left_out() -> None:
    args = shown(planned("server", "--port", "31001"))["args"]
    assert args == {
        "api_key": "***",
        "chunked_prefill_size": 2048,
        "dtype": "auto",
        "model_path": "~/models/tiny-r1",
        "served_model_name": "tiny-r1",
        "watchdog_timeout": 300,
    }


def test_what_a_server_does_not_report_is_taken_from_its_command() -> None:
    plan = planned(
        *("server", "--tp=2", "--dtype", "float16", "--enable-x", "--log", "31001/x"),
        *("--hf-token", "hunter2", "serve", "-t", "4"),
    )
    args = shown(plan)["args"]
    assert isinstance(args, dict)
    assert (args["tp"], args["enable_x"], args["-t"]) == ("2", True, "4")
    assert args["dtype"] == "auto"
    assert args["log"] == "<port>/x"
    assert "hunter2" not in json.dumps(args)


def test_scratch_and_temporary_places_are_masked() -> None:
    plan = replace(
        planned("s", "--a", "/x/scratch/c.json", "--b", "/srv/tmpab12cd_x/d", "--c", "/home/melon"),
        files=((Path("/x/scratch/c.json"), ""),),
    )
    args = shown(plan)["args"]
    assert isinstance(args, dict)
    assert (args["a"], args["b"], args["c"]) == (
        "<scratch>/c.json",
        "/srv/<tmp>/d",
        "/home/melon",
    )


def test_flags_become_names_and_values() -> None:
    words = ("serve", "m", "--a-b", "1", "--c=2", "-d", "-e", "-1", "--f", "x", "y", "--c", "3")
    assert flags(words) == {
        "words": ["serve", "m"],
        "a_b": "1",
        "c": ["2", "3"],
        "-d": True,
        "-e": "-1",
        "f": ["x", "y"],
    }


def test_what_our_own_environment_calls_a_key_changes_no_subject(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = planned("server", "--revision", "chunked-prefill-2048", env={"ENG_A": "a-long-value-b"})
    before = shown(plan)
    monkeypatch.setenv("DEPLOY_KEY", "chunked-prefill-2048")
    monkeypatch.setenv("OTHER_KEY", "a-long-value-b")
    after = shown(plan)
    assert (after["args"], after["env"]) == (before["args"], before["env"])
    assert "chunked-prefill-2048" in json.dumps(after["args"])


def test_the_environment_that_may_matter_is_told() -> None:
    plan = planned(
        "server",
        env={
            "OMP_NUM_THREADS": "1",
            "HF_TOKEN": "hunter2",
            "PYTHONPATH": "/opt/a/python:/opt/patches",
            "TRITON_CACHE_DIR": "/scratch/side-a",
            "ENG_CACHE_SIZE": "4",
            "CUDA_VISIBLE_DEVICES": "3",
            "PYTHONUNBUFFERED": "1",
        },
    )
    inherited = {
        "ENG_FAST": "1",
        "NCCL_ALGO": "Ring",
        "LD_PRELOAD": "/home/me/libjemalloc.so",
        "EDITOR": "vi",
        "PYTEST_CURRENT_TEST": "x",
        "MASTER_PORT": "1",
        "OMP_NUM_THREADS": "8",
    }
    assert shown(plan, inherited)["env"] == {
        "ENG_CACHE_SIZE": "4",
        "ENG_FAST": "1",
        "HF_TOKEN": "***",
        "LD_PRELOAD": "~/libjemalloc.so",
        "NCCL_ALGO": "Ring",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": "python:patches",
        "PYTHONSAFEPATH": "1",
    }


def test_what_lies_beneath_is_told() -> None:
    found = subject(None, ENGINE, planned("s"), None, platform={"driver": "550"}, environ=BASE)
    assert found["platform"] == {"driver": "550"}


# --- revision of the model -------------------------------------------------------------------

COMMIT = "0123456789" * 4


def test_weights_in_a_directory_are_known_by_what_lies_there(tmp_path: Path) -> None:
    def model(name: str, config: str = "{}", size: int = 2 << 20) -> str | None:
        path = tmp_path / name
        path.mkdir()
        (path / "config.json").write_text(config)
        (path / "model.safetensors").write_bytes(bytes(size))
        return revision([str(path)], {})

    first = model("a")
    assert first == model("b")
    assert first is not None
    assert first.startswith("files:")
    assert first != model("c", config='{"dtype": 1}')
    assert first != model("d", size=(2 << 20) + 1)


def test_a_model_of_a_hub_is_known_by_its_commit(tmp_path: Path) -> None:
    refs = tmp_path / "hub" / "models--org--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(f"{COMMIT}\n")
    home = {"HF_HOME": str(tmp_path)}
    assert revision(["org/name"], home) == COMMIT
    assert revision(["org/name"], {"HF_HUB_CACHE": str(tmp_path / "hub")}) == COMMIT
    assert revision(["org/name"], home, wanted="v2") is None
    assert revision(["org/name"], home, wanted=COMMIT[::-1]) == COMMIT[::-1]
    assert revision(["org/other", "org/name"], home) == COMMIT


def test_a_snapshot_is_named_by_its_commit() -> None:
    assert revision([f"/hub/models--org--name/snapshots/{COMMIT}"], {}) == COMMIT


def test_a_model_that_is_nowhere_has_no_known_revision(tmp_path: Path) -> None:
    assert revision(["sim-model"], {"HF_HOME": str(tmp_path)}) is None
    assert revision([], {}) is None


# --- servers in containers -------------------------------------------------------------------


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Json]]:
    """The subject of a server in a container, told by a docker that cannot look into it unless a
    version of Python is given."""
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "docker").touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{bin_dir}:/usr/bin:/bin")
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "ours.py").write_text("1")

    def told(
        image: str, *args: str, pid: int | None = None, says: str = "exit 1", **env: str
    ) -> dict[str, Json]:
        (bin_dir / "docker").write_text(f"#!/bin/sh\n{says}\n")
        inside = Container(
            tool="docker",
            name="box",
            image=f"eng:{image}",
            image_id=image,
            argv=("python3", "-m", "eng", "--port", "31001", *args),
            env=tuple(env.items()),
            code=(tmp_path / "code",),
        )
        plan = replace(planned("docker", "run", "--name", "box", image), container=inside)
        environ = {**BASE, "OMP_NUM_THREADS": "7"}
        return subject(pid, ENGINE, plan, "python3", environ=environ)

    return told


Boxes = Callable[..., dict[str, Json]]
TOLD = """echo '{"version": "3.12.1", "packages": {"torch": "2.8.0", "eng": "0.5.23", "x": "1"}}'"""


def test_one_image_with_the_same_arguments_is_the_same_subject(box: Boxes) -> None:
    one = box("aaaa", "--fast", "1")
    assert set(one) == NAMES
    assert one["image"] == "aaaa"
    assert same_subject(one, box("aaaa", "--fast", "1"))
    assert same_subject(one, json.loads(json.dumps(one)))


def test_other_images_arguments_and_environments_are_other_subjects(box: Boxes) -> None:
    one = box("aaaa", "--fast", "1")
    assert not same_subject(one, box("bbbb", "--fast", "1"))
    assert not same_subject(one, box("aaaa"))
    assert not same_subject(one, box("aaaa", "--fast", "1", ENG_FAST="1"))


def test_code_of_this_machine_in_a_container_counts(box: Boxes, tmp_path: Path) -> None:
    one = box("aaaa")
    (tmp_path / "code" / "ours.py").write_text("2")
    two = box("aaaa")
    assert {name for name in NAMES if one[name] != two[name]} == {"code"}
    assert not same_subject(one, two)


def test_a_container_inherits_nothing_and_its_command_is_the_servers_own(box: Boxes) -> None:
    one = box("aaaa", "--fast", "1", LLM="1")
    assert one["env"] == {"LLM": "1"}
    assert isinstance(one["args"], dict)
    assert (one["args"]["-m"], one["args"]["fast"]) == ("eng", "1")
    assert "name" not in one["args"]


def test_what_cannot_be_seen_in_a_container_is_none(box: Boxes) -> None:
    one = box("aaaa")
    assert (one["libraries"], one["python"], one["packages"]) == (None, None, None)


def test_what_can_be_seen_in_a_container(box: Boxes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.launch.inside._answers", {})
    one = box("cccc", pid=os.getpid(), says=TOLD)
    assert one["python"] == "3.12.1"
    assert isinstance(one["packages"], dict)
    assert one["packages"]["torch"] == "2.8.0"
    assert one["packages"]["eng"] == "0.5.23"
    assert "x" not in one["packages"]
    assert isinstance(one["libraries"], dict)
    # The image decides, not what happened to be seen of it.
    assert same_subject(one, box("cccc"))


def test_a_server_in_a_container_is_not_one_outside(box: Boxes, side: Sides) -> None:
    assert not same_subject(box("aaaa"), side("a").start())
    assert not same_subject(side("a").start(), box("aaaa"))
