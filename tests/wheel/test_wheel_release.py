"""What may be released: tag, version and changelog agree, and nothing strange is packed."""

from __future__ import annotations

import re
import subprocess
import sys
from configparser import ConfigParser
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from patience import PATIENT_ARGS
from tools.release import check, contents, notes

ROOT = Path(__file__).parents[2]
PYPROJECT = '[project]\nname = "x"\nversion = "1.2.3"\n'
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.3] - 2026-11-22

### Added

- A thing.

## [1.2.2] - 2026-10-01

- Older.
"""


def test_a_release_says_what_is_new_in_it() -> None:
    release = notes.release_of("v1.2.3", PYPROJECT, CHANGELOG)
    assert release == notes.Release(
        version="1.2.3", day=date(2026, 11, 22), notes="### Added\n\n- A thing.\n"
    )


@pytest.mark.parametrize(
    ("tag", "old", "new", "said"),
    [
        ("1.2.3", "", "", "the tag is 1.2.3 and the package v1.2.3"),
        ("v1.2.4", "", "", "the tag is v1.2.4 and the package v1.2.3"),
        ("v1.2.3", "## [Unreleased]\n", "## [Unreleased]\n\n- Late.\n", "still has entries"),
        ("v1.2.3", "[1.2.3]", "[1.2.4]", r"the top entry of CHANGELOG.md is \[1.2.4\]"),
        ("v1.2.3", " - 2026-11-22", "", r"\[1.2.3\] in CHANGELOG.md has no date"),
        ("v1.2.3", "2026-11-22", "2026-11-31", "has no date"),
        ("v1.2.3", "2026-11-22", "2026-11-22 (maybe)", "has no date"),
        ("v1.2.3", "### Added\n\n- A thing.\n", "", r"says nothing about \[1.2.3\]"),
        ("v1.2.3", "## [Unreleased]\n", "", "must begin with"),
    ],
)
def test_what_is_not_ready_is_told_in_one_sentence(tag: str, old: str, new: str, said: str) -> None:
    with pytest.raises(notes.NotReady, match=said) as caught:
        notes.release_of(tag, PYPROJECT, CHANGELOG.replace(old, new))
    assert "\n" not in str(caught.value)


def test_our_own_changelog_can_become_a_release() -> None:
    """Whoever releases moves what is unreleased below a version, and that is all there is to do."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    pyproject = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    version = re.search(r'^version = "(.+)"$', pyproject, re.MULTILINE)
    assert version is not None
    released = text.replace(
        "## [Unreleased]\n", f"## [Unreleased]\n\n## [{version[1]}] - 2026-11-22\n", 1
    )
    assert notes.release_of(f"v{version[1]}", pyproject, released).notes


def test_the_command_says_why_not() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tools.release.notes", "v0"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("not ready: the tag is v0 and the package v")


GOOD = ["pytest_llmperf/py.typed", "x-1.dist-info/METADATA", "x-1.dist-info/licenses/LICENSE"]


@pytest.mark.parametrize(
    ("more", "less", "said"),
    [
        ([], [], []),
        (["tests/test_x.py"], [], ["tests/ is too much"]),
        (["schemas/x.json"], [], ["schemas/ is too much"]),
        (["pytest_llmperf/__pycache__/x.pyc"], [], ["__pycache__"]),
        ([], ["pytest_llmperf/py.typed"], ["py.typed is missing"]),
        ([], ["x-1.dist-info/licenses/LICENSE"], ["the licence is missing"]),
    ],
)
def test_a_wheel_has_what_it_must(more: list[str], less: list[str], said: list[str]) -> None:
    names = [name for name in [*GOOD, *more] if name not in less]
    problems = contents.wheel_problems(names, ["pytest_llmperf/py.typed"])
    assert len(problems) == len(said)
    assert all(words in problem for words, problem in zip(said, problems, strict=True))


def test_an_sdist_has_what_it_must() -> None:
    good = [f"x-1/{name}" for name in (*contents.OF_SDIST, "tests/conftest.py")]
    assert contents.sdist_problems(good, []) == []
    assert contents.sdist_problems([*good, "x-1/.env"], []) == [".env is too much"]
    assert contents.sdist_problems(good, ["schemas/a.json"]) == ["schemas/a.json is missing"]
    assert contents.sdist_problems(good[:-1], []) == ["the tests are missing"]


def test_schemas_have_another_place_in_a_wheel() -> None:
    tracked = ["pytest_llmperf/a.py", "schemas/b.json", "docs/c.md"]
    assert contents.wanted_in_wheel(tracked) == [
        "pytest_llmperf/a.py",
        "pytest_llmperf/schemas/b.json",
    ]


# --- the dry run ---------------------------------------------------------------------------------


def test_what_is_tried_is_what_is_installed_and_nobody_asks_how_busy_the_machine_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    dry = check.Dry(tmp_path, "uv", "twine", tmp_path / "dist")
    assert dry.do(sys.executable, "-c", "import os; print('PYTHONPATH' in os.environ)") == "False\n"
    calm = ConfigParser()
    calm.read_string(check.CALM)
    assert {f"{name}={value}" for name, value in calm["pytest"].items()} == set(PATIENT_ARGS[1::2])


# --- the workflow --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def workflow() -> Any:
    path = ROOT / ".github" / "workflows" / "release.yml"
    return YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))


def test_only_a_tag_releases(workflow: Any) -> None:
    assert workflow["on"] == {"push": {"tags": ["v*"]}}


def test_what_is_published_is_what_was_tested(workflow: Any) -> None:
    jobs = workflow["jobs"]
    assert set(jobs["publish"]["needs"]) == {"build", "test"}
    builds = [name for name, job in jobs.items() if "release-check" in str(job)]
    assert builds == ["build"]
    fetched = {
        step["with"]["name"]
        for job in jobs.values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/download-artifact@")
    }
    assert fetched == {"dist", "notes"}


def test_only_the_job_that_publishes_can_sign_and_it_runs_no_code_of_ours(workflow: Any) -> None:
    jobs = workflow["jobs"]
    signing = [name for name, job in jobs.items() if "id-token" in job.get("permissions", {})]
    assert signing == ["publish"]
    assert workflow["permissions"] == {}
    assert jobs["publish"]["environment"]
    assert not [step for step in jobs["publish"]["steps"] if "run" in step]
