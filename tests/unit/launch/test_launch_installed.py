from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from pytest_llmperf.launch import installed
from pytest_llmperf.launch.installed import Found, Program, ask, code, packages, program
from pytest_llmperf.launch.mapped import OTHERS
from pytest_llmperf.records import Json
from repositories import git

ENV = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def write(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


# --- which program ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (
            ("/v/bin/python", "-m", "sglang.launch_server", "--port", "1"),
            Program(interpreter=("/v/bin/python",), package="sglang"),
        ),
        (
            ("/v/bin/python3.12", "-I", "-X", "dev", "-m", "vllm"),
            Program(interpreter=("/v/bin/python3.12", "-I", "-X", "dev"), package="vllm"),
        ),
        (
            ("numactl", "-N", "0", "python3", "-m", "sglang.launch_server"),
            Program(interpreter=("python3",), package="sglang"),
        ),
        (("/opt/py", "-m", "eng"), Program(interpreter=("/opt/py",), package="eng")),
        (("python", "-m"), Program(interpreter=("python",), package="")),
        (("python",), Program(interpreter=("python",), package="")),
        (("no-such-command", "--port", "1"), None),
        ((), None),
    ],
)
def test_what_a_command_line_starts(argv: tuple[str, ...], expected: Program | None) -> None:
    assert program(argv, "/opt/py") == expected


def test_a_script_is_known_by_what_it_imports(tmp_path: Path) -> None:
    path = write(tmp_path, {"serve.py": "import sys\nfrom sglang.cli import main\n"}) / "serve.py"
    assert program(["python", str(path), "--port", "1"]) == Program(
        interpreter=("python",), package="sglang", script=str(path)
    )


def test_an_installed_command_is_known_by_its_first_line(tmp_path: Path) -> None:
    command = tmp_path / "vllm"
    command.write_text("#!/v/bin/python3\nimport sys\nfrom vllm.scripts import main\n")
    command.chmod(0o755)
    expected = Program(interpreter=("/v/bin/python3",), package="vllm")
    assert program([str(command), "serve"]) == expected
    command.write_text("#!/bin/sh\nexec something\n")
    assert program([str(command), "serve"]) is None


# --- asking an interpreter -------------------------------------------------------------------


def test_an_interpreter_says_where_it_finds_a_package(tmp_path: Path) -> None:
    write(tmp_path, {"eng/__init__.py": "raise SystemExit('imported')"})
    found = ask(
        Program(interpreter=(sys.executable,), package="eng"), {**ENV, "PYTHONPATH": str(tmp_path)}
    )
    assert found is not None
    assert found.version == ".".join(map(str, sys.version_info[:3]))
    assert found.places == (tmp_path / "eng",)
    assert tmp_path in found.path


def test_a_package_that_is_not_there_has_no_place() -> None:
    found = ask(Program(interpreter=(sys.executable,), package="no_such_eng"), ENV)
    assert found is not None
    assert found.places == ()


@pytest.mark.parametrize(
    "script", ["exit 1", "echo no JSON", "echo null", "echo '{}'", "echo []", "true"]
)
def test_an_interpreter_that_says_nothing_is_no_error(tmp_path: Path, script: str) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\n{script}\n")
    fake.chmod(0o755)
    assert ask(Program(interpreter=(str(fake),), package="eng"), ENV) is None
    assert ask(Program(interpreter=(str(tmp_path / "absent"),), package="eng"), ENV) is None


def test_chatter_at_the_start_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, {"sitecustomize.py": "print('hello')"})
    found = ask(
        Program(interpreter=(sys.executable,), package=""), {**ENV, "PYTHONPATH": str(tmp_path)}
    )
    assert found is not None


def test_without_a_working_directory_nothing_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert ask(Program(interpreter=(sys.executable,), package="json"), ENV) is None


# --- packages --------------------------------------------------------------------------------


def site(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).mkdir(parents=True)
    return root


def found_at(*path: Path, places: tuple[Path, ...] = ()) -> Found:
    return Found(version="3.11.7", path=path, places=places)


def test_packages_that_may_matter_are_told_by_name(tmp_path: Path) -> None:
    here = site(
        tmp_path / "site",
        "torch-2.14.1.dist-info",
        "sglang_kernel-0.4.10.dist-info",
        "Flash.Attn-2.8.dist-info",
        "rich-14.0.dist-info",
        "my_engine-1.0.egg-info",
        "torch",
    )
    told = packages(found_at(here, tmp_path / "absent"), "my-engine")
    assert {name: told[name] for name in told if name != OTHERS} == {
        "torch": "2.14.1",
        "sglang-kernel": "0.4.10",
        "flash-attn": "2.8",
        "my-engine": "1.0",
    }


def test_the_first_on_the_path_is_the_one(tmp_path: Path) -> None:
    new = site(tmp_path / "new", "torch-2.14.dist-info")
    old = site(tmp_path / "old", "torch-2.13.dist-info")
    assert packages(found_at(new, old), "x")["torch"] == "2.14"
    assert packages(found_at(old, new), "x")["torch"] == "2.13"


def test_any_other_package_changes_the_sum(tmp_path: Path) -> None:
    one = packages(found_at(site(tmp_path / "a", "rich-14.0.dist-info")), "x")
    two = packages(found_at(site(tmp_path / "b", "rich-14.1.dist-info")), "x")
    assert one.keys() == two.keys() == {OTHERS}
    assert one != two


# --- code ------------------------------------------------------------------------------------


def facts(found: Found, name: str = "eng", *, pythonpath: str = "") -> dict[str, Json]:
    asked = Program(interpreter=("python",), package="eng")
    root = code(found, asked, pythonpath)[name]
    assert isinstance(root, dict)
    return root


def engine(root: Path, files: Mapping[str, str] | None = None) -> Found:
    return found_at(places=(write(root / "eng", {"__init__.py": "X = 1", **(files or {})}),))


def test_the_same_code_elsewhere_is_the_same(tmp_path: Path) -> None:
    one, two = (engine(tmp_path / side, {"sub/mod.py": "Y = 2"}) for side in ("a", "b"))
    assert facts(one) == facts(two)
    assert facts(one)["files"] == 2
    assert (facts(one)["commit"], facts(one)["dirty"]) == (None, None)


@pytest.mark.parametrize(
    "files",
    [
        {"__init__.py": "X = 2"},
        {"new.py": ""},
        {"configs/h100.json": '{"BLOCK": 64}'},
        {"csrc/moe.cu": "//"},
    ],
)
def test_a_change_of_code_is_seen(tmp_path: Path, files: dict[str, str]) -> None:
    one, two = engine(tmp_path / "a"), engine(tmp_path / "b", files)
    assert facts(one)["digest"] != facts(two)["digest"]


def test_what_follows_from_the_code_does_not_count(tmp_path: Path) -> None:
    one = engine(tmp_path / "a")
    two = engine(
        tmp_path / "b",
        {
            "__pycache__/mod.py": "",
            "lib.so": "",
            "README.md": "",
            "mod.pyc": "",
            ".git/hook.py": "",
        },
    )
    assert facts(one)["digest"] == facts(two)["digest"]


def test_code_that_changes_under_way_is_seen_whatever_its_date(tmp_path: Path) -> None:
    found = engine(tmp_path)
    before = facts(found)
    path = tmp_path / "eng" / "__init__.py"
    dates = path.stat()
    path.write_text("X = 9")
    os.utime(path, ns=(dates.st_atime_ns, dates.st_mtime_ns))
    assert facts(found)["digest"] != before["digest"]


def test_an_engine_that_is_not_found_is_unknown() -> None:
    unknown = {"digest": None, "files": None, "commit": None, "dirty": None}
    assert facts(found_at()) == unknown
    assert facts(found_at(places=(Path("/no/such/place"),))) == unknown


def test_a_name_that_is_no_text_is_no_trouble(tmp_path: Path) -> None:
    found = engine(tmp_path)
    before = facts(found)
    Path(os.fsdecode(os.fsencode(tmp_path / "eng") + b"/caf\xe9.py")).touch()
    assert before["digest"] != facts(found)["digest"] is not None


def test_too_much_code_is_unknown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installed, "_FILES_AT_MOST", 3)
    found = engine(tmp_path, {"a.py": "", "b.py": "", "c.py": ""})
    assert facts(found)["digest"] is None


def test_what_the_environment_puts_on_the_path_counts(tmp_path: Path) -> None:
    patches = write(tmp_path / "patches", {"hook.py": "import time"})
    before = facts(engine(tmp_path), "patches", pythonpath=f"{patches}{os.pathsep}")
    write(patches, {"hook.py": "import timf"})
    after = facts(engine(tmp_path), "patches", pythonpath=f"{patches}{os.pathsep}")
    assert before["digest"] not in (None, after["digest"])


def test_two_places_of_one_name_both_count(tmp_path: Path) -> None:
    one = write(tmp_path / "a/python", {"x.py": "x"})
    two = write(tmp_path / "b/python", {"y.py": "y"})
    both = facts(engine(tmp_path), "python", pythonpath=f"{one}{os.pathsep}{two}")
    assert both["files"] == 2


def test_what_python_runs_at_its_start_counts(tmp_path: Path) -> None:
    write(tmp_path / "site", {"sitecustomize.py": "import time"})
    asked = Program(interpreter=("python",), package="eng")
    assert set(code(found_at(tmp_path / "site"), asked, "")) == {"eng", "sitecustomize.py"}


def test_a_script_counts_beside_its_package(tmp_path: Path) -> None:
    script = write(tmp_path, {"serve.py": "from eng import main"}) / "serve.py"
    asked = program(["python", str(script)])
    assert asked is not None
    assert set(code(engine(tmp_path), asked, "")) == {"serve.py", "eng"}
    script.write_text("import sys")
    alone = program(["python", str(script)])
    assert alone is not None
    assert set(code(engine(tmp_path), alone, "")) == {"serve.py"}


@pytest.mark.parametrize("inside", ["triton", "python/triton", "src/triton"])
def test_a_package_installed_in_place_counts(tmp_path: Path, inside: str) -> None:
    checkout = tmp_path / "my checkout"
    write(checkout / inside, {"__init__.py": "", "ops.py": ""})
    write(checkout, {"setup.py": ""})
    where = site(tmp_path / "site", "triton-3.8.dist-info", "torch-2.dist-info", "rich-1.dist-info")
    origin = {"url": checkout.as_uri(), "dir_info": {"editable": True}}
    for name in ("triton-3.8.dist-info", "rich-1.dist-info"):
        (where / name / "direct_url.json").write_text(json.dumps(origin))
    asked = Program(interpreter=("python",), package="eng")
    found = found_at(where)
    assert set(code(found, asked, "")) == {"eng", "triton"}
    assert facts(found, "triton")["files"] == 2


@pytest.mark.parametrize(
    "origin",
    [
        '{"url": "file:///x", "dir_info": {}}',
        '{"url": "file:///x", "dir_info": {"editable": false}}',
        '{"dir_info": {"editable": true}}',
        "[]",
        "{",
    ],
)
def test_a_copy_installed_from_a_directory_is_not_a_checkout(tmp_path: Path, origin: str) -> None:
    where = site(tmp_path / "site", "triton-3.8.dist-info")
    (where / "triton-3.8.dist-info" / "direct_url.json").write_text(origin)
    assert set(code(found_at(where), Program(interpreter=("p",), package="eng"), "")) == {"eng"}


# --- git -------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    root = tmp_path / "repo"
    engine(root / "python")
    write(root, {"README.md": "read me"})
    git("init", "-q", at=root)
    git("add", ".", at=root)
    git("commit", "-qm", "one", at=root)
    return root


def in_checkout(root: Path) -> dict[str, Json]:
    return facts(found_at(places=(root / "python" / "eng",)))


def test_a_checkout_tells_its_commit(checkout: Path) -> None:
    assert in_checkout(checkout)["commit"] == git("rev-parse", "HEAD", at=checkout)
    assert in_checkout(checkout)["dirty"] is False


def test_uncommitted_code_is_told(checkout: Path) -> None:
    write(checkout / "python" / "eng", {"mod.py": "new"})
    assert in_checkout(checkout)["dirty"] is True


def test_changes_beside_the_code_are_not_its(checkout: Path) -> None:
    (checkout / "README.md").write_text("other")
    assert in_checkout(checkout)["dirty"] is False


def test_in_a_hook_git_looks_at_the_right_checkout(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    assert in_checkout(checkout)["dirty"] is False


def test_an_environment_inside_of_a_checkout_is_not_part_of_it(checkout: Path) -> None:
    (checkout / ".gitignore").write_text(".venv\n")
    found = engine(checkout / ".venv" / "site-packages")
    assert facts(found)["digest"] is not None
    assert (facts(found)["commit"], facts(found)["dirty"]) == (None, None)
