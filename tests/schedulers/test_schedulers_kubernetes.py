"""The manifests for Kubernetes: the fields that matter, and the containers' commands, run from the
files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from pytest_llmperf.testing import FakeServer, Script

if TYPE_CHECKING:
    from tests.schedulers.conftest import Place

pytestmark = pytest.mark.timeout(600)
MANIFESTS = Path(__file__).parents[2] / "examples" / "schedulers" / "kubernetes"
Entry = dict[str, Any]
GPU = "nvidia.com/gpu"


def read(name: str) -> list[Entry]:
    return list(YAML(typ="safe").load_all((MANIFESTS / name).read_text(encoding="utf-8")))


def kind(name: str, wanted: str) -> Entry:
    (found,) = (each for each in read(name) if each["kind"] == wanted)
    return found


def pods(manifest: Entry) -> Iterator[Entry]:
    spec = manifest["spec"]
    if manifest["kind"] == "Job":
        yield spec["template"]["spec"]
    if manifest["kind"] == "LeaderWorkerSet":
        template = spec["leaderWorkerTemplate"]
        yield template["leaderTemplate"]["spec"]
        yield template["workerTemplate"]["spec"]


def shell(place: Place, manifest: Entry, **environment: str) -> Any:
    """Runs a container's command with its variables, and its mounts where they are here."""
    (container,) = next(pods(manifest))["containers"]
    given = {each["name"]: each["value"] for each in container["env"] if "value" in each}
    before: list[str] = list(container["command"])
    script: str = container["args"][0]
    for mount, here in {"/suite": "tests/perf", "/reports": "reports"}.items():
        script = script.replace(mount, str(place.root / here))
    return place.run([*before, script], **{**given, "POD_NAME": "perf-abc12", **environment})


@pytest.mark.parametrize("name", ["job.yaml", "attached.yaml"])
def test_a_session_runs_once_and_may_end_its_servers(name: str) -> None:
    job = kind(name, "Job")
    assert job["apiVersion"] == "batch/v1"
    assert job["spec"]["backoffLimit"] == 0
    pod = job["spec"]["template"]["spec"]
    assert pod["restartPolicy"] == "Never"
    assert pod["terminationGracePeriodSeconds"] >= 60
    # What is applied again would be another Job's name, not the same Job once more.
    assert "name" not in job["metadata"]


@pytest.mark.parametrize("name", ["job.yaml", "attached.yaml", "two-nodes.yaml"])
def test_every_mount_is_of_a_volume_that_is_there(name: str) -> None:
    claims = {each["metadata"]["name"] for each in read("suite.yaml")}
    for manifest in read(name):
        for pod in pods(manifest):
            volumes = {each["name"]: each for each in pod["volumes"]}
            for container in pod["containers"]:
                mounts = {each["name"] for each in container["volumeMounts"]}
                assert mounts == volumes.keys()
            wanted = [each["persistentVolumeClaim"]["claimName"] for each in volumes.values()
                      if "persistentVolumeClaim" in each]  # fmt: skip
            assert claims.issuperset(wanted)


@pytest.mark.parametrize("name", ["job.yaml", "attached.yaml", "two-nodes.yaml"])
def test_measured_pods_have_whole_cores_for_themselves(name: str) -> None:
    for manifest in read(name):
        for pod in pods(manifest):
            for container in pod["containers"]:
                resources = container["resources"]
                assert resources["requests"] == resources["limits"]
                assert str(resources["limits"]["cpu"]).isdecimal()
                assert resources["limits"].get(GPU, 0) == {"job.yaml": 1, "two-nodes.yaml": 8}.get(
                    name, 0
                )


def test_both_ranks_are_one_server_and_the_service_leads_to_the_first() -> None:
    served = kind("two-nodes.yaml", "LeaderWorkerSet")
    template = served["spec"]["leaderWorkerTemplate"]
    assert template["size"] == 2
    assert template["restartPolicy"] == "RecreateGroupOnPodRestart"
    leader, worker = (pod["containers"][0] for pod in pods(served))
    assert leader["args"] == worker["args"]
    for words in (
        '--nnodes "$LWS_GROUP_SIZE"',
        '--node-rank "$LWS_WORKER_INDEX"',
        '--dist-init-addr "$LWS_LEADER_ADDRESS:20000"',
        "--tp 16",
    ):
        assert words in leader["args"][0]
    service = kind("two-nodes.yaml", "Service")
    labels = template["leaderTemplate"]["metadata"]["labels"]
    assert service["spec"]["selector"]["role"] == labels["role"]
    name = served["metadata"]["name"]
    assert service["spec"]["selector"]["leaderworkerset.sigs.k8s.io/name"] == name
    (port,) = service["spec"]["ports"]
    assert f"--port {port['targetPort']}" in leader["args"][0]
    (container,) = kind("attached.yaml", "Job")["spec"]["template"]["spec"]["containers"]
    server = next(each["value"] for each in container["env"] if each["name"] == "SERVER")
    assert server == f"http://{service['metadata']['name']}:{port['port']}"


def test_the_job_measures_and_leaves_its_report(place: Place) -> None:
    done = shell(place, kind("job.yaml", "Job"), STORE=str(place.root / "perf"))
    assert done.returncode == 0, done.stdout + done.stderr
    report = place.report("reports/perf-abc12.json")
    assert [test["test"].rpartition("::")[2] for test in report["tests"]] == ["test_one_device"]
    (installed,) = place.asked("python3")
    assert installed["words"][-1] == "pytest-llmperf[sql]"


def test_the_served_model_is_measured_where_it_is(place: Place) -> None:
    with FakeServer(Script(model="m", ttft_ms=5, itl_ms=2)) as server:
        done = shell(
            place,
            kind("attached.yaml", "Job"),
            SERVER=server.url,
            STORE=str(place.root / "perf"),
        )
    assert done.returncode == 0, done.stdout + done.stderr
    report = place.report("reports/perf-abc12.json", simulated=False)
    (server_entry,) = report["servers"]
    assert [launch["launched"] for launch in server_entry["launches"]] == [False]


def test_each_rank_starts_what_the_set_tells_it(place: Place) -> None:
    served = kind("two-nodes.yaml", "LeaderWorkerSet")
    program = place.root / "bin" / "python3"
    program.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    told = {"LWS_GROUP_SIZE": "2", "LWS_LEADER_ADDRESS": "perf-r1-0.perf-r1.default"}
    done = shell(place, served, LWS_WORKER_INDEX="1", **told)
    words = done.stdout.split()
    assert words[words.index("--node-rank") + 1] == "1"
    assert words[words.index("--dist-init-addr") + 1] == "perf-r1-0.perf-r1.default:20000"
