"""The examples for GitLab, Buildkite and Jenkins: every script of every job, from the files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.report.validate import validate_report
from repositories import git

if TYPE_CHECKING:
    from tests.ci.conftest import Done, Files, World

pytestmark = pytest.mark.timeout(600)

#: As each CI runs what it is given.
GITLAB_SHELL = ("bash", "-eo", "pipefail")
BUILDKITE_SHELL = ("bash", "-e")
JENKINS_SHELL = ("sh", "-xe")


def report(path: Path) -> dict[str, Any]:
    assert validate_report(path) == []
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    assert document["simulated"]
    return document


def changes(document: Mapping[str, Any]) -> str:
    """What differs between the two sides, in the words of the gates."""
    gates = [gate for gate in document["gates"] if gate["kind"] == "regression"]
    assert gates
    assert {gate["verdict"] for gate in gates} == {"pass"}
    return " ".join(each for gate in gates for each in gate["changed"])


def nights(world: World) -> int:
    """Commits of the one writer that have arrived."""
    subjects = git("log", "--format=%s", "main", at=world.remote).splitlines()
    return subjects.count("perf: what this night has measured")


# --- GitLab ----------------------------------------------------------------------------------


class Gitlab:
    """Runs one job in a clone: before_script and script in one shell, after_script in another."""

    def __init__(self, world: World, files: Files) -> None:
        path = files.example / "gitlab" / ".gitlab-ci.yml"
        self.world, self.jobs = world, files.gitlab(path)
        self.variables = files.yaml(path)["variables"]

    def run(self, name: str, at: Path, **env: str) -> Done:
        job = self.jobs[name]
        builds = self.world.root / "builds"
        builds.mkdir(exist_ok=True)
        given = {
            **self.variables,
            "CI_PROJECT_DIR": str(at),
            "CI_BUILDS_DIR": str(builds),
            "CI_JOB_ID": "41",
            "CI_SERVER_HOST": "gitlab.example",
            "CI_PROJECT_PATH": "us/engine",
            **env,
        }
        lines = "\n".join([*job.get("before_script", ()), *job["script"]])
        done = self.world.shell(lines, given, at=at, by=GITLAB_SHELL)
        if after := job.get("after_script"):
            self.world.shell("\n".join(after), given, at=at, by=GITLAB_SHELL)
            assert list(builds.iterdir()) == []
        return done

    def hand_over(self, name: str, at: Path) -> None:
        for path in self.jobs[name]["artifacts"]["paths"]:
            self.world.keep(path.strip("/"), at / path)


@pytest.fixture
def gitlab(world: World, files: Files) -> Gitlab:
    return Gitlab(world, files)


def test_gitlab_compares_a_merge_request(world: World, gitlab: Gitlab) -> None:
    base = world.sha("main")
    world.push("mine", version="1.2", itl_ms=2)
    world.push("main", version="1.3", itl_ms=2)
    at = world.clone("origin/mine")
    done = gitlab.run("perf", at, CI_MERGE_REQUEST_DIFF_BASE_SHA=base)
    assert done.status == 0, done.output
    assert "sgl-toy 1.1 -> 1.2" in changes(report(at / "out" / "report.json"))
    kept = gitlab.jobs["perf"]["artifacts"]
    for path in (*kept["paths"], *kept["reports"].values()):
        assert (at / path).exists(), path


def test_gitlab_remembers_a_night(world: World, gitlab: Gitlab) -> None:
    remote = "https://perf:a-token@gitlab.example/us/engine.git"
    push = {
        "PERF_PUSH_TOKEN": "a-token",
        "CI_COMMIT_BRANCH": "main",
        # The address in the script becomes the scratch remote, by a setting of git's own.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{world.remote}.insteadOf",
        "GIT_CONFIG_VALUE_0": remote,
    }
    git("config", "receive.advertisePushOptions", "true", at=world.remote)
    for count, name in enumerate(("calibrate", "nightly"), start=1):
        at = world.clone("origin/main")
        done = gitlab.run(name, at)
        assert done.status == 0, done.output
        gitlab.hand_over(name, at)
        keeper = world.clone("origin/main", "keeper")
        world.push("main", version=f"1.{count + 1}", itl_ms=2)  # the branch goes on meanwhile
        shutil.copytree(world.artifacts / "perf", keeper / "perf", dirs_exist_ok=True)
        done = gitlab.run("keep", keeper, **push)
        assert done.status == 0, done.output
        assert nights(world) == count
    report(at / "out" / "report.json")
    report(at / "out" / "creep.json")


def test_gitlab_compares_a_release(world: World, gitlab: Gitlab) -> None:
    world.push("main", version="2.0", itl_ms=2, tag="v2.0")
    at = world.clone("v2.0")
    done = gitlab.run("release", at, CI_COMMIT_TAG="v2.0")
    assert done.status == 0, done.output
    assert "sgl-toy 1.0 -> 2.0" in changes(report(at / "out" / "report.json"))


# --- Buildkite -------------------------------------------------------------------------------


class Buildkite:
    """Runs one step in a clone, as the agent does after it has interpolated the pipeline."""

    def __init__(self, world: World, files: Files) -> None:
        document = files.yaml(files.example / "buildkite" / "pipeline.yml")
        self.world, self.env = world, document["env"]
        self.steps = {step["key"]: step for step in document["steps"] if "command" in step}
        self.script = files.buildkite

    def run(self, key: str, at: Path, **env: str) -> Done:
        step = self.steps[key]
        given = {**self.env, **env}
        done = self.world.shell(self.script(step), given, at=at, by=BUILDKITE_SHELL)
        for pattern in filter(None, step.get("artifact_paths", "").split(";")):
            name = pattern.partition("/")[0]
            self.world.keep(name, at / name)
        return done


@pytest.fixture
def buildkite(world: World, files: Files) -> Buildkite:
    return Buildkite(world, files)


def test_buildkite_compares_a_pull_request_and_annotates_it(
    world: World, buildkite: Buildkite
) -> None:
    world.push("mine", version="1.2", itl_ms=8)
    at = world.clone("origin/mine")
    done = buildkite.run("compare", at, BUILDKITE_PULL_REQUEST_BASE_BRANCH="main")
    assert done.status == 10, done.output
    assert report(world.artifacts / "out" / "report.json")["verdict"] == "fail"
    said = (world.root / "annotation.md").read_text(encoding="utf-8")
    assert "FAIL" in said
    assert "SIMULATED" in said


def test_buildkite_remembers_a_night(world: World, buildkite: Buildkite) -> None:
    for count, key in enumerate(("calibrate", "nightly"), start=1):
        done = buildkite.run(key, world.clone("origin/main"))
        assert done.status == 0, done.output
        keeper = world.clone("origin/main", "keeper")
        shutil.rmtree(keeper / "perf", ignore_errors=True)
        done = buildkite.run("keep", keeper, BUILDKITE_BRANCH="main")
        assert done.status == 0, done.output
        assert nights(world) == count
    report(world.artifacts / "out" / "report.json")
    report(world.artifacts / "out" / "creep.json")


def test_buildkite_compares_a_release(world: World, buildkite: Buildkite) -> None:
    world.push("main", version="2.0", itl_ms=2, tag="v2.0")
    done = buildkite.run("release", world.clone("v2.0"), BUILDKITE_TAG="v2.0")
    assert done.status == 0, done.output
    assert "sgl-toy 1.0 -> 2.0" in changes(report(world.artifacts / "out" / "report.json"))


# --- Jenkins ---------------------------------------------------------------------------------


class Jenkins:
    """Runs the ``sh`` of stages in a clone, up to the first that fails."""

    def __init__(self, world: World, files: Files) -> None:
        self.world = world
        self.stages = files.jenkins(files.example / "jenkins" / "Jenkinsfile")

    def run(self, *stages: str, at: Path, **env: str) -> Done:
        given = {"PERF_PLUGIN": "pytest-llmperf[html]==0.1.0", **env}
        for name in ("Install", *stages):
            done = self.world.shell(self.stages[name], given, at=at, by=JENKINS_SHELL)
            if done.status:
                break
        return done


@pytest.fixture
def jenkins(world: World, files: Files) -> Jenkins:
    return Jenkins(world, files)


def test_jenkins_compares_a_pull_request(world: World, jenkins: Jenkins) -> None:
    world.push("mine", version="1.2", itl_ms=2)
    at = world.clone("origin/mine")
    done = jenkins.run("Compare with the merge base", at=at, CHANGE_TARGET="main")
    assert done.status == 0, done.output
    assert "sgl-toy 1.1 -> 1.2" in changes(report(at / "out" / "report.json"))
    assert (at / "out" / "junit.xml").exists()


def test_jenkins_remembers_a_night(world: World, jenkins: Jenkins) -> None:
    nightly = ("Nightly", "Compare with the last release", "Keep")
    for count, stages in enumerate((("Calibrate", "Keep"), nightly), start=1):
        at = world.clone("origin/main")
        done = jenkins.run(*stages, at=at, BRANCH_NAME="main")
        assert done.status == 0, done.output
        assert nights(world) == count
    report(at / "out" / "report.json")
    report(at / "out" / "creep.json")


def test_jenkins_compares_a_release(world: World, jenkins: Jenkins) -> None:
    world.push("main", version="2.0", itl_ms=2, tag="v2.0")
    at = world.clone("v2.0")
    done = jenkins.run("Release", at=at, TAG_NAME="v2.0")
    assert done.status == 0, done.output
    assert "sgl-toy 1.0 -> 2.0" in changes(report(at / "out" / "report.json"))
