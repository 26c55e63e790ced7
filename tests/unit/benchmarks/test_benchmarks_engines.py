"""The terms of other clients, the tap's reading of packets, and llama.cpp's file."""

from __future__ import annotations

import dataclasses
import json
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engines.attribution import Round, table
from benchmarks.engines.gguf import VOCABULARY, write_gguf
from benchmarks.engines.peers import LlamaBench, SglangBench, VllmBench
from benchmarks.engines.tap import Tapped, _calls, _tapped
from benchmarks.engines.terms import FIGURES, OURS, WORDS, Terms, figures, steps
from benchmarks.engines.trials import Arm, Trial
from pytest_llmperf.metrics.summary import Reduction
from pytest_llmperf.models import materialize
from pytest_llmperf.records import Chunk, Chunks, ClientHealth, Pass, RequestRecord

MS = 1_000_000
PORT, CLIENT = 20_000, 40_000


def record(index: int = 0, *, slower: int = 0) -> RequestRecord:
    """Role at 10 ms, tokens at 20, 30 (two) and 50, usage at 55, end at 60; opening took 2."""
    times: list[tuple[int, Any, int]] = [
        (10, "none", 0),
        (20, "reasoning", 1),
        (30, "answer", 3),
        (50 + slower, "answer", 4),
        (55 + slower, "none", 4),
    ]
    start = index * MS
    chunks = (
        Chunk(at_ns=start + at * MS, kind=kind, characters=1, cumulative_tokens=count)
        for at, kind, count in times
    )
    return RequestRecord(
        index=index,
        written_ns=start,
        ended_ns=start + (60 + slower) * MS,
        status=200,
        failure=None,
        finish_reason="length",
        prompt_tokens=8,
        cached_tokens=0,
        output_tokens=4,
        reasoning_tokens=None,
        token_source="usage",
        chunks=Chunks.of(chunks),
        connect_ns=2 * MS,
    )


def test_our_terms_are_those_of_the_plugin() -> None:
    records = tuple(record(index, slower=index % 3) for index in range(7))
    health = ClientHealth(
        cpu_share=0.0,
        loop_lag_ms_p99=None,
        loop_lag_ms_max=None,
        peak_rss_bytes=0,
        mean_in_flight=None,
    )
    whole = Pass(seed=1, started_at="", started_ns=0, records=records, client=health)
    found = figures(records, OURS)
    reduction = Reduction(whole)
    assert set(found) == set(FIGURES)
    for name, value in found.items():
        plugin = "output_throughput" if name == "throughput" else name
        assert value == pytest.approx(reduction.value(plugin).value), name


@pytest.mark.parametrize(
    ("terms", "figure", "expected"),
    [
        (OURS, "ttft_mean", 20.0),
        (OURS, "e2e_mean", 50.0),
        (OURS, "tpot_mean", 10.0),
        (OURS, "itl_mean", 10.0),
        (SglangBench.terms, "ttft_mean", 22.0),
        (SglangBench.terms, "e2e_mean", 62.0),
        (SglangBench.terms, "tpot_mean", 40 / 3),
        (SglangBench.terms, "itl_mean", 15.0),
        (VllmBench.terms, "ttft_mean", 12.0),
        (VllmBench.terms, "e2e_mean", 52.0),
        (VllmBench.terms, "tpot_mean", 40 / 3),
        (VllmBench.terms, "itl_mean", 40 / 3),
        (LlamaBench.terms, "ttft_mean", 22.0),
    ],
)
def test_terms(terms: Terms, figure: str, expected: float) -> None:
    assert figures([record()], terms)[figure] == pytest.approx(expected)


def test_questions_after_the_last_response_stretch_the_window() -> None:
    window = figures([record()], SglangBench.terms, tail_s=0.038)
    assert window["throughput"] == pytest.approx(4 / 0.100)
    assert figures([record()], OURS, tail_s=0.038)["throughput"] == pytest.approx(4 / 0.050)


@pytest.mark.parametrize("theirs", [SglangBench.terms, VllmBench.terms])
def test_steps_lead_from_our_terms_to_theirs(theirs: Terms) -> None:
    records = [record(index, slower=index) for index in range(5)]
    changes = dict(steps(records, theirs, 0.01))
    assert set(changes) <= set(WORDS)
    wanted, first = figures(records, theirs, tail_s=0.01), figures(records, OURS)
    for name in FIGURES:
        total = first[name] + sum(change[name] for change in changes.values())
        assert total == pytest.approx(wanted[name])


def trial(records: tuple[RequestRecord, ...], terms: Terms, late_ms: float = 0.0) -> Trial:
    tapped = Tapped(calls=(), records=records, tail_s=0.0)
    report = {name: value + late_ms for name, value in figures(records, terms).items()}
    return Trial(report=report, records=records, tapped=tapped)


def test_the_parts_make_up_the_whole_difference() -> None:
    records = tuple(record(index) for index in range(4))
    slower = tuple(record(index, slower=5) for index in range(4))
    terms = VllmBench.terms
    arms: dict[Arm, Trial] = {
        "ours": trial(records, OURS),
        "theirs": trial(slower, terms, late_ms=1.0),
        "ours_alike": trial(records, OURS),
        "theirs_alike": trial(records, terms),
    }
    found = Round(VllmBench(), arms)
    for name in FIGURES:
        whole = arms["theirs"].report[name] - arms["ours"].report[name]
        assert sum(part.get(name, 0.0) for part in found.parts.values()) == pytest.approx(whole)
    assert found.parts["what it is late by itself"]["ttft_mean"] == pytest.approx(1.0)
    assert found.parts["its prompts"]["e2e_mean"] == pytest.approx(5.0)
    assert found.parts["left"]["e2e_mean"] == pytest.approx(0.0)
    row = table([found, found])["e2e_mean"]
    assert row["difference_percent"] == pytest.approx(16.0)
    assert row["worth_a_cause"]
    assert row["after_percent"]["definitions and load alike"] == 0.0
    assert row["noise_percent"]["ours"] == {"median": 0.0, "max": 0.0}


def test_where_both_ask_alike_only_definitions_and_lateness_differ() -> None:
    records = tuple(record(index) for index in range(4))
    terms = VllmBench.terms
    found = Round(
        VllmBench(),
        {"ours_alike": trial(records, OURS), "theirs_alike": trial(records, terms, late_ms=1.0)},
    )
    for part in ("its prompts", "its manner of asking", "left"):
        assert set(found.parts[part].values()) == {0.0}
    assert found.parts["what it is late by itself"]["ttft_mean"] == pytest.approx(1.0)
    row = table([found])["ttft_mean"]
    assert (row["ours"], row["theirs"]) == (20.0, 13.0)


# --- packets


def packet(source: int, target: int, data: bytes = b"", flags: int = 16) -> bytes:
    """IPv4 and TCP with no options, as far as the tap looks."""
    tcp = struct.pack(">HHIIBBHHH", source, target, 0, 0, 5 << 4, flags, 0, 0, 0) + data
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0, 64, socket.IPPROTO_TCP, 0)
    return ip + b"\x7f\0\0\1" * 2 + tcp


def asking(path: str = "/v1/chat/completions") -> bytes:
    content = json.dumps({"messages": [{"role": "user", "content": "abc"}]}).encode()
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode() + content


def answer(tokens: int) -> list[bytes]:
    events: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": None}]}
        for _ in range(tokens)
    ]
    events[-1]["choices"][0]["finish_reason"] = "length"
    events.append({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": tokens}})
    datas = [f"data: {json.dumps(event)}\n\n".encode() for event in events] + [b"data: [DONE]\n\n"]
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return [head, *(b"%x\r\n%b\r\n" % (len(data), data) for data in datas), b"0\r\n\r\n"]


def test_packets_become_records() -> None:
    packets = [(MS, packet(CLIENT, PORT, flags=2)), (2 * MS, packet(PORT, CLIENT, flags=18))]
    sent = asking()
    packets += [
        (3 * MS, packet(CLIENT, PORT, sent[:30])),
        (4 * MS, packet(CLIENT, PORT, sent[30:])),
    ]
    packets += [(at * MS, packet(PORT, CLIENT, b)) for at, b in enumerate(answer(3), start=10)]
    packets.append((90 * MS, packet(CLIENT, PORT, b"GET /server_info HTTP/1.1\r\n\r\n")))
    packets.append((118 * MS, packet(PORT, CLIENT, b"HTTP/1.1 200 OK\r\n\r\n")))
    tapped = _tapped(_calls(iter(packets), PORT), 3)
    assert tapped.prompts == ["abc"]
    (found,) = tapped.records
    assert found.ok, found.detail
    assert (found.connect_ns, found.written_ns, found.ended_ns) == (2 * MS, 3 * MS, 16 * MS)
    assert found.output_tokens == 3
    assert figures([found], OURS)["ttft_mean"] == pytest.approx(8.0)
    assert tapped.tail_s == pytest.approx(0.102)


def test_a_connection_used_again_was_not_opened_again() -> None:
    packets = [(MS, packet(CLIENT, PORT, flags=2))]
    for start in (10, 30):
        packets.append((start * MS, packet(CLIENT, PORT, asking())))
        packets += [(start * MS + at, packet(PORT, CLIENT, b)) for at, b in enumerate(answer(2))]
    tapped = _tapped(_calls(iter(packets), PORT), 2)
    assert [each.connect_ns for each in tapped.records] == [9 * MS, None]
    assert all(each.ok for each in tapped.records)


# --- llama.cpp's file


def test_gguf_has_every_tensor_and_id(tmp_path: Path) -> None:
    model = materialize("tiny-r1-distill-qwen", tmp_path)
    data = write_gguf(model, tmp_path / "model.gguf").read_bytes()
    magic, version, tensors, _ = struct.unpack_from("<4sIQQ", data)
    assert (magic, version, tensors) == (b"GGUF", 3, 27)
    assert b"blk.1.ffn_down.weight" in data
    assert f"<{VOCABULARY - 1}>".encode() in data


def test_sizes_of_terms_are_all_named() -> None:
    assert set(WORDS) == {field.name for field in dataclasses.fields(Terms)}
