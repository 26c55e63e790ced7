"""``llm_server(image=...)`` from the outside."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from processes import until

if TYPE_CHECKING:
    from tests.containers.conftest import FakeDocker

FAST = ["--ttft-ms", "5", "--itl-ms", "2"]
SLOW = ["--ttft-ms", "5", "--itl-ms", "3"]
HEAD = """
import pytest
pytestmark = [
    pytest.mark.llm_server("sim", model="m", {server}),
    pytest.mark.llm_workload("chat", input_tokens=8, output_tokens=32, requests=16, concurrency=4),
]
GATE = pytest.mark.llm_no_regression(tpot_mean="20%")
"""
RUN = "def test_a(llm_perf): llm_perf.run()\n"
GATED = "@GATE\n" + RUN


def run(
    pytester: pytest.Pytester, *args: str, server: str = "image='sim:1'", body: str = RUN
) -> tuple[pytest.RunResult, dict[str, Any]]:
    pytester.makepyfile(test_it=HEAD.format(server=server) + body)
    options = ("--llmperf-report=r.json", "--llmperf-runs=1", "--llmperf-no-progress")
    result = pytester.runpytest(*options, "--llmperf-quality=off", *args)
    report = pytester.path / "r.json"
    return result, json.loads(report.read_text()) if report.exists() else {}


def launches(report: dict[str, Any]) -> list[dict[str, Any]]:
    return [launch for server in report["servers"] for launch in server["launches"]]


def test_a_server_of_an_image_is_launched_measured_and_stopped(
    pytester: pytest.Pytester, docker: FakeDocker
) -> None:
    docker.offer(**{"sim:1": docker.image("ab", append=FAST)})
    result, report = run(pytester)
    assert result.ret == 0
    (launch,) = launches(report)
    assert launch["argv"][:4] == ["docker", "run", "--rm", "--name"]
    assert docker.image("ab")["id"] in launch["argv"]
    assert launch["env"] == {"PYTHONUNBUFFERED": "1"}
    assert f"runs in a container of docker: sim:1, {'ab' * 8}" in launch["notes"]
    assert report["measurements"][0]["runs"][0]["valid"]
    assert docker.containers() == []
    assert len(docker.calls("run")) == len(docker.calls("rm")) == 1


def test_the_subject_is_the_image(pytester: pytest.Pytester, docker: FakeDocker) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    result, report = run(pytester, "--llmperf-store=perf")
    assert result.ret == 0
    subject = launches(report)[0]["subject"]
    assert subject["image"] == "ab" * 8
    assert subject["code"] == {}
    assert subject["env"] == {}
    assert subject["python"] == sys.version.split()[0]
    assert subject["packages"]["numpy"]


def test_a_slower_image_fails_against_the_reference_image(
    pytester: pytest.Pytester, docker: FakeDocker
) -> None:
    docker.offer(
        **{"sim:1": docker.image("ab", append=FAST), "sim:2": docker.image("cd", append=SLOW)}
    )
    result, report = run(
        pytester, "--llmperf-reference-image=sim:1", server="image='sim:2'", body=GATED
    )
    assert result.ret == 10
    (gate,) = report["gates"]
    assert (gate["verdict"], gate["reason_code"]) == ("fail", "loss_shown")
    assert "in sim:1" in gate["against"]
    assert f"image {'ab' * 8} -> {'cd' * 8}" in gate["changed"]
    assert docker.containers() == []


def test_the_marker_names_the_reference_image(
    pytester: pytest.Pytester, docker: FakeDocker
) -> None:
    docker.offer(
        **{"sim:1": docker.image("ab", append=FAST), "sim:2": docker.image("cd", append=SLOW)}
    )
    server = "image='sim:1', reference={'image': 'sim:2'}"
    result, report = run(pytester, server=server, body=GATED)
    assert result.ret == 0
    assert report["gates"][0]["reason_code"] == "loss_excluded"


def test_two_names_of_one_image_are_nothing_to_compare(
    pytester: pytest.Pytester, docker: FakeDocker
) -> None:
    docker.offer(**{"sim:1": docker.image("ab"), "sim:latest": docker.image("ab")})
    result, report = run(pytester, "--llmperf-reference-image=sim:latest", body=GATED)
    assert result.ret == 11
    assert report["gates"][0]["reason_code"] == "identical"


def test_an_environment_against_an_image(pytester: pytest.Pytester, docker: FakeDocker) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    server = f"args={' '.join(SLOW)!r}"
    options = ("--llmperf-reference-image=sim:1", "--llmperf-reference-args", " ".join(FAST))
    result, report = run(pytester, *options, server=server, body=GATED)
    assert result.ret == 10
    tools = {launch["argv"][0] for launch in launches(report)}
    assert tools == {"docker", sys.executable}


def test_the_plan_tells_the_image(pytester: pytest.Pytester, docker: FakeDocker) -> None:
    result, _ = run(pytester, "--llmperf-reference-image=sim:0", "--llmperf-plan", body=GATED)
    result.stdout.fnmatch_lines(["*compared with sim in sim:0"])


def test_an_image_that_is_not_here_is_broken_with_the_remedy(
    pytester: pytest.Pytester, docker: FakeDocker
) -> None:
    result, report = run(pytester)
    assert result.ret == 11
    assert report["tests"][0]["outcome"] == "broken"
    result.stdout.fnmatch_lines(["*docker has no image 'sim:1'*", "*docker pull sim:1*"])


def test_a_daemon_that_is_away_is_broken_with_the_remedy(
    pytester: pytest.Pytester, docker: FakeDocker
) -> None:
    docker.stop()
    result, _ = run(pytester)
    assert result.ret == 11
    result.stdout.fnmatch_lines(["*docker's daemon does not run*", "*systemctl start docker*"])


def test_the_tool_can_be_chosen(pytester: pytest.Pytester, docker: FakeDocker) -> None:
    docker.offer(**{"sim:1": docker.image("ab")})
    docker.program("podman", 'exec docker "$@"')
    result, report = run(pytester, "--llmperf-container=podman")
    assert result.ret == 0
    assert launches(report)[0]["argv"][0] == "podman"
    assert docker.calls("rm")[0][:4] == ["rm", "--force", "--volumes", "--ignore"]


def test_a_test_run_that_is_killed_leaves_nothing(
    pytester: pytest.Pytester, docker: FakeDocker
) -> None:
    docker.offer(**{"sim:1": docker.image("ab", append=FAST)})
    body = "import pathlib, time\ndef test_a(llm_server):\n    llm_server.url\n"
    body += "    pathlib.Path('up').touch()\n    time.sleep(600)\n"
    pytester.makepyfile(test_it=HEAD.format(server="image='sim:1'") + body)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "test_it.py"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as run:
        assert until(lambda: (pytester.path / "up").exists())
        (keeper,) = psutil.Process(run.pid).children()
        assert len(docker.containers()) == 1
        run.send_signal(signal.SIGKILL)
    assert until(lambda: not keeper.is_running())
    assert docker.containers() == []
    assert docker.calls("rm")


# --- what cannot be meant --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("image=''", "*llm_server: image='': expected the name of a container image*"),
        ("image='--privileged'", "*expected the name of a container image*"),
        ("image=3", "*expected the name of a container image*"),
        ("image='i', reference={'image': 7}", "*llm_server: image=7: expected the name*"),
        ("image='i', url='http://h:1'", '*url= goes with llm_server("endpoint", ...)*'),
    ],
)
def test_an_image_that_cannot_be_meant(pytester: pytest.Pytester, server: str, said: str) -> None:
    result, _ = run(pytester, server=server)
    assert result.ret == 4
    result.stderr.fnmatch_lines([said])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--llmperf-reference-url=http://h:1"], "*--llmperf-reference-url names a server that*"),
        (["--llmperf-reference-build=x"], "*brings an interpreter of its own*reference-build*"),
        ([f"--llmperf-reference-python={sys.executable}"], "*of its own*reference-python*"),
    ],
)
def test_a_reference_image_beside_another_reference(
    pytester: pytest.Pytester, options: list[str], said: str
) -> None:
    result, _ = run(pytester, "--llmperf-reference-image=i", *options)
    assert result.ret == 4
    result.stderr.fnmatch_lines([said])


def test_a_reference_image_that_cannot_be_meant(pytester: pytest.Pytester) -> None:
    result, _ = run(pytester, "--llmperf-reference-image=-v")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--llmperf-reference-image='-v': expected the name of a*"])


def test_an_endpoint_has_no_image(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.llm_server('endpoint', url='http://h:1', image='i')\n"
        "def test_a(llm_perf): pass\n"
    )
    result = pytester.runpytest()
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*an endpoint runs already and is started in no container*"])


def test_an_endpoint_is_not_compared_with_an_image(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        "import pytest\n"
        "@pytest.mark.llm_server('endpoint', url='http://h:1')\n"
        "def test_a(llm_perf): pass\n"
    )
    result = pytester.runpytest("--llmperf-reference-image=i")
    assert result.ret == 4
    result.stderr.fnmatch_lines(["*--llmperf-reference-image=i: what runs already at http://h:1*"])
