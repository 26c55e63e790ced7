"""What engines that cannot run here answer, byte for byte through our own code.

Each file in ``recorded/`` names the sources, the version and the date that it was written from, and
under "checked" when a second reader went through all of it against which sources, and what was
corrected. Nothing here is written from prose alone; what is, the README's table says.
"""

from __future__ import annotations

import json
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from http.client import parse_headers
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.engines import Engine, resolve
from pytest_llmperf.engines.counters import Counters, read_counters
from pytest_llmperf.launch import http
from pytest_llmperf.launch.readiness import ReadinessProbe
from pytest_llmperf.load.planned import Asked, Turn
from pytest_llmperf.load.read.decode import decode
from pytest_llmperf.load.read.events import error_message
from pytest_llmperf.load.read.reading import to_record
from pytest_llmperf.load.send.wire import Exchange
from pytest_llmperf.records import (
    CHUNK_KINDS,
    Accelerator,
    Device,
    Json,
    Placement,
    RequestRecord,
    ServerRequest,
    Vendor,
)

Recorded = dict[str, Any]

FILES = sorted((Path(__file__).parent / "recorded").glob("*.json"))
VENDOR: dict[str, Vendor] = {"mindie": "ascend"}
LETTERS = {"n": "none", "t": "reasoning", "a": "answer"}


def load(file: Path) -> Recorded:
    recorded: Recorded = json.loads(file.read_text(encoding="utf-8"))
    return recorded


def of_kind(kind: str) -> list[Any]:
    return [
        pytest.param(recorded, exchange, id=f"{file.stem}-{kind}-{number}")
        for file in FILES
        for recorded in [load(file)]
        for number, exchange in enumerate(recorded["exchanges"])
        if exchange["kind"] == kind
    ]


def placement(recorded: Recorded) -> Placement:
    vendor = VENDOR.get(recorded["engine"], "nvidia")
    device = Device(vendor=vendor, product="p", index=0, uuid="u", memory_bytes=2**36)
    return Placement(
        host="127.0.0.1",
        port=31000,
        accelerator=Accelerator(devices=(device,), source="override"),
        python="/opt/python",
        **recorded["served"],
    )


def engine_of(recorded: Recorded) -> Engine:
    return resolve(recorded["engine"])


def head(exchange: Recorded) -> bytes:
    return "\r\n".join([*exchange["head"], "", ""]).encode()


def response(exchange: Recorded) -> bytes:
    """As it goes over a connection that is closed afterwards."""
    body = str(exchange["body"]).encode()
    if "transfer-encoding: chunked" in exchange["head"]:
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    return head(exchange) + body


@contextmanager
def answering(data: bytes) -> Iterator[int]:
    """The port of a server that answers one request with ``data`` and closes."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection, connection.makefile("rb") as asked:
                # All of it: what is left unread when we close would reset the connection.
                asked.readline()
                headers = parse_headers(asked)
                asked.read(int(headers["Content-Length"] or 0))
                connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(timeout=10)


def test_every_file_names_its_source() -> None:
    assert FILES
    for file in FILES:
        recorded = load(file)
        named = {"repository", "version", "files", "date", "how", "checked"}
        assert recorded["source"].keys() == named
        assert all(recorded["source"].values())
        assert file.stem == f"{recorded['engine']}-{recorded['source']['version']}"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_what_is_told_of_its_length_is_true(file: Path) -> None:
    for exchange in load(file)["exchanges"]:
        told = {}
        for line in exchange["head"][1:]:
            name, _, value = line.partition(":")
            told[name.lower()] = value.strip()
        if told.get("transfer-encoding") == "chunked":
            assert "content-length" not in told
        else:
            assert int(told["content-length"]) == len(exchange["body"].encode())


@pytest.mark.parametrize(("recorded", "exchange"), of_kind("ready"))
def test_readiness(recorded: Recorded, exchange: Recorded) -> None:
    place = placement(recorded)
    request = ServerRequest(engine=recorded["engine"], model=place.served_name)
    ready = engine_of(recorded).plan(request, place).ready
    with answering(response(exchange)) as port:
        probe = ReadinessProbe("127.0.0.1", port, ready)
        assert not probe.turn(False)
        is_ready = False
        while (waiting := probe.socket_fd) is not None:
            assert select.select([waiting], [], [], 10)[0], "no answer"
            is_ready = probe.turn(True)
    assert is_ready is exchange["expect"]["ready"], probe.last_answer


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_identity(file: Path) -> None:
    recorded = load(file)
    engine, place = engine_of(recorded), placement(recorded)
    answers: dict[str, Json] = {}
    expected: Recorded = {}
    for exchange in recorded["exchanges"]:
        if exchange["kind"] == "info":
            with answering(response(exchange)) as port:
                url = f"http://127.0.0.1:{port}{exchange['path']}"
                answers[exchange["path"]] = http.get_json(url, timeout_s=10)
            expected |= exchange["expect"]
    assert set(engine.info_paths) == set(answers)
    identity = engine.identify(answers)
    told = {name: getattr(identity, name) for name in expected}
    assert told == expected
    assert engine.mismatch(identity, place) is None
    assert engine.mismatch(engine.identify({}), place) is not None


@pytest.mark.parametrize(("recorded", "exchange"), of_kind("metrics"))
def test_metrics(recorded: Recorded, exchange: Recorded) -> None:
    engine = engine_of(recorded)
    assert engine.metrics_path is not None
    assert engine.counters is not None
    with answering(response(exchange)) as port:
        status, page = http.call(
            "GET", f"http://127.0.0.1:{port}{engine.metrics_path}", timeout_s=10
        )
    # What is no page of metrics is not read, see session.asides.
    read = read_counters(page.decode(), engine.counters) if status == 200 else None
    told = None if read is None else {each.name: getattr(read, each.name) for each in fields(read)}
    assert told == exchange["expect"]
    assert read is None or isinstance(read, Counters)


def received(exchange: Recorded, *, grouped: int) -> RequestRecord:
    """The record of a response whose events came ``grouped`` at a time."""
    events = [event.encode() for event in exchange["events"]]
    framed = [b"%x\r\n%b\r\n" % (len(event), event) for event in events]
    reads = [b"".join(framed[at : at + grouped]) for at in range(0, len(framed), grouped)]
    asked = Asked(output_tokens=exchange["expect"].get("output_tokens") or 4, api=exchange["api"])
    turn = Turn(index=0, payload=b"", asked=asked)
    sent = Exchange(turn)
    sent.outcome = "complete"
    for index, data in enumerate([head(exchange), *reads, b"0\r\n\r\n"]):
        sent.reads.append(data)
        sent.stamps.append(1000 + index)
    return to_record(*decode(sent, turn))


@pytest.mark.parametrize("grouped", [1, 2, 100])
@pytest.mark.parametrize(("recorded", "exchange"), of_kind("stream"))
def test_streams(recorded: Recorded, exchange: Recorded, grouped: int) -> None:
    record = received(exchange, grouped=grouped)
    expected = dict(exchange["expect"])
    kinds = expected.pop("kinds", None)
    told = {name: getattr(record, name) for name in expected}
    assert told == expected
    if kinds is not None:
        assert [CHUNK_KINDS[kind] for kind in record.chunks.kinds] == [LETTERS[k] for k in kinds]


@pytest.mark.parametrize(("recorded", "exchange"), of_kind("refusal"))
def test_refusals(recorded: Recorded, exchange: Recorded) -> None:
    engine = engine_of(recorded)
    assert "chat" in engine.apis
    with answering(response(exchange)) as port:
        status, body = http.call(
            "POST", f"http://127.0.0.1:{port}/v1/chat/completions", body={}, timeout_s=10
        )
    assert {"status": status, "detail": error_message(body)} == exchange["expect"]
