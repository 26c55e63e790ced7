"""A repository whose CI is ours: an engine, a merge base, a release, a change; and how each CI
runs what its configuration says."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from patience import PATIENT
from repositories import git

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "ci"
STUB = Path(__file__).with_name("stub.py")
#: What a commit installs: it makes the simulator as fast as it says.
ENGINE = """
import sys
if "pytest_llmperf.testing" in sys.orig_argv:
    sys.argv += ["--itl-ms", "{itl_ms}"]
"""
METADATA = "Metadata-Version: 2.1\nName: sgl-toy\nVersion: {version}\n"
IGNORED = "out/\n.venv/\n.plugin/\n.release/\n__pycache__/\n*.egg-info/\n"
#: Loads and losses for machines that are busy with other tests.
QUICK = (("requests=64", "requests=24"), ('"10%"', '"50%"'))

Steps = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """A step, or all steps of a job, as a shell runs them."""

    status: int
    output: str


@dataclass(slots=True, kw_only=True)
class World:
    """A remote with a release v1.0, a main branch that went on, and clones for jobs to run in.

    ``env`` is what every job gets beside what its CI sets; nothing else of ours reaches it.
    ``artifacts`` is the CI's own storage.
    """

    root: Path
    env: dict[str, str] = field(default_factory=dict)

    @property
    def remote(self) -> Path:
        return self.root / "origin.git"

    @property
    def artifacts(self) -> Path:
        return self.root / "artifacts"

    def asked(self, kind: str) -> list[list[str]]:
        """What the stubs of one kind were asked, in order."""
        path = self.root / "asked.jsonl"
        calls = [json.loads(line) for line in path.read_text().splitlines()]
        return [words for found, *words in calls if found == kind]

    def installed(self) -> list[str]:
        """What pip was to install."""
        return [words[-1] for words in self.asked("pip")]

    def clone(self, ref: str, name: str = "work") -> Path:
        """What a CI checks out: a commit, no branch. The same directory for each job, as on a
        runner of one's own, cleaned of what the job before left."""
        place = self.root / name
        if not place.exists():
            git("clone", "--quiet", str(self.remote), str(place), at=self.root)
        git("fetch", "--quiet", "--tags", "origin", at=place)
        git("checkout", "--quiet", "--force", "--detach", ref, at=place)
        git("clean", "-ffdxq", at=place)
        return place

    def push(self, branch: str, *, version: str, itl_ms: float, tag: str = "") -> None:
        """A commit on ``branch`` that makes the engine one of this version and pace."""
        place = self.root / "author"
        if not (place / ".git").exists():
            git("clone", "--quiet", str(self.remote), str(place), at=self.root)
        git("fetch", "--quiet", "origin", at=place)
        known = git("branch", "--remotes", "--format=%(refname:short)", at=place).split()
        begin = next((ref for ref in (f"origin/{branch}", "origin/main") if ref in known), "")
        git("checkout", "--quiet", "-B", branch, *filter(None, [begin]), at=place)
        shutil.rmtree(place / "python", ignore_errors=True)
        write(place / "python" / "toyengine" / "__init__.py", ENGINE.format(itl_ms=itl_ms))
        about = place / "python" / f"sgl_toy-{version}.dist-info" / "METADATA"
        write(about, METADATA.format(version=version))
        write(place / ".gitignore", IGNORED)
        # An engine's own tests want what is not installed beside the plugin.
        write(place / "tests" / "conftest.py", "import package_that_is_not_there\n")
        write(place / "pytest.ini", "[pytest]\naddopts = --an-option-of-the-engines-own\n")
        shutil.copytree(EXAMPLE / "tests", place / "tests" / "perf", dirs_exist_ok=True)
        suite = place / "tests" / "perf" / "test_serving.py"
        text = suite.read_text(encoding="utf-8")
        for usual, quick in QUICK:
            assert usual in text
            text = text.replace(usual, quick)
        suite.write_text(text, encoding="utf-8")
        git("add", "--all", at=place)
        git("commit", "--quiet", "--message", f"engine {version}", at=place)
        refs = [branch]
        if tag:
            git("tag", tag, at=place)
            refs.append(tag)
        git("push", "--quiet", "origin", *refs, at=place)

    def sha(self, ref: str) -> str:
        return git("rev-parse", ref, at=self.remote)

    def shell(self, script: str, env: Mapping[str, str], *, at: Path, by: tuple[str, ...]) -> Done:
        done = subprocess.run(
            [*by, "-c", script],
            cwd=at,
            env={**self.env, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return Done(status=done.returncode, output=done.stdout)

    def keep(self, name: str, path: Path) -> None:
        """An artifact: one file, or what is in a directory."""
        if not path.exists():
            raise FileNotFoundError(f"there is no {path} to keep")
        to = self.artifacts / name
        shutil.rmtree(to, ignore_errors=True)
        if path.is_dir():
            assert any(path.iterdir()), f"nothing lies in {path}"
            shutil.copytree(path, to)
        else:
            to.mkdir(parents=True)
            shutil.copy2(path, to)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


@pytest.fixture
def world(tmp_path: Path) -> World:
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    made = World(root=tmp_path)
    programs, log = tmp_path / "bin", str(tmp_path / "asked.jsonl")
    here = f"exec '{sys.executable}' '{STUB}'"
    write(
        programs / "python3",
        f'#!/bin/sh\n[ "$1 $2" = "-m venv" ] && {here} venv "{log}" "$@"\n'
        f"exec '{sys.executable}' \"$@\"\n",
    )
    write(programs / "buildkite-agent", f'#!/bin/sh\n{here} agent "{log}" "$@"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    made.env |= {
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin",
        "HOME": str(tmp_path / "home"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTEST_LLMPERF_RUNTIME_DIR": os.environ["PYTEST_LLMPERF_RUNTIME_DIR"],
        "LANG": "C.UTF-8",
        "CI": "true",
        "GIT_CONFIG_SYSTEM": os.devnull,
        "PERF_ENGINE": "sim",
        "PYTEST_ADDOPTS": f"-p no:cacheprovider --llmperf-runs=1 {PATIENT}",
    }
    git("init", "--quiet", "--bare", "--initial-branch=main", "origin.git", at=tmp_path)
    made.push("main", version="1.0", itl_ms=2, tag="v1.0")
    made.push("main", version="1.1", itl_ms=2)
    return made


# --- what the files say ----------------------------------------------------------------------


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


_WORDS = re.compile(r"'(?:[^']|'')*'|\b[A-Za-z_][\w-]*(?:\.(?:[\w-]+|\*))*")
_FUNCTIONS = ("contains", "fromJSON", "cancelled", "always", "success", "failure")


class Expressions:
    """As much of GitHub's expressions as the examples use. What is not known is empty, as there."""

    def __init__(self, context: Mapping[str, Any], *, status: str = "success") -> None:
        self._context = context
        self._known: dict[str, Callable[..., Any]] = {
            "contains": lambda many, one: one in many,
            "fromJSON": json.loads,
            "cancelled": lambda: status == "cancelled",
            "always": lambda: True,
            "success": lambda: status == "success",
            "failure": lambda: status == "failure",
            "look": self._look,
        }

    def filled(self, text: str) -> str:
        return re.sub(r"\$\{\{(.*?)\}\}", lambda m: self._text(m[1]), text, flags=re.DOTALL)

    def truth(self, text: str) -> bool:
        """A condition that names no status of the job holds only while nothing has failed."""
        if not re.search(r"\b(cancelled|always|success|failure)\(", text):
            text = f"success() && ({text.strip().removeprefix('${{').removesuffix('}}')})"
        return bool(self.value(text.strip().removeprefix("${{").removesuffix("}}")))

    def value(self, text: str) -> Any:
        python = _WORDS.sub(self._word, text.replace("\n", " ").strip())
        python = python.replace("&&", " and ").replace("||", " or ")
        python = re.sub(r"!(?!=)", " not ", python)
        return eval(python, {"__builtins__": {}}, self._known)  # noqa: S307 - of our own files

    def _text(self, text: str) -> str:
        return str(self.value(text))

    @staticmethod
    def _word(found: re.Match[str]) -> str:
        word = found[0]
        if word.startswith("'"):
            return repr(word[1:-1].replace("''", "'"))
        return word if word in _FUNCTIONS else f"look({word!r})"

    def _look(self, name: str) -> Any:
        found = look(self._context, name.split("."))
        return "" if found is None else found


def look(place: Any, names: list[str]) -> Any:
    for at, name in enumerate(names):
        if name == "*":
            return [look(each, names[at + 1 :]) for each in place or ()]
        place = place.get(name) if isinstance(place, Mapping) else None
    return place


# --- GitHub Actions --------------------------------------------------------------------------


@dataclass(slots=True, kw_only=True)
class GithubJob:
    """A job after it ran: each step's status by its name, and what the job leaves."""

    result: str
    steps: dict[str, Done]
    outputs: dict[str, str]
    summary: str

    @property
    def said(self) -> str:
        """For whoever has to find out why it did not go as it should."""
        return "\n".join(
            f"{name}: {done.status}\n{done.output}" for name, done in self.steps.items()
        )


class GithubRunner:
    """Runs jobs of a workflow as GitHub's runner does: each step a shell of its own."""

    def __init__(self, world: World) -> None:
        self.world = world

    def run(
        self,
        workflow: Path,
        job: str,
        *,
        at: Path,
        event: Mapping[str, Any],
        needs: Mapping[str, Any] | None = None,
        **env: str,
    ) -> GithubJob | None:
        """``None`` where the job's condition does not hold."""
        document = read_yaml(workflow)
        body = document["jobs"][job]
        context: dict[str, Any] = {
            "github": {"event": event, "token": "a-token", "run_id": "7", **event.get("_", {})},
            "inputs": event.get("inputs") or {},
            "needs": needs or {},
            "steps": {},
        }
        if "if" in body and not Expressions(context).truth(body["if"]):
            return None
        files = self._files(event)
        steps: dict[str, Done] = {}
        status = "success"
        for step in body["steps"]:
            words = Expressions(context, status=status)
            if not words.truth(step.get("if", "success()")):
                continue
            if "uses" in step:
                try:
                    self._use(step, at)
                except FileNotFoundError as error:
                    steps[step["uses"]] = Done(status=1, output=str(error))
                    status = "failure"
                continue
            given = {**document.get("env", {}), **body.get("env", {}), **step.get("env", {})}
            given = {name: words.filled(str(value)) for name, value in given.items()}
            path = "".join(
                f"{line}:" for line in reversed(files["GITHUB_PATH"].read_text().split())
            )
            done = self.world.shell(
                step["run"],
                {**self._given(at, files), **env, **given, "PATH": path + self.world.env["PATH"]},
                at=at,
                by=("bash", "-e"),
            )
            steps[step.get("name", step["run"])] = done
            status = "failure" if done.status else status
            outputs = dict(
                line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines()
            )
            files["GITHUB_OUTPUT"].write_text("")
            context["steps"][step.get("id", "")] = {"outputs": outputs}
        left = body.get("outputs", {})
        return GithubJob(
            result=status,
            steps=steps,
            outputs={name: Expressions(context).filled(text) for name, text in left.items()},
            summary=files["GITHUB_STEP_SUMMARY"].read_text(encoding="utf-8"),
        )

    def _files(self, event: Mapping[str, Any]) -> dict[str, Path]:
        temp = self.world.root / "runner-temp"
        shutil.rmtree(temp, ignore_errors=True)
        temp.mkdir()
        names = ("GITHUB_PATH", "GITHUB_OUTPUT", "GITHUB_ENV", "GITHUB_STEP_SUMMARY")
        files = {name: self.world.root / f"file-{name}" for name in names}
        for path in files.values():
            path.write_text("")
        files["GITHUB_EVENT_PATH"] = self.world.root / "event.json"
        files["GITHUB_EVENT_PATH"].write_text(json.dumps(event), encoding="utf-8")
        return {**files, "RUNNER_TEMP": temp}

    @staticmethod
    def _given(at: Path, files: Mapping[str, Path]) -> dict[str, str]:
        return {
            "GITHUB_ACTIONS": "true",
            "GITHUB_WORKSPACE": str(at),
            "GITHUB_REPOSITORY": "us/engine",
            **{name: str(path) for name, path in files.items()},
        }

    def _use(self, step: Steps, at: Path) -> None:
        action = step["uses"].partition("@")[0]
        given = step.get("with", {})
        match action:
            case "actions/upload-artifact":
                assert given["if-no-files-found"] == "error"
                self.world.keep(given["name"], at / given["path"])
            case "actions/download-artifact":
                kept = self.world.artifacts / given["name"]
                shutil.copytree(kept, at / given["path"], dirs_exist_ok=True)
            case "actions/checkout" | "actions/setup-python":
                pass
            case _:
                raise AssertionError(f"no test knows {action}")


@pytest.fixture
def github(world: World) -> GithubRunner:
    return GithubRunner(world)


# --- the others ------------------------------------------------------------------------------


def gitlab_jobs(path: Path) -> dict[str, dict[str, Any]]:
    """Jobs with what they extend, the way GitLab merges: mappings deeply, all else replaced."""
    document = read_yaml(path)
    words = ("workflow", "variables", "stages", "default")
    jobs = {name: body for name, body in document.items() if name not in words}
    return {
        name: merged(jobs[body["extends"]], body) if "extends" in body else body
        for name, body in jobs.items()
        if not name.startswith(".")
    }


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(below)
    for name, value in above.items():
        known = found.get(name)
        both = isinstance(known, Mapping) and isinstance(value, Mapping)
        found[name] = merged(known, value) if both else value  # type: ignore[arg-type]
    return found


def buildkite_script(step: Steps) -> str:
    """What the agent runs after it has interpolated the file; nothing of it may be left to the
    environment of the upload."""
    text = "\n".join(step["command"])
    assert not re.search(r"(?<!\$)\$(?!\$)", text.replace("$$", "")), "a single $ is the upload's"
    return text.replace("$$", "$")


def jenkins_stages(path: Path) -> dict[str, str]:
    """The ``sh`` of each stage, as the shell gets it: Groovy drops a backslash and its newline."""
    text = path.read_text(encoding="utf-8")
    parts = re.split(r"stage\('([^']+)'\)", text)[1:]
    named = zip(parts[::2], parts[1::2], strict=True)
    scripts = {name: re.findall(r"\bsh '''(.*?)'''", body, re.DOTALL) for name, body in named}
    return {
        name: "\n".join(textwrap.dedent(each) for each in parts).replace("\\\n", "")
        for name, parts in scripts.items()
    }


class Files:
    """The functions above, for test modules, which import none from a conftest."""

    yaml = staticmethod(read_yaml)
    gitlab = staticmethod(gitlab_jobs)
    buildkite = staticmethod(buildkite_script)
    jenkins = staticmethod(jenkins_stages)
    expressions = Expressions
    example = EXAMPLE
    root = ROOT


@pytest.fixture
def files() -> Files:
    return Files()
