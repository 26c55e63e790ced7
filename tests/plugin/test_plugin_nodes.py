"""A server of two ranks, from its marker and options to the report."""

from __future__ import annotations

import inspect
import json
from typing import Any

import pytest

import ranks_stand_in

TEST = """
import pytest

pytestmark = [
    pytest.mark.llm_server("sglang", model="m", nodes=2, args="--tp 2", accelerator="cpu"),
    pytest.mark.llm_workload("chat", input_tokens=32, output_tokens=8, concurrency=2, requests=8),
]


def test_it(llm_perf):
    assert llm_perf.run().success_rate == 1.0
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeconftest(inspect.getsource(ranks_stand_in))
    pytester.makepyfile(TEST)
    return pytester


def run(suite: pytest.Pytester, *options: str) -> pytest.RunResult:
    return suite.runpytest_subprocess(
        "--llmperf-runs=1", "--llmperf-report=report.json", "--llmperf-log-dir=logs", *options
    )


def report(suite: pytest.Pytester) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((suite.path / "report.json").read_text())
    return found


def test_without_hosts_both_ranks_run_here(suite: pytest.Pytester) -> None:
    run(suite).assert_outcomes(passed=1)
    document = report(suite)
    launch = document["servers"][0]["launches"][0]
    at = launch["argv"].index("--nnodes")
    assert launch["argv"][at : at + 4] == ["--nnodes", "2", "--node-rank", "0"]
    assert any(note.startswith("rank 1, on this machine: ") for note in launch["notes"])
    match = document["environment"]["fingerprint"]["match"]
    assert (match["parallel_tp"], match["parallel_nodes"]) == (2, 2)
    (log,) = (suite.path / "logs").glob("*-rank1.log")
    assert "sim: ready" in log.read_text()


def test_another_node_is_reached_by_its_command(suite: pytest.Pytester) -> None:
    """What reaches it here is a shell that starts nothing but a sleep."""
    reach = 'sh -c "echo {rank} on {host}; : {command}; exec sleep 600"'
    run(
        suite, "--llmperf-hosts=127.0.0.1,node-b", f"--llmperf-node-command={reach}"
    ).assert_outcomes(passed=1)
    (log,) = (suite.path / "logs").glob("*-rank1.log")
    assert "1 on node-b" in log.read_text()


def test_a_node_that_cannot_be_reached_is_told(suite: pytest.Pytester) -> None:
    reach = 'sh -c "echo no route to {host}: {command} >&2; exit 255"'
    result = run(suite, "--llmperf-hosts=127.0.0.1,node-b", f"--llmperf-node-command={reach}")
    result.stdout.fnmatch_lines(["rank 1 of the sim server, on node-b, ended with*status 255*"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--llmperf-hosts=a,b",), "*say how to reach them with --llmperf-node-command*"),
        (("--llmperf-hosts=a,,b",), "*expected the names of nodes, each once*"),
        (("--llmperf-node-command=ssh -tt {host} {command}",), "*say which there are with*"),
        (
            ("--llmperf-hosts=a,b", "--llmperf-node-command=ssh {host}"),
            "*expected a command with {host} and {command} in it*",
        ),
        (
            ("--llmperf-hosts=a,b", "--llmperf-node-command=ssh {host} {command}"),
            "*a rank outlives the ssh that started it*",
        ),
    ],
)
def test_options_that_cannot_be_meant(
    suite: pytest.Pytester, options: tuple[str, ...], said: str
) -> None:
    result = run(suite, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([said])


def test_more_nodes_than_hosts(suite: pytest.Pytester) -> None:
    result = run(suite, "--llmperf-hosts=127.0.0.1")
    result.stdout.fnmatch_lines(["*--llmperf-hosts names 1: 127.0.0.1*"])
