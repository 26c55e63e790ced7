"""Below the API: keys, TLS, and connections that are kept or closed."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.testing import FakeServer, Script, TlsFiles, self_signed

PATH = "/v1/completions"
CONTENT = json.dumps({"prompt": "hello", "max_tokens": 4}).encode()
REQUEST = f"POST {PATH} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(CONTENT)}\r\n".encode()
QUICK = Script(ttft_ms=0, itl_ms=0)


def status(server: FakeServer, path: str, key: str | None = None) -> int:
    headers = {} if key is None else {"Authorization": key}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET" if path != PATH else "POST", path, CONTENT, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def converse(server: FakeServer, *requests: bytes) -> bytes:
    """All that the server says to requests on one connection, until it closes or falls silent."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.4) as sock:
        for request in requests:
            sock.sendall(request)
        try:
            while data := sock.recv(65536):
                received += data
        except TimeoutError:
            received += b"<silence>"
    return received


# --- keys


def test_a_key_is_asked_of_everybody_but_probes() -> None:
    with FakeServer(Script(ttft_ms=0, itl_ms=0, api_key="secret")) as server:
        for path in (PATH, "/v1/models", "/server_info", "/nowhere"):
            assert status(server, path) == 401
            assert status(server, path, "Bearer wrong") == 401
            assert status(server, path, "secret") == 401
        for path in ("/health", "/health_generate", "/metrics"):
            assert status(server, path) == 200
        assert server.truth == []
        assert status(server, PATH, "Bearer secret") == 200
        assert status(server, PATH, "bearer secret") == 200


def test_a_key_is_told_to_nobody() -> None:
    with FakeServer(Script(api_key="secret")) as server:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("GET", "/server_info", headers={"Authorization": "Bearer secret"})
        told = connection.getresponse().read()
        connection.close()
    assert b"sim_ttft_ms" in told
    assert b"secret" not in told


# --- connections


def test_requests_in_a_row_are_answered_in_order() -> None:
    first = REQUEST + b"\r\n" + CONTENT
    with FakeServer(Script(ttft_ms=20, itl_ms=0)) as server:
        said = converse(server, first + b"GET /health HTTP/1.1\r\nHost: h\r\n\r\n", first)
    assert said.count(b"HTTP/1.1 200 OK") == 3
    assert said.index(b"sim-0") < said.index(b"\r\n\r\n{}") < said.index(b"sim-1")
    assert said.endswith(b"<silence>")


@pytest.mark.parametrize("path", ["/health", PATH])
def test_every_response_can_close_its_connection(path: str) -> None:
    get = f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode()
    request = get if path != PATH else REQUEST + b"\r\n" + CONTENT
    with FakeServer(Script(ttft_ms=0, itl_ms=0, close_each=True)) as server:
        said = converse(server, request)
    assert b"\r\nconnection: close\r\n" in said
    assert not said.endswith(b"<silence>")


def test_a_stream_can_close_its_connection() -> None:
    content = json.dumps({"text": "hello", "stream": True}).encode()
    head = f"POST /generate HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with FakeServer(Script(ttft_ms=0, itl_ms=0, close_each=True)) as server:
        said = converse(server, head + content)
    assert b"\r\nconnection: close\r\n" in said
    assert said.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_a_client_that_wants_no_more_is_let_go() -> None:
    with FakeServer(QUICK) as server:
        said = converse(server, REQUEST + b"Connection: close\r\n\r\n" + CONTENT)
    assert b"\r\nconnection: close\r\n" in said
    assert not said.endswith(b"<silence>")


def test_without_a_length_a_whole_response_comes_in_chunks_or_until_the_end() -> None:
    request = REQUEST + b"\r\n" + CONTENT
    with FakeServer(Script(ttft_ms=0, itl_ms=0, content_length=False)) as server:
        chunked = converse(server, request)
    with FakeServer(Script(ttft_ms=0, itl_ms=0, content_length=False, close_each=True)) as server:
        closed = converse(server, request)
    assert b"\r\ntransfer-encoding: chunked\r\n" in chunked
    assert chunked.endswith(b"\r\n0\r\n\r\n<silence>")
    for said in (chunked, closed):
        assert b"content-length" not in said
    assert b"chunked" not in closed
    assert json.loads(closed.partition(b"\r\n\r\n")[2])["usage"]["completion_tokens"] == 4


def test_bytes_that_are_no_http_end_the_connection() -> None:
    with FakeServer(QUICK) as server:
        try:
            said = converse(server, b"\x16\x03\x01 hello\r\n\r\n")
        except ConnectionResetError:
            said = b""
    assert said == b""


def test_a_client_that_does_not_read_stops_the_server_from_writing() -> None:
    asked = {"text": "hello", "stream": True, "sampling_params": {"max_new_tokens": 20_000}}
    content = json.dumps(asked).encode()
    head = f"POST /generate HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n\r\n".encode()
    with FakeServer(QUICK) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock:
            sock.sendall(head + content)
            sock.recv(1024)
            settled = _settled(server)
        assert 0 < settled < 20_000


def _settled(server: FakeServer) -> int:
    """Tokens out once no more come."""
    from pytest_llmperf import clock

    deadline = clock.Deadline(60)
    before = -1
    while (now := server.truth[0].tokens) != before:
        assert not deadline.passed
        before = now
        clock.sleep(0.3)
    return before


# --- TLS

needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    return self_signed(tmp_path_factory.mktemp("tls"))


def trusting(files: TlsFiles) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.cert))
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    return context


def ask_over_tls(host: str, port: int, context: ssl.SSLContext) -> bytes:
    connection = http.client.HTTPSConnection(host, port, timeout=10, context=context)
    try:
        connection.request("POST", PATH, CONTENT)
        return connection.getresponse().read()
    finally:
        connection.close()


@needs_openssl
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_it_speaks_tls_to_those_who_trust_it(files: TlsFiles, host: str) -> None:
    with FakeServer(QUICK, tls=files) as server:
        assert server.url == f"https://127.0.0.1:{server.port}"
        document = json.loads(ask_over_tls(host, server.port, trusting(files)))
        with pytest.raises(ssl.SSLCertVerificationError):
            ask_over_tls(host, server.port, ssl.create_default_context())
    assert document["usage"]["completion_tokens"] == 4


@needs_openssl
def test_a_cut_reaches_through_tls_as_an_ordinary_end(files: TlsFiles) -> None:
    script = Script(ttft_ms=0, itl_ms=0, fault="cut")
    with FakeServer(script, tls=files) as server, pytest.raises(http.client.IncompleteRead):
        ask_over_tls("127.0.0.1", server.port, trusting(files))


@needs_openssl
def test_a_reset_reaches_through_tls(files: TlsFiles) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = trusting(files).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with (
        FakeServer(Script(ttft_ms=0, itl_ms=0, fault="reset"), tls=files) as server,
        socket.create_connection(("127.0.0.1", server.port), timeout=10) as sock,
    ):
        while not _shaken(tls):
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
        tls.write(REQUEST + b"\r\n" + CONTENT)
        sock.sendall(outgoing.read())
        with pytest.raises(ConnectionResetError):
            _drain(sock)


def _drain(sock: socket.socket) -> None:
    while sock.recv(65536):
        pass


def _shaken(tls: ssl.SSLObject) -> bool:
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return False
    return True


@needs_openssl
def test_a_process_speaks_tls(files: TlsFiles) -> None:
    with FakeServer() as server:
        port = server.port
    command = [sys.executable, "-m", "pytest_llmperf.testing", "--port", str(port)]
    command += ["--tls-cert", str(files.cert), "--tls-key", str(files.key), "--ttft-ms", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            assert child.stdout is not None
            assert child.stdout.readline() == f"sim: ready on https://127.0.0.1:{port}\n"
            assert b"sim-0" in ask_over_tls("127.0.0.1", port, trusting(files))
        finally:
            child.terminate()


def test_without_openssl_it_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageMistake, match="openssl command is not installed"):
        self_signed(tmp_path)
