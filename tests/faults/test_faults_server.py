"""What befalls a server's process: killed, stopped, out of memory, late, or not ours at all."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.testing import FakeServer, TlsFiles, self_signed

if TYPE_CHECKING:
    from tests.faults.conftest import Record, Suite

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")

#: Does something to the server once its run has begun; ``server_of`` finds its process.
HELPERS = """
import psutil
LONG = pytest.mark.llm_workload("chat", **{**LOAD, "output_tokens": 200, "requests": 60})
def server_of(handle):
    port = ":" + handle.url.rpartition(":")[2]
    for process in psutil.Process().children(recursive=True):
        if port[1:] in process.cmdline():
            return process
def once_measured(name, do):
    # Some requests try the workload and warm up; then the run has begun.
    def wait():
        while not os.path.exists(name) or len(open(name).readlines()) < 12: time.sleep(0.02)
        do()
    threading.Thread(target=wait, daemon=True).start()
"""
KILLED = """
@sim("--truth-log killed.truth")
@LONG
@FLOOR
def test_killed(llm_server, llm_perf):
    once_measured("killed.truth", server_of(llm_server).kill)
    llm_perf.run()

@sim("--truth-log stopped.truth")
@pytest.mark.llm_workload("chat", **{**LOAD, "output_tokens": 200, "requests": 24})
@FLOOR
def test_stopped(llm_server, llm_perf):
    once_measured("stopped.truth", server_of(llm_server).suspend)
    llm_perf.run()

@sim("--start-delay-s 600", timeout="1 s")
@CHAT
@FLOOR
def test_hangs_at_start(llm_perf): llm_perf.run()

@pytest.mark.llm_server("sim", model="m", args=["--fail-start", "RuntimeError: bad kernel"])
@CHAT
@FLOOR
def test_dies_at_start(llm_perf): llm_perf.run()

@pytest.mark.llm_server("bad", model="m", args="child")
@LONG
@FLOOR
def test_child(llm_server, llm_perf):
    (child,) = server_of(llm_server).children()
    once_measured("child.truth", child.kill)
    llm_perf.run()
"""


def test_a_server_that_dies_or_hangs_is_an_error(
    suite: Suite, record: Record, bad_engine: str
) -> None:
    suite.write(HELPERS + KILLED, conftest=bad_engine)
    outcome = suite.run()
    assert outcome.whole, outcome.said
    assert outcome.status in (10, 11), outcome.said
    kind, message = outcome.ended("test_killed")
    assert kind == "broken"
    assert "it was killed by SIGKILL (9)" in message
    record("server", "killed (SIGKILL) while it is measured", "error: killed by SIGKILL (9)")
    kind, message = outcome.ended("test_stopped")
    assert kind in ("slow", "broken"), message
    assert "timeout" in message or "got no answer" in message
    record("server", "stopped (SIGSTOP) while it is measured", "failure or error: no answer")
    kind, message = outcome.ended("test_hangs_at_start")
    assert kind == "broken"
    assert "was not ready within 1 s" in message
    record("server", "hang at start", "error: not ready in time, with what it was asked last")
    kind, message = outcome.ended("test_dies_at_start")
    assert kind == "broken"
    assert "RuntimeError: bad kernel" in message
    record("server", "crash at start", "error: exit status and its own words")
    kind, message = outcome.ended("test_child")
    # What is asked next once a run has failed so much is refused like the requests.
    assert kind in ("slow", "broken"), message
    assert "connect" in message.lower()
    record("server", "crash of a child only", "failure or error: connection refused")
    assert outcome.ended("test_next") == ("passed", "")


# --- out of memory ---------------------------------------------------------------------------

GROW = """
@pytest.mark.llm_server("bad", model="m", args="grow")
@CHAT
@FLOOR
def test_grows(llm_perf): llm_perf.run()
"""
LIMIT_BYTES = 256 * 2**20


@pytest.fixture
def cgroup(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A group with little memory, in whichever version of the interface is here."""
    name = f"llmperf-fault-{os.getpid()}"
    for root, limit in (
        (Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"),
        (Path("/sys/fs/cgroup"), "memory.max"),
    ):
        group = root / name
        try:
            group.mkdir()
            (group / limit).write_text(str(LIMIT_BYTES))
        except OSError:
            if group.exists():
                group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no cgroup with a limit of memory can be made here")


def test_out_of_memory_in_its_cgroup_is_told(
    suite: Suite, record: Record, bad_engine: str, cgroup: Path
) -> None:
    into = f'echo $$ > {cgroup}/cgroup.procs; exec "$@"'
    wrap = f"WRAP = ('sh', '-c', {into!r}, 'sh')"
    suite.write(GROW, conftest=bad_engine.replace("WRAP = ()", wrap))
    outcome = suite.run()
    assert outcome.whole, outcome.said
    kind, message = outcome.ended("test_grows")
    assert kind == "broken"
    assert "killed by SIGKILL (9); nothing here sent it" in message
    assert "ran out of memory" in message
    assert outcome.ended("test_next") == ("passed", "")
    record("server", "out of memory (limit of its cgroup)", "error: SIGKILL that nobody here sent")


@linux_only
def test_out_of_memory_in_its_own_limit_is_told(
    suite: Suite, record: Record, bad_engine: str
) -> None:
    wrap = "WRAP = ('sh', '-c', 'ulimit -v 700000; exec \"$@\"', 'sh')"
    suite.write(GROW, conftest=bad_engine.replace("WRAP = ()", wrap))
    outcome = suite.run()
    assert outcome.whole, outcome.said
    kind, message = outcome.ended("test_grows")
    assert kind == "broken", message
    assert "the host ran out of memory" in message
    assert outcome.ended("test_next") == ("passed", "")
    record("server", "out of memory (limit of its process)", "error: out of memory, as it logged")


# --- the port --------------------------------------------------------------------------------

TAKEN = """
import socket
import pytest_llmperf.session.block as block
from pytest_llmperf.testing import FakeServer
ours = block.launch
# A stranger is quicker than the server that is started: one that is silent, one that answers.
def launch(engine, plan, *args, **more):
    if "--role-first" in plan.argv:
        return ours(engine, plan, *args, **more)
    silent = "--drop-each" in plan.argv
    place = ("127.0.0.1", plan.port)
    with socket.create_server(place) if silent else FakeServer(port=plan.port):
        return ours(engine, plan, *args, **more)
block.launch = launch

@sim("--drop-each")
@CHAT
@FLOOR
def test_taken(llm_perf): llm_perf.run()

@sim("--start-delay-s 600")
@CHAT
@FLOOR
def test_other(llm_perf): llm_perf.run()
"""


def test_a_port_that_another_process_takes_is_told_with_its_holder(
    suite: Suite, record: Record
) -> None:
    suite.write(TAKEN)
    outcome = suite.run()
    assert outcome.whole, outcome.said
    kind, message = outcome.ended("test_taken")
    assert kind == "broken"
    assert "the port is taken by another process" in message
    record("server", "port taken between check and bind", "error: the port is taken")
    kind, message = outcome.ended("test_other")
    assert kind == "broken"
    assert "does not listen on port" in message
    assert "answers there" in message
    record("server", "another server answers on the port", "error: names who answers there")
    assert outcome.ended("test_next") == ("passed", "")


# --- certificates ----------------------------------------------------------------------------

ATTACHED = """
@pytest.mark.llm_server("sim", model="sim")
@CHAT
@pytest.mark.llm_floor(output_throughput="0.001 tok/s", remote=True)
def test_attached(llm_perf): llm_perf.run()
"""
openssl_only = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
#: For ``openssl ca``, which makes certificates of any age; ``openssl req`` does so from 3.4 only.
AUTHORITY = """
[ca]
default_ca = own
[own]
database = {0}/index.txt
serial = {0}/serial
new_certs_dir = {0}
default_md = sha256
policy = any
x509_extensions = extensions
[any]
commonName = supplied
[extensions]
basicConstraints = critical, CA:TRUE
keyUsage = critical, digitalSignature, keyCertSign
extendedKeyUsage = serverAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
subjectAltName = DNS:localhost, IP:127.0.0.1
"""


def expired(files: TlsFiles, directory: Path) -> TlsFiles:
    """A certificate as ``files`` have one, with the same key, that was good for a day of 2020."""
    (directory / "ca.cnf").write_text(AUTHORITY.format(directory))
    (directory / "index.txt").touch()
    (directory / "serial").write_text("01\n")
    asked, made = directory / "old.csr", directory / "old.pem"
    openssl("req", "-new", "-key", files.key, "-subj", "/CN=localhost", "-out", asked)
    openssl(
        *("ca", "-batch", "-selfsign", "-config", directory / "ca.cnf", "-keyfile", files.key),
        *("-in", asked, "-out", made, "-notext"),
        *("-startdate", "20200101000000Z", "-enddate", "20200102000000Z"),
    )
    return TlsFiles(made, files.key)


def openssl(*words: Path | str) -> None:
    command = [shutil.which("openssl") or "openssl", *map(str, words)]
    subprocess.run(command, check=True, capture_output=True)


@openssl_only
def test_certificates_that_cannot_be_trusted_are_errors(
    suite: Suite, record: Record, tmp_path: Path
) -> None:
    files = self_signed(tmp_path)
    (suite.path / "test_it.py").write_text(suite.head + ATTACHED)
    with FakeServer(tls=files) as server:
        for fault, url, env, words in (
            ("nobody trusts", server.url, {}, "self-signed certificate"),
            (
                "is made for another name",
                server.url.replace("127.0.0.1", "127.1"),
                {"SSL_CERT_FILE": str(files.cert)},
                "certificate is not valid for '127.1'",
            ),
        ):
            outcome = suite.run(f"--llmperf-url={url}", env=env)
            assert outcome.whole, outcome.said
            kind, message = outcome.ended("test_attached")
            assert kind == "broken"
            assert words in message
            assert "SSL_CERT_FILE" in message
            record("server", f"certificate that {fault}", f"error: {words}")
        trusted = {"SSL_CERT_FILE": str(files.cert)}
        outcome = suite.run(f"--llmperf-url={server.url}", env=trusted)
        assert outcome.ended("test_attached") == ("passed", "")


@openssl_only
def test_a_certificate_that_has_expired_is_an_error(
    suite: Suite, record: Record, tmp_path: Path
) -> None:
    """Though whoever signed it is trusted, and it is made for this name."""
    files = expired(self_signed(tmp_path), tmp_path)
    (suite.path / "test_it.py").write_text(suite.head + ATTACHED)
    with FakeServer(tls=files) as server:
        trusting = {"SSL_CERT_FILE": str(files.cert)}
        outcome = suite.run(f"--llmperf-url={server.url}", env=trusting)
    assert outcome.whole, outcome.said
    kind, message = outcome.ended("test_attached")
    assert kind == "broken"
    assert "certificate has expired" in message
    assert "SSL_CERT_FILE" in message
    record("server", "certificate that has expired", "error: certificate has expired")


@openssl_only
def test_plain_http_where_tls_is_spoken_is_an_error(
    suite: Suite, record: Record, tmp_path: Path
) -> None:
    (suite.path / "test_it.py").write_text(suite.head + ATTACHED)
    with FakeServer() as plain, FakeServer(tls=self_signed(tmp_path)) as spoken:
        for url in (plain.url.replace("http:", "https:"), spoken.url.replace("https:", "http:")):
            outcome = suite.run(f"--llmperf-url={url}")
            assert outcome.whole, outcome.said
            kind, message = outcome.ended("test_attached")
            assert kind == "broken"
            assert "got no answer" in message
    record("server", "TLS where none is spoken, and none where it is", "error: no answer", times=2)
