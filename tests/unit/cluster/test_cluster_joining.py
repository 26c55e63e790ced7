"""Joining a cluster through a child process: addresses, reasons, time limits, endings."""

from __future__ import annotations

import os
import sys
import textwrap
import types
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from pytest_llmperf.cluster import join as joining
from pytest_llmperf.cluster.join import Cluster
from pytest_llmperf.cluster.member import Member, join
from pytest_llmperf.cluster.messages import ClusterNode, Join
from pytest_llmperf.cluster.reasons import why_not_joined
from pytest_llmperf.engines.over_ray import check_address, check_installed
from pytest_llmperf.errors import ClusterError, UsageMistake

#: A member that has joined nothing: it speaks as one, without Ray.
MEMBER = """
import os, sys
from multiprocessing.connection import Connection
from pytest_llmperf.cluster import member
from pytest_llmperf.cluster.messages import Join

print("a line of Ray's", flush=True)

def joined(asked: Join):
    {joining}
    return member.Member(session=asked.session, address="10.0.0.1:6379")

member.join = joined
member._leave = lambda: os._exit(0)
member.main(int(sys.argv[1]))
"""


@pytest.fixture(autouse=True)
def _ray_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joining, "check_installed", lambda _: None)


@pytest.fixture
def member(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _with(tmp_path, monkeypatch, "pass")


def _with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, doing: str) -> None:
    script = tmp_path / "member.py"
    script.write_text(textwrap.dedent(MEMBER).format(joining=doing))
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *filter(None, sys.path)]))
    monkeypatch.setattr(joining, "_command", lambda fd: [sys.executable, str(script), str(fd)])


# --- called in the member -----------------------------------------------------------------------


def add(member: Member, one: int, other: int = 1) -> int:
    member.kept["sum"] = one + other
    return one + other


def recall(member: Member) -> tuple[str, object]:
    return member.name("x", 1), member.kept["sum"]


def mistaken(member: Member) -> None:
    raise UsageMistake("no such thing")


def broken(member: Member) -> None:
    raise KeyError("what")


def dies(member: Member) -> None:
    os._exit(7)


def prints(member: Member, lines: int) -> None:
    for number in range(lines):
        print(f"line {number}", flush=True)


def hangs(member: Member) -> None:
    import time

    time.sleep(60)


# --- addresses ----------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["auto", "10.0.0.1:6379", "head:6379", "[::1]:6379"])
def test_an_address_may_be(address: str) -> None:
    assert check_address(address, "ray=") == address


@pytest.mark.parametrize("address", ["", "local", "head", "head:", ":6379", "ray://head:10001"])
def test_no_address_starts_a_cluster(address: str) -> None:
    with pytest.raises(UsageMistake, match='expected "auto", or HOST:PORT'):
        check_address(address, "ray=")


@pytest.mark.parametrize("address", ["", "local"])
def test_a_member_starts_no_cluster_either(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Ray:
        def init(self, **_: object) -> None:
            raise AssertionError("a cluster would have been started")

    monkeypatch.setitem(sys.modules, "ray", Ray())
    with pytest.raises(ValueError, match="no cluster is started here"):
        join(Join(address=address, session="s"))


def test_ray_that_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_llmperf.engines.over_ray.find_spec", lambda _: None)
    with pytest.raises(UsageMistake, match=r"x: Ray is not installed here; install pytest-llmperf"):
        check_installed("x")


# --- calls --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("member")
def test_calls_are_answered_one_after_the_other() -> None:
    with Cluster.join("auto") as cluster:
        assert cluster.address == "10.0.0.1:6379"
        assert cluster.call(add, 1, other=2) == 3
        assert cluster.call(recall) == (f"llmperf-{cluster.session}-x-1", 3)
        assert "a line of Ray's" in cluster.said()


@pytest.mark.usefixtures("member")
def test_our_errors_cross_and_others_are_told() -> None:
    with Cluster.join("auto") as cluster:
        with pytest.raises(UsageMistake, match="no such thing"):
            cluster.call(mistaken)
        with pytest.raises(ClusterError, match="broken failed") as told:
            cluster.call(broken)
        assert told.value.cause == "KeyError: 'what'"
        assert cluster.call(add, 1) == 2


@pytest.mark.usefixtures("member")
def test_what_a_member_cannot_find_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("only_here")

    def lost(member: Member) -> None: ...

    lost.__module__, lost.__qualname__ = "only_here", "lost"
    module.lost = lost  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "only_here", module)
    with Cluster.join("auto") as cluster:
        with pytest.raises(ClusterError) as told:
            cluster.call(lost)
        assert "No module named 'only_here'" in told.value.cause
        assert cluster.call(add, 1) == 2


@pytest.mark.usefixtures("member")
def test_a_member_that_ray_ended_is_told() -> None:
    with Cluster.join("auto") as cluster:
        with pytest.raises(ClusterError, match=r"the Ray cluster at .* is lost") as told:
            cluster.call(dies)
        assert "status 7" in told.value.cause
        assert told.value.log_tail == ("a line of Ray's",)
        with pytest.raises(ClusterError, match="was left before"):
            cluster.call(add, 1)


@pytest.mark.usefixtures("member")
def test_no_call_waits_for_ever() -> None:
    cluster = Cluster.join("auto")
    with pytest.raises(ClusterError, match=r"did not answer within 0\.2 s"):
        cluster.call_within(0.2, hangs)
    assert cluster.left
    assert cluster._process.poll() is not None


@pytest.mark.usefixtures("member")
def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Cluster.join("auto") as cluster:
        with monkeypatch.context() as patch:
            patch.setattr(Connection, "poll", _interrupted)
            for number in range(3):
                with pytest.raises(KeyboardInterrupt):
                    cluster.call(add, number)
        assert cluster.call(add, 40, other=2) == 42
        assert cluster.call(add, 1) == 2


@pytest.mark.usefixtures("member")
@pytest.mark.parametrize("halfway", ["send", "recv"])
def test_a_message_that_is_interrupted_halfway_is_the_last_one(
    halfway: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Cluster.join("auto")
    with monkeypatch.context() as patch:
        patch.setattr(Connection, halfway, _interrupted)
        with pytest.raises(KeyboardInterrupt):
            cluster.call(add, 1)
    assert cluster._process.poll() is not None
    with pytest.raises(ClusterError, match="was left before"):
        cluster.call(add, 1)


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.usefixtures("member")
def test_threads_that_share_a_member_get_their_own_answers() -> None:
    with Cluster.join("auto") as cluster, ThreadPoolExecutor(8) as pool:
        asked = range(200)
        assert list(pool.map(lambda n: cluster.call(add, n), asked)) == [n + 1 for n in asked]


@pytest.mark.usefixtures("member")
def test_only_the_end_of_what_it_printed_is_read() -> None:
    with Cluster.join("auto") as cluster:
        cluster.call(prints, 20)
        said = cluster.said()
        assert said == tuple(f"line {n}" for n in range(5, 20))
        cluster.call(prints, 1)
        assert cluster.said() == (*said[1:], "line 0")


@pytest.mark.usefixtures("member")
def test_nothing_is_left_of_a_member() -> None:
    cluster = Cluster.join("auto")
    cluster.close()
    cluster.close()
    assert cluster._process.poll() is not None


def test_who_cannot_join_is_told_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "Could not find any running Ray instance. Please specify the one to connect to"
    _with(tmp_path, monkeypatch, f"raise ConnectionError({said!r})")
    with pytest.raises(ClusterError, match="at auto could not be joined") as told:
        Cluster.join("auto")
    assert told.value.cause == "this machine is no node of the Ray cluster"
    assert "ray start --address" in told.value.remedy


def test_a_host_that_nobody_knows_is_told_at_once() -> None:
    with pytest.raises(ClusterError, match="could not be joined") as told:
        Cluster.join("no-such-host.invalid:6379")
    assert "not known here by that name" in told.value.cause


def test_a_port_where_nobody_listens_is_told_at_once() -> None:
    with pytest.raises(ClusterError, match="could not be joined") as told:
        Cluster.join("127.0.0.1:1")
    assert "nothing that belongs to Ray answers there" in told.value.cause


# --- reasons ------------------------------------------------------------------------------------

VERSIONS = """Version mismatch: The cluster was started with:
    Ray: 2.55.1
    Python: 3.12.3
This process on node 10.0.0.2 was started with:
    Ray: 2.60.0
    Python: 3.11.7
"""


def test_versions_that_differ_are_told_in_one_sentence() -> None:
    error = why_not_joined("auto", "RuntimeError", VERSIONS)
    assert error.cause == (
        "the cluster runs Ray 2.55.1 on Python 3.12.3, and here is Ray 2.60.0 on Python 3.11.7"
    )


def test_what_is_not_known_is_told_as_it_is() -> None:
    assert why_not_joined("auto", "ValueError", "a\n  b").cause == "ValueError: a b"


def test_nodes_are_called_by_name_and_address() -> None:
    assert str(ClusterNode(id="1", host="a", address="10.0.0.1", alive=True)) == "a (10.0.0.1)"
    assert str(ClusterNode(id="1", host="10.0.0.1", address="10.0.0.1", alive=True)) == "10.0.0.1"
