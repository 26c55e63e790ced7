"""The pretended profiler: what it answers, and what it leaves."""

from __future__ import annotations

import gzip
import http.client
import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.testing import FakeServer, Script
from pytest_llmperf.testing.script import ProfilerKind


def post(server: FakeServer, path: str, body: object = None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("POST", path, "" if body is None else json.dumps(body))
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def say(server: FakeServer, tokens: int) -> None:
    assert post(server, "/v1/completions", {"prompt": "a", "max_tokens": tokens}) == 200


def events(place: Path) -> list[dict[str, Any]]:
    (path,) = place.iterdir()
    with gzip.open(path, "rt") as file:
        found: list[dict[str, Any]] = json.load(file)["traceEvents"]
    return found


def test_what_was_sent_meanwhile_is_in_the_trace(tmp_path: Path) -> None:
    place = tmp_path / "new"
    with FakeServer(Script(ttft_ms=1, itl_ms=1, profiler="works")) as server:
        say(server, 3)
        assert post(server, "/start_profile", {"output_dir": str(place), "num_steps": 9}) == 200
        say(server, 2)
        assert post(server, "/stop_profile") == 200
    found = events(place)
    assert [each["tid"] for each in found] == [1, 1]
    assert all(each["ph"] == "X" and each["dur"] >= 0 for each in found)


def test_after_its_steps_it_has_stopped_itself(tmp_path: Path) -> None:
    with FakeServer(Script(ttft_ms=1, itl_ms=1, profiler="works")) as server:
        assert post(server, "/start_profile", {"output_dir": str(tmp_path), "num_steps": 4}) == 200
        say(server, 9)
        assert post(server, "/stop_profile") == 500
    assert len(events(tmp_path)) == 4


@pytest.mark.parametrize(("kind", "status"), [("refuses", 500), (None, 404)])
def test_it_may_refuse_or_not_be_there(kind: ProfilerKind | None, status: int) -> None:
    with FakeServer(Script(profiler=kind)) as server:
        assert post(server, "/start_profile", {"output_dir": "x"}) == status
        assert post(server, "/stop_profile") == status


def test_what_has_not_begun_cannot_be_stopped() -> None:
    with FakeServer(Script(profiler="works")) as server:
        assert post(server, "/stop_profile") == 500
