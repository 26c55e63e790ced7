from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_llmperf.errors import ServerError, UsageMistake
from pytest_llmperf.launch.http import call, get_json


class Echo(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/text":
            self._answer(200, b"not json")
        elif self.path == "/busy":
            self._answer(503, b"still loading")
        elif self.path == "/locked":
            self._answer(401, b"Unauthorized")
        elif self.path.startswith("/half"):
            self.send_response(int(self.path[-3:]))
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"so far")
            self.close_connection = True
        else:
            self._answer(200, json.dumps({"seen": dict(self.headers)}).encode())

    def do_POST(self) -> None:
        self._answer(201, self.rfile.read(int(self.headers.get("Content-Length", 0))))

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's
        """Quiet."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_json_is_read_and_headers_are_sent(url: str) -> None:
    answer = get_json(f"{url}/info", timeout_s=10, headers={"Authorization": "Bearer x"})
    assert isinstance(answer, dict)
    assert isinstance(answer["seen"], dict)
    assert answer["seen"]["Authorization"] == "Bearer x"


def test_a_body_is_sent_as_json(url: str) -> None:
    assert call("POST", url, body={"a": [1]}, timeout_s=10) == (201, b'{"a": [1]}')
    assert call("POST", url, timeout_s=10) == (201, b"")


def test_any_status_is_an_answer_of_call(url: str) -> None:
    assert call("GET", f"{url}/busy", timeout_s=10) == (503, b"still loading")


def test_get_json_wants_200_and_json(url: str) -> None:
    with pytest.raises(ServerError, match="/busy answered 503, expected 200: still loading"):
        get_json(f"{url}/busy", timeout_s=10)
    with pytest.raises(ServerError, match="/text did not answer with JSON: not json"):
        get_json(f"{url}/text", timeout_s=10)


@pytest.mark.parametrize(
    ("headers", "remedy"),
    [
        ({}, "it wants a key: put it into the environment as LLMPERF_API_KEY"),
        ({"Authorization": "Bearer sesame"}, "the key that was sent is not the one it takes"),
    ],
)
def test_a_server_that_wants_a_key_is_told_as_such(
    url: str, headers: dict[str, str], remedy: str
) -> None:
    with pytest.raises(ServerError, match="/locked answered 401") as told:
        get_json(f"{url}/locked", timeout_s=10, headers=headers)
    assert told.value.remedy.startswith(remedy)
    assert "sesame" not in str(told.value)


def test_a_proxy_of_the_environment_is_not_asked_for_local_servers(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://192.0.2.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert call("GET", f"{url}/info", timeout_s=10)[0] == 200


def test_no_answer_is_an_error() -> None:
    with pytest.raises(ServerError, match=r"GET http://127.0.0.1:1/x got no answer: .*refused"):
        call("GET", "http://127.0.0.1:1/x", timeout_s=5)


@pytest.mark.parametrize("status", [200, 500])
def test_an_answer_that_breaks_off_is_an_error(url: str, status: int) -> None:
    with pytest.raises(ServerError, match=rf"GET {url}/half{status} got no answer: "):
        call("GET", f"{url}/half{status}", timeout_s=5)


def test_other_addresses_are_a_mistake() -> None:
    with pytest.raises(UsageMistake, match="'file:///etc/passwd' is not an http or https address"):
        call("GET", "file:///etc/passwd", timeout_s=5)
