"""The example for GitHub Actions: every step of every job, from the YAML itself."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.report.validate import validate_report
from repositories import git

if TYPE_CHECKING:
    from tests.ci.conftest import Files, GithubJob, GithubRunner, World

pytestmark = pytest.mark.timeout(600)

PLUGIN = "pytest-llmperf[html]==0.1.0"
COMPARE = "Compare it with the merge base"


@pytest.fixture
def workflows(files: Files) -> Path:
    return files.example / "github"


def pull_request(
    *, action: str = "labeled", label: str = "perf", fork: bool = False, sha: str = ""
) -> dict[str, Any]:
    """The event, as far as the workflow looks at it."""
    return {
        "action": action,
        "label": {"name": label} if action == "labeled" else None,
        "pull_request": {
            "number": 12,
            "labels": [{"name": "perf"}, {"name": "docs"}],
            "head": {"sha": sha, "repo": {"full_name": "fork/engine" if fork else "us/engine"}},
        },
        "_": {"repository": "us/engine"},
    }


def compare(world: World, github: GithubRunner, workflows: Path, *, itl_ms: float) -> GithubJob:
    world.push("mine", version="1.2", itl_ms=itl_ms)
    job = github.run(
        workflows / "perf.yml",
        "compare",
        at=world.clone("origin/mine"),
        event=pull_request(sha=world.sha("mine")),
        GITHUB_BASE_REF="main",
    )
    assert job is not None
    return job


def report_of(world: World, name: str = "perf-report", file: str = "report.json") -> dict[str, Any]:
    path = world.artifacts / name / file
    assert validate_report(path) == []
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def test_a_pull_request_that_is_as_fast_is_green(
    world: World, github: GithubRunner, workflows: Path
) -> None:
    job = compare(world, github, workflows, itl_ms=2)
    assert job.result == "success", job.said
    assert world.installed() == [PLUGIN, "python", "python"]
    report = report_of(world)
    assert report["simulated"]
    gates = {gate["kind"]: gate for gate in report["gates"]}
    assert gates["regression"]["verdict"] == "pass"
    assert any("sgl-toy 1.1 -> 1.2" in each for each in gates["regression"]["changed"])
    assert world.sha("main")[:7] in gates["regression"]["against"]
    assert "SIMULATED" in job.summary
    kept = world.artifacts / "perf-report"
    assert (kept / "report.html").stat().st_size > 10_000
    cases = ET.parse(kept / "junit.xml").getroot().iter("testcase")  # noqa: S314 - ours
    assert {case.get("name") for case in cases} == {"test_many_users", "test_one_user"}


def test_a_slower_pull_request_is_red_with_status_10_and_its_report_is_kept(
    world: World, github: GithubRunner, workflows: Path
) -> None:
    job = compare(world, github, workflows, itl_ms=8)
    assert job.result == "failure"
    assert job.steps[COMPARE].status == 10, job.steps[COMPARE].output
    assert "::error file=tests/perf/test_serving.py,line=" in job.steps[COMPARE].output
    assert "FAIL" in job.summary
    assert report_of(world)["verdict"] == "fail"


def test_a_night_is_remembered_with_its_calibration_and_its_red_gates(
    world: World, github: GithubRunner, workflows: Path
) -> None:
    nightly = workflows / "nightly.yml"
    event: dict[str, Any] = {"schedule": "17 22 1,15 * *"}
    calibrated = github.run(nightly, "measure", at=world.clone("origin/main"), event=event)
    assert calibrated is not None
    assert calibrated.result == "success", calibrated.said
    assert "Measure, and compare with the accepted level" not in calibrated.steps
    assert validate_report(world.artifacts / "perf-report" / "calibration.json") == []
    assert kept(world, github, nightly, event) == "success"

    world.push("main", version="1.2", itl_ms=2)  # meanwhile the branch goes on
    event = {"schedule": "17 2 * * *"}
    measured = github.run(nightly, "measure", at=world.clone("origin/main~1"), event=event)
    assert measured is not None
    assert measured.result == "success", measured.said
    assert "Calibrate" not in measured.steps
    report = report_of(world)
    assert {gate["reason_code"] for gate in report["gates"] if gate["kind"] == "regression"} == {
        "learning"
    }
    creep = report_of(world, file="creep.json")
    assert any("v1.0" in gate["against"] for gate in creep["gates"] if gate["against"])
    assert kept(world, github, nightly, event, at="origin/main~1") == "success"

    files = git("ls-tree", "-r", "--name-only", "main", "perf", at=world.remote).split()
    assert len(files) > 4
    subjects = git("log", "--format=%s", "main", at=world.remote).splitlines()
    assert subjects.count("perf: what this night has measured") == 2


def kept(
    world: World,
    github: GithubRunner,
    nightly: Path,
    event: dict[str, Any],
    at: str = "origin/main",
) -> str:
    needs = {"measure": {"result": "failure"}}
    place = world.clone(at, "keeper")
    job = github.run(nightly, "keep", at=place, event=event, needs=needs, GITHUB_REF_NAME="main")
    assert job is not None
    assert job.result == "success", job.said
    return job.result


def test_a_release_is_compared_with_the_one_before(
    world: World, github: GithubRunner, workflows: Path
) -> None:
    world.push("main", version="2.0", itl_ms=2, tag="v2.0")
    place = world.clone("v2.0")
    job = github.run(
        workflows / "release.yml", "compare", at=place, event={}, GITHUB_REF_NAME="v2.0"
    )
    assert job is not None
    assert job.result == "success", job.said
    gates = [gate for gate in report_of(world)["gates"] if gate["kind"] == "regression"]
    assert gates
    for gate in gates:
        assert gate["verdict"] == "pass"
        assert any("sgl-toy 1.0 -> 2.0" in each for each in gate["changed"])


# --- what runs at all ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("event", "runs"),
    [
        (pull_request(), True),
        (pull_request(fork=True), True),
        (pull_request(label="docs"), False),
        (pull_request(action="synchronize"), True),
        (pull_request(action="synchronize", fork=True), False),
    ],
)
def test_what_a_fork_pushes_after_the_label_does_not_run(
    files: Files, workflows: Path, event: dict[str, Any], runs: bool
) -> None:
    job = files.yaml(workflows / "perf.yml")["jobs"]["compare"]
    words = files.expressions({"github": {"event": event, **event["_"]}})
    assert words.truth(job["if"]) is runs


@pytest.mark.parametrize("label", ["perf", "docs"])
def test_another_label_does_not_end_a_measurement(
    files: Files, workflows: Path, label: str
) -> None:
    group = files.yaml(workflows / "perf.yml")["concurrency"]["group"]
    event = pull_request(label=label)
    found = files.expressions({"github": {"event": event, "run_id": "7"}}).filled(group)
    assert found == ("perf-12-measure" if label == "perf" else "perf-12-7")


def test_no_one_can_write_but_who_has_to(files: Files, workflows: Path) -> None:
    granted = {
        f"{path.name}:{name}": {
            scope: right for scope, right in rights(document, job).items() if right != "read"
        }
        for path in sorted(workflows.glob("*.yml"))
        for document in [files.yaml(path)]
        for name, job in document["jobs"].items()
    }
    assert {name: rights for name, rights in granted.items() if rights} == {
        "comment.yml:post": {"pull-requests": "write"},
        "nightly.yml:keep": {"contents": "write"},
    }


def rights(document: dict[str, Any], job: dict[str, Any]) -> dict[str, str]:
    found: dict[str, str] = job.get("permissions", document["permissions"])
    return found


def test_a_pull_requests_job_sees_no_secret(workflows: Path) -> None:
    text = (workflows / "perf.yml").read_text(encoding="utf-8")
    assert "secrets." not in text
    assert "github.token" not in text
    assert "pull_request_target" not in text
