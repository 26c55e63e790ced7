"""From the plan of a server to that of all its ranks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_llmperf.declared import server_from
from pytest_llmperf.engines.nodes import NODE_FLAGS
from pytest_llmperf.engines.parallel import parallel_of
from pytest_llmperf.errors import ServerError, UsageMistake
from pytest_llmperf.launch import ports
from pytest_llmperf.launch.job import job
from pytest_llmperf.records import Accelerator, Device, HttpProbe, LaunchPlan
from pytest_llmperf.session.devices import Allotment, allot
from pytest_llmperf.session.nodes import Nodes, over_nodes

PLAN = LaunchPlan(
    engine="sglang",
    argv=("python", "--port", "20001", "--tp", "4"),
    env=(("A", "b"), ("CUDA_VISIBLE_DEVICES", "0,1"), ("HF_TOKEN", "hf_secret")),
    host="127.0.0.1",
    port=20001,
    ready=HttpProbe(path="/health"),
    start_timeout_s=1.0,
    stop_grace_s=1.0,
)
SHARES = [{"CUDA_VISIBLE_DEVICES": "0,1"}, {"CUDA_VISIBLE_DEVICES": "2,3"}]
BOX = Accelerator(
    devices=tuple(
        Device(vendor="nvidia", product="P", index=at, uuid=f"G{at}", visible_as=str(at))
        for at in range(4)
    ),
    source="test",
)


@pytest.fixture(autouse=True)
def _released() -> Iterator[None]:
    yield
    for port in list(ports._claims):
        ports.release_port(port)


def test_ranks_on_this_machine_have_ports_and_devices_of_their_own() -> None:
    plan, meeting = over_nodes(PLAN, NODE_FLAGS["sglang"], 2, Nodes(), SHARES)
    (other,) = plan.others
    assert ports.holds(meeting)
    assert ports.holds(other.port)
    assert plan.argv[-6:] == (
        *("--nnodes", "2", "--node-rank", "0"),
        *("--dist-init-addr", f"127.0.0.1:{meeting}"),
    )
    assert other.argv[:3] == ("python", "--port", str(other.port))
    assert other.argv[-3] == "1"
    assert dict(plan.env)["CUDA_VISIBLE_DEVICES"] == "0,1"
    assert dict(other.env) == {"A": "b", "CUDA_VISIBLE_DEVICES": "2,3", "HF_TOKEN": "hf_secret"}
    assert (other.local, other.host) == (True, "this machine")


def test_ranks_of_this_machine_meet_where_no_other_machine_is() -> None:
    plan, meeting = over_nodes(
        replace(PLAN, host="127.0.0.2"), NODE_FLAGS["sglang"], 2, Nodes(), SHARES
    )
    assert plan.argv[-2:] == ("--dist-init-addr", f"127.0.0.1:{meeting}")
    assert plan.host == "127.0.0.2"


def test_ranks_elsewhere_are_reached_and_choose_their_devices_themselves() -> None:
    nodes = Nodes(hosts=("127.0.0.1", "node-b"), command=("ssh", "-tt", "{host}", "{command}"))
    plan, meeting = over_nodes(PLAN, NODE_FLAGS["sglang"], 2, nodes, SHARES[:1])
    (other,) = plan.others
    assert other.argv[:3] == ("ssh", "-tt", "node-b")
    assert other.argv[3].startswith("env A=b python --port 20001")
    assert f"--dist-init-addr 127.0.0.1:{meeting}" in other.argv[3]
    assert "CUDA_VISIBLE_DEVICES" not in other.argv[3]
    assert "hf_secret" not in other.argv[3]
    assert (other.local, other.port, other.env) == (False, 0, ())
    assert any("rank 1, on node-b: ssh -tt node-b" in note for note in plan.notes)


def test_secrets_of_ranks_elsewhere_are_not_noted() -> None:
    nodes = Nodes(hosts=("127.0.0.1", "node-b"), command=("ssh", "-tt", "{host}", "{command}"))
    keyed = replace(PLAN, argv=(*PLAN.argv, "--api-key", "sk-1"))
    plan, _ = over_nodes(keyed, NODE_FLAGS["sglang"], 2, nodes, SHARES[:1])
    assert "--api-key sk-1" in plan.others[0].argv[3]
    assert not any("sk-1" in note for note in plan.notes)
    assert "sk-1" not in str(job(plan.others[0].argv, {}, launch_id="l", log_path=Path("l"),
                                 grace_s=1.0, held_fds=())["note"])  # fmt: skip


def test_a_first_host_that_nobody_knows_is_a_mistake() -> None:
    nodes = Nodes(hosts=("no-such-host.invalid", "b"), command=("x", "{host}", "{command}"))
    with pytest.raises(UsageMistake, match="--llmperf-hosts: the first, 'no-such-host"):
        over_nodes(PLAN, NODE_FLAGS["sglang"], 2, nodes, SHARES[:1])
    assert not ports._claims


def test_where_one_port_cannot_be_had_none_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def claim(host: str) -> int:
        asked.append(host)
        if len(asked) == 3:
            raise ServerError("no free port")
        return ports.claim_port(host)

    monkeypatch.setattr("pytest_llmperf.session.nodes.claim_port", claim)
    with pytest.raises(ServerError):
        over_nodes(PLAN, NODE_FLAGS["sglang"], 3, Nodes(), [*SHARES, SHARES[0]])
    assert len(asked) == 3
    assert not ports._claims


def test_more_nodes_than_hosts_are_refused() -> None:
    nodes = Nodes(hosts=("a", "b"), command=("x",))
    request = server_from("sglang", model="m", args="--tp 3", nodes=3)
    with pytest.raises(UsageMistake, match="--llmperf-hosts names 2: a, b"):
        nodes.check(request)
    Nodes().check(request)
    nodes.check(replace(request, nodes=2))


def allotted(args: str, nodes: int, ranks: int) -> Allotment:
    request = server_from("sglang", model="m", args=args, nodes=nodes)
    parallel = parallel_of("sglang", request.args)
    assert parallel is not None
    return allot(request, BOX, replace(parallel, nodes=nodes), {}, ranks=ranks)


def test_ranks_of_one_machine_share_its_devices() -> None:
    chosen = allotted("--tp 4", 2, ranks=2)
    shares = chosen.shares(chosen.usual)
    assert [[device.index for device in share.devices] for share in shares] == [[0, 1], [2, 3]]
    told = [chosen.variables(share, {})["CUDA_VISIBLE_DEVICES"] for share in shares]
    assert told == ["0,1", "2,3"]
    assert chosen.usual.count == 4
    assert chosen.usual.parallel == {"tp": 4, "nodes": 2}


def test_of_ranks_on_machines_of_their_own_all_devices_count() -> None:
    chosen = allotted("--tp 8", 2, ranks=1)
    assert not chosen.tell
    assert len(chosen.usual.devices) == 4
    assert chosen.usual.count == 8
    with pytest.raises(UsageMistake, match="ask for 8 devices, and here are 4"):
        allotted("--tp 8", 2, ranks=2)


@pytest.mark.parametrize("nodes", [0, -1, True, "2", 1.5])
def test_a_number_of_nodes_that_is_none_is_refused(nodes: object) -> None:
    with pytest.raises(UsageMistake, match="expected a whole number of at least 1"):
        server_from("sglang", model="m", nodes=nodes)  # type: ignore[arg-type]


def test_what_cannot_have_nodes_is_refused() -> None:
    with pytest.raises(UsageMistake, match="leave nodes= out"):
        server_from("endpoint", url="http://h:1", nodes=2)
    with pytest.raises(UsageMistake, match="ranks are not started in containers"):
        server_from("sglang", model="m", image="i", nodes=2)
    assert server_from("sglang", model="m", nodes=1).nodes is None
