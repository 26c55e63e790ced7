"""What holds of every workflow in the repository, the examples' and our own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.ci.conftest import Files

ROOT = Path(__file__).parents[2]
OWN = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
GITHUB = [*sorted((ROOT / "examples" / "ci" / "github").glob("*.yml")), *OWN]
#: Read off the tags of the actions' own repositories, in November 2026.
PINS = {
    "actions/attest": ("59d89421af93a897026c735860bf21b6eb4f7b26", "v4.1.0"),
    "pypa/gh-action-pypi-publish": ("dc37677b2e1c63e2034f94d8a5b11f265b73ba33", "v1.14.2"),
    "actions/checkout": ("3d3c42e5aac5ba805825da76410c181273ba90b1", "v7.0.1"),
    "actions/setup-python": ("5fda3b95a4ea91299a34e894583c3862153e4b97", "v7.0.0"),
    "actions/upload-artifact": ("bbbca2ddaa5d8feaa63e36b76fdaad77386f024f", "v7.0.0"),
    "actions/download-artifact": ("3e5f45b2cfb9172054b4087a40e8e0b5a5461e7c", "v8.0.1"),
}


def steps_of(files: Files, path: Path) -> list[dict[str, Any]]:
    jobs = files.yaml(path)["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


def test_there_are_workflows_of_our_own() -> None:
    names = ["contracts.yml", "links.yml", "release.yml", "test.yml"]
    assert [path.name for path in OWN] == names


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_every_action_is_pinned_to_a_commit_that_was_looked_up(path: Path) -> None:
    uses = re.findall(r"uses: (\S+?)@(\S+) # (\S+)$", path.read_text("utf-8"), re.MULTILINE)
    assert len(uses) == path.read_text(encoding="utf-8").count("uses:")
    for action, commit, version in uses:
        assert PINS[action] == (commit, version)


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_no_value_of_an_event_becomes_part_of_a_command(files: Files, path: Path) -> None:
    for step in steps_of(files, path):
        assert "${{" not in step.get("run", ""), step


@pytest.mark.parametrize("path", GITHUB, ids=lambda path: path.name)
def test_the_token_can_only_read_until_a_job_says_more(files: Files, path: Path) -> None:
    document = files.yaml(path)
    assert set(document["permissions"].values()) <= {"read"}
    for name, job in document["jobs"].items():
        assert job["timeout-minutes"] > 0, name
        for step in job["steps"]:
            if step.get("uses", "").startswith("actions/checkout"):
                keeps = step.get("with", {}).get("persist-credentials", True)
                writes = job.get("permissions", {}).get("contents") == "write"
                assert keeps is writes, f"{name}: who cannot push needs no token on disk"


def schemas() -> list[tuple[str, str, Path]]:
    ci = ROOT / "examples" / "ci"
    return [
        *[("vendor.github-workflows", "", path) for path in GITHUB],
        *[("custom.github-workflows-require-timeout", "", path) for path in GITHUB],
        ("vendor.gitlab-ci", "gitlab-ci", ci / "gitlab" / ".gitlab-ci.yml"),
        ("vendor.buildkite", "", ci / "buildkite" / "pipeline.yml"),
    ]


@pytest.mark.parametrize(("schema", "transform", "path"), schemas())
def test_each_file_is_one_that_its_ci_understands(schema: str, transform: str, path: Path) -> None:
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema]
    more = ["--data-transform", transform] if transform else []
    done = subprocess.run([*words, *more, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_makefile_checks_each_of_them() -> None:
    lint = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nlint:")[2].split("\n\n")[0]
    for schema, _, _ in schemas():
        assert schema in lint
    for place in (".github/workflows/*.yml", "examples/ci/github/*.yml"):
        assert place in lint


def test_the_jenkinsfile_is_balanced_and_leaves_every_variable_to_the_shell(files: Files) -> None:
    path = files.example / "jenkins" / "Jenkinsfile"
    text = path.read_text(encoding="utf-8")
    scripts = files.jenkins(path)
    outside = re.sub(r"'''.*?'''|'[^'\n]*'|//[^\n]*", "''", text, flags=re.DOTALL)
    assert '"' not in outside
    for opening, closing in ("{}", "()", "[]"):
        assert outside.count(opening) == outside.count(closing)
    assert len(scripts) == text.count("stage('")
    assert all(scripts.values())
    for script in scripts.values():
        assert "${" not in script
