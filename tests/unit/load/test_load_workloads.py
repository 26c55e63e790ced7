"""Workloads: presets, overrides, and messages that name the mistake and the remedy."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.load.declare.fields import FIELDS
from pytest_llmperf.load.declare.presets import PRESETS
from pytest_llmperf.load.declare.workloads import (
    default_slo,
    longest_request,
    make_workload,
    remake_workload,
    request_total,
)
from pytest_llmperf.records import Arrivals, Slo, Workload


def longest_tokens(workload: Workload) -> int | None:
    longest = longest_request(workload)
    return None if longest is None else sum(longest)


def make(name: str = "chat", *, needed: int = 1, **overrides: object) -> Workload:
    return make_workload(name, overrides, runs=3, requests_needed=needed, source="test_x")


def mistake(name: str = "chat", *, needed: int = 1, **overrides: object) -> str:
    with pytest.raises(UsageMistake) as caught:
        make(name, needed=needed, **overrides)
    said = str(caught.value)
    assert said.startswith("test_x: ")
    return said


@pytest.mark.parametrize(
    ("name", "lengths"),
    [
        ("chat", (1024, 1024)),
        ("reasoning", (1024, 8192)),
        ("summarize", (8192, 1024)),
        ("mlperf-r1", (804, 3886)),
        ("shared-prefix", (2304, 256)),
        ("sessions", (1024, 256)),
    ],
)
def test_presets_have_the_lengths_they_are_known_by(name: str, lengths: tuple[int, int]) -> None:
    made = make(name)
    assert (made.input_tokens, made.output_tokens) == lengths
    assert made.arrivals == "closed"


def test_presets_are_these() -> None:
    assert set(PRESETS) == {
        "chat",
        "reasoning",
        "summarize",
        "mlperf-r1",
        "shared-prefix",
        "sessions",
    }
    assert {name: default_slo(name) for name in PRESETS if default_slo(name)} == {
        "mlperf-r1": "mlperf-r1-server"
    }
    assert default_slo("a.jsonl") is None


def test_presets_of_other_shapes() -> None:
    mlperf, prefix, sessions = (make(name) for name in ("mlperf-r1", "shared-prefix", "sessions"))
    assert mlperf.length_spread == 0.9
    assert (prefix.shared_prefix_tokens, prefix.prefixes) == (2048, 8)
    assert (sessions.turns, sessions.turn_input_tokens, sessions.think_time_s) == (4, 256, 1.0)
    assert prefix.shares_prefixes
    assert sessions.shares_prefixes
    assert not mlperf.shares_prefixes


def test_a_preset_loses_what_makes_no_sense_beside_what_is_given() -> None:
    single = make("sessions", turns=1)
    assert (single.turns, single.turn_input_tokens, single.think_time_s) == (1, 0, 0.0)
    alone = make("shared-prefix", shared_prefix_tokens=0)
    assert (alone.shared_prefix_tokens, alone.prefixes) == (0, 1)


def test_defaults_follow_from_the_concurrency() -> None:
    made = make(concurrency=4)
    assert (made.requests, made.warmup_requests, made.runs, made.api) == (40, 4, 3, "chat")
    assert made.temperature == 0.0


def test_gated_percentiles_raise_the_number_of_requests() -> None:
    assert make(concurrency=4, needed=200).requests == 200
    assert make(concurrency=4, requests=250, needed=200).requests == 250


def test_too_few_requests_for_a_gated_percentile_name_the_number_needed() -> None:
    with pytest.raises(UsageMistake, match=r"requests=100 is too few.*need 200.*requests=200"):
        make(requests=100, needed=200)


def test_fewer_requests_than_concurrency_cannot_be_meant() -> None:
    with pytest.raises(UsageMistake, match=r"requests=4 can never keep concurrency=8"):
        make(requests=4)


def test_overrides_are_laid_over_the_preset() -> None:
    made = make(
        output_tokens=32, api="completions", seed=7, temperature=1, runs=5, request_timeout_s=9
    )
    assert (made.input_tokens, made.output_tokens, made.api) == (1024, 32, "completions")
    assert (made.seed, made.runs) == (7, 5)
    assert made.temperature == 1.0
    assert made.request_timeout_s == 9.0


def test_unknown_names_get_the_nearest_spelling() -> None:
    with pytest.raises(UsageMistake, match=r"test_x: unknown workload 'caht'.*'chat'"):
        make("caht")
    with pytest.raises(UsageMistake, match=r"no field 'concurency'.*'concurrency'"):
        make(concurency=8)
    with pytest.raises(UsageMistake, match=r"no field 'zzz'. Valid: api, arrivals"):
        make(zzz=8)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("concurrency", 0, "a whole number of at least 1"),
        ("concurrency", True, "a whole number of at least 1"),
        ("input_tokens", 12.5, "a whole number of at least 1"),
        ("output_tokens", "64", "a whole number of at least 1"),
        ("seed", -1, "a whole number of at least 0"),
        ("temperature", -0.1, "a number of at least 0"),
        ("temperature", float("nan"), "a number of at least 0"),
        ("request_timeout_s", 0, "a number above 0"),
        ("api", "responses", "'chat', 'completions' or 'generate'"),
        ("arrivals", "random", "'closed', 'constant', 'poisson', 'gamma' or 'trace'"),
        ("stream", 1, "True or False"),
        ("length_spread", 1.0, "a number of at least 0 and below 1"),
        ("rate", "10 tok/s", "a number with one of the units req/s"),
        ("rate", 0, 'a number above 0, or a text such as "10 req/s"'),
        ("rate", "0 req/s", 'a number above 0, or a text such as "10 req/s"'),
        ("rate", "req/s", "a number with one of the units"),
        ("duration_s", "60", "a number with one of the units ms, s, min, h"),
        ("duration", -1, "a number above 0"),
        ("think_time", "1 d", "a number with one of the units"),
        ("slo", "mlperf", "objectives"),
        ("slo", {"ttft": "1 s"}, "objectives"),
        ("seed", None, "a whole number of at least 0"),
    ],
)
def test_wrong_values_are_named_with_what_was_expected(
    field: str, value: object, expected: str
) -> None:
    with pytest.raises(UsageMistake, match=f"{field}=.*expected {expected}"):
        make_workload("chat", {field: value}, runs=1, requests_needed=1, source="test_x")


# --- when ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "arrivals", "rate"),
    [
        ({}, "closed", None),
        ({"rate": 10}, "poisson", 10.0),
        ({"rate": "10 req/s"}, "poisson", 10.0),
        ({"rate": "30 req/min"}, "poisson", 0.5),
        ({"rate": 10, "arrivals": "constant"}, "constant", 10.0),
        ({"rate": 10, "arrivals": "gamma", "burstiness": 0.5}, "gamma", 10.0),
        ({"rate": None}, "closed", None),
    ],
)
def test_a_rate_opens_the_loop(
    given: dict[str, Any], arrivals: Arrivals, rate: float | None
) -> None:
    made = make(**given)
    assert (made.arrivals, made.rate) == (arrivals, rate)
    assert made.concurrency == (8 if arrivals == "closed" else None)


def test_in_an_open_loop_concurrency_is_a_cap_that_is_there_only_if_given() -> None:
    assert make(rate=10, concurrency=64).concurrency == 64
    assert make(rate=10, concurrency=64).warmup_requests == 64
    assert make(rate=10).warmup_requests == 8


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"duration": "90 s"}, 90.0),
        ({"duration_s": "5 min"}, 300.0),
        ({"duration_s": 2.5}, 2.5),
        ({"duration": "1500 ms"}, 1.5),
    ],
)
def test_durations_are_numbers_or_have_a_unit(given: dict[str, Any], seconds: float) -> None:
    made = make(**given)
    assert made.duration_s == seconds
    assert made.requests is None
    assert request_total(made) is None


def test_durations_of_other_kinds_may_leave_the_unit_out_of_their_name_too() -> None:
    made = make(
        turns=2, turn_input_tokens=9, think_time="2 s", ramp_up="3 s", request_timeout="2 min"
    )
    assert (made.think_time_s, made.ramp_up_s, made.request_timeout_s) == (2.0, 3.0, 120.0)


@pytest.mark.parametrize(
    ("given", "requests"),
    [
        ({"rate": 10}, 600),
        ({"rate": 10, "final_rate": 30}, 1200),
        ({"rate": 0.1}, 6),
        ({"rate": 1, "turns": 3, "turn_input_tokens": 8}, 180),
        ({"concurrency": 2, "turns": 3, "turn_input_tokens": 8}, 60),
    ],
)
def test_requests_follow_from_the_rate_or_the_slots(given: dict[str, Any], requests: int) -> None:
    assert make(**given).requests == requests
    assert request_total(make(**given)) == requests


def test_needed_requests_are_rounded_up_to_whole_sessions() -> None:
    made = make(concurrency=1, turns=3, turn_input_tokens=8, needed=200)
    assert made.requests == 201
    assert "Write requests=201" in mistake(
        concurrency=1, turns=3, turn_input_tokens=8, requests=30, needed=200
    )


def test_a_duration_long_enough_for_the_percentiles_is_taken() -> None:
    assert make(rate=10, duration="20 s", needed=200).duration_s == 20.0
    assert make(duration="1 s", needed=200).duration_s == 1.0  # closed: nobody knows beforehand


# --- what does not go together -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"arrivals": "closed", "rate": 5}, "rate belongs to an open loop"),
        ({"arrivals": "gamma"}, "arrivals='gamma' needs a rate; add rate="),
        ({"arrivals": "constant"}, "arrivals='constant' needs a rate"),
        ({"arrivals": "trace"}, "needs a file with arrival times, and 'chat' has none"),
        ({"final_rate": 5}, "final_rate needs rate"),
        ({"rate": 5, "burstiness": 0.5}, "not 'poisson' ones; add arrivals=\"gamma\""),
        ({"burstiness": 0.5}, "burstiness shapes gamma arrivals"),
        ({"rate": 5, "trace_speed": 2}, "trace_speed hurries the arrival times of a trace"),
        ({"rate": 5, "ramp_up": 2}, "ramp_up_s spreads the first requests of a closed loop"),
        ({"ramp_up": 9, "duration": 9}, "ramp_up_s=9 takes all of duration_s=9"),
        ({"requests": 80, "duration": 9}, "requests and duration_s both say when a run ends"),
        ({"duration_s": 9, "duration": 9}, "duration and duration_s are the same"),
        ({"rate": 1, "duration": 0.5}, "duration_s=0.5 is too short: some 0.5 requests"),
        ({"prefixes": 4}, "prefixes needs shared_prefix_tokens"),
        ({"shared_prefix_tokens": 1024}, "leaves nothing of its own to a request of 1024"),
        (
            {"shared_prefix_tokens": 600, "length_spread": 0.5},
            "leaves nothing of its own to a request of 512",
        ),
        ({"think_time": 2}, "think_time_s is for sessions of several turns"),
        ({"turn_input_tokens": 2}, "turn_input_tokens is for sessions of several turns"),
        ({"turns": 4}, "turns=4 needs turn_input_tokens"),
        (
            {"turns": 4, "turn_input_tokens": 9, "requests": 42},
            "no whole number of sessions of 4 turns; write requests=44",
        ),
        (
            {"turns": 4, "turn_input_tokens": 9, "requests": 16},
            "can never keep concurrency=8 sessions of 4 turns in flight. Ask for at least 32",
        ),
    ],
)
def test_what_does_not_go_together_is_told_with_the_remedy(
    given: dict[str, Any], told: str
) -> None:
    assert told in mistake(**given)


def test_a_duration_too_short_for_the_percentiles_names_the_one_needed() -> None:
    assert "Write duration_s=20" in mistake(rate=10, duration="5 s", needed=200)


def test_values_that_change_nothing_are_no_contradiction() -> None:
    made = make(turns=1, think_time=0, burstiness=1.0, trace_speed=1, prefixes=1, ramp_up=0)
    assert made == make()


# --- files -----------------------------------------------------------------------------------


def write(path: Path, *lines: object) -> str:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path.name


def of_file(tmp_path: Path, lines: list[object], *, needed: int = 1, **given: object) -> Workload:
    name = write(tmp_path / "requests.jsonl", *lines)
    return make_workload(
        name, given, runs=1, requests_needed=needed, source="test_x", directories=(tmp_path,)
    )


TEXTS: list[object] = [{"prompt": str(n), "max_tokens": 5} for n in range(20)]
OPEN_TEXTS: list[object] = [{"prompt": str(n)} for n in range(20)]
IDS: list[object] = [{"input_ids": [1, 2, n], "output_tokens": n + 1} for n in range(20)]
TRACE: list[object] = [
    {"arrival_s": n / 2, "input_tokens": 30 + n, "output_tokens": 5} for n in range(20)
]
MESSAGES: list[object] = [
    {"messages": [{"role": "user", "content": str(n)}], "max_tokens": 5} for n in range(20)
]


def test_a_file_is_a_workload_of_all_its_requests(tmp_path: Path) -> None:
    made = of_file(tmp_path, TEXTS, concurrency=4)
    assert made.name == "requests.jsonl"
    assert (made.requests, made.input_tokens, made.output_tokens) == (20, None, None)
    assert made.source is not None
    assert (made.source.kind, made.source.path) == ("prompts", str(tmp_path / "requests.jsonl"))
    assert (made.arrivals, made.api) == ("closed", "chat")
    assert of_file(tmp_path, TEXTS, requests=8).requests == 8


def test_a_changed_file_is_another_workload(tmp_path: Path) -> None:
    made = of_file(tmp_path, TEXTS)
    (tmp_path / "requests.jsonl").unlink()
    assert made != of_file(tmp_path, [*TEXTS[1:], {"prompt": "x", "max_tokens": 5}])


def test_a_trace_brings_its_arrivals_unless_others_are_given(tmp_path: Path) -> None:
    assert of_file(tmp_path, TRACE).arrivals == "trace"
    assert of_file(tmp_path, TRACE).concurrency is None
    assert of_file(tmp_path, TRACE, trace_speed=2).trace_speed == 2.0
    assert of_file(tmp_path, TRACE, rate=5).arrivals == "poisson"
    assert of_file(tmp_path, TRACE, arrivals="closed").concurrency == 8


def test_token_ids_are_sent_to_an_api_that_takes_them(tmp_path: Path) -> None:
    assert of_file(tmp_path, IDS).api == "completions"
    assert of_file(tmp_path, IDS, api="generate").api == "generate"


def test_output_tokens_stand_in_where_the_file_says_none(tmp_path: Path) -> None:
    made = of_file(tmp_path, [*OPEN_TEXTS[:10], *TEXTS[:10]], output_tokens=9)
    assert made.output_tokens == 9


@pytest.mark.parametrize(
    ("lines", "given", "told"),
    [
        (OPEN_TEXTS, {}, "the answers to 20 of its 20 requests are"),
        (TEXTS, {"output_tokens": 5}, "output_tokens changes nothing"),
        (TEXTS, {"input_tokens": 5}, "input_tokens is for made-up prompts"),
        (TRACE, {"turns": 4, "turn_input_tokens": 4}, "turns is for made-up prompts"),
        (TRACE, {"length_spread": 0.5}, "length_spread is for made-up prompts"),
        (TRACE, {"arrivals": "trace", "rate": 5}, "a trace has arrival times of its own"),
        (TEXTS, {"arrivals": "trace"}, "needs a file with arrival times"),
        (TEXTS, {"api": "generate"}, "is asked with token ids"),
        (IDS, {"api": "chat"}, "which api='chat' does not take"),
        (MESSAGES, {"api": "completions"}, "holds messages"),
        (TEXTS, {"requests": 21}, "holds 20 requests, and 21 are asked for"),
        (TEXTS, {"concurrency": 21}, "holds 20 requests, and 21 are asked for"),
        (TEXTS, {"rate": 10, "duration": "3 s"}, "holds 20 requests, and 30 are asked for"),
    ],
)
def test_what_a_file_does_not_allow_is_told(
    tmp_path: Path, lines: list[object], given: dict[str, Any], told: str
) -> None:
    with pytest.raises(UsageMistake) as caught:
        of_file(tmp_path, lines, **given)
    assert told in str(caught.value)


def test_a_file_too_short_for_the_percentiles_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageMistake, match="holds 20 requests, but the gated percentiles need 200"):
        of_file(tmp_path, TEXTS, needed=200)


def test_a_name_that_is_neither_preset_nor_file_says_how_files_are_named() -> None:
    with pytest.raises(UsageMistake, match=r"unknown workload 'prompts.txt'.*ends in .json or"):
        make("prompts.txt")
    with pytest.raises(UsageMistake, match=r"test_x: no file 'prompts.jsonl'"):
        make("prompts.jsonl")


# --- sizes -----------------------------------------------------------------------------------


def test_the_longest_request_counts_spread_and_turns(tmp_path: Path) -> None:
    assert longest_tokens(make(input_tokens=100, output_tokens=20)) == 120
    assert longest_tokens(make(input_tokens=100, output_tokens=20, length_spread=0.5)) == 180
    turns = make(input_tokens=100, output_tokens=20, turns=3, turn_input_tokens=7)
    assert longest_tokens(turns) == 100 + 20 + 7 + 20 + 7 + 20
    assert longest_tokens(of_file(tmp_path, TRACE)) == 49 + 5
    assert longest_request(of_file(tmp_path, TRACE, requests=3)) == (32, 5)
    assert longest_tokens(of_file(tmp_path, IDS, requests=9)) == 3 + 9
    assert longest_tokens(of_file(tmp_path, TEXTS)) is None


# --- ready workloads -------------------------------------------------------------------------


def again(workload: Workload, *, needed: int = 1, **overrides: object) -> Workload:
    return remake_workload(workload, overrides, requests_needed=needed, source="test_x")


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_ready_workload_stays_as_it_is(name: str) -> None:
    made = make(name, slo=(Slo(metric="ttft", limit_ms=5.0),), seed=3, stream=False, flush=False)
    assert again(made) == made


@pytest.mark.parametrize(
    "given",
    [
        {"rate": 10, "final_rate": 20, "arrivals": "gamma", "burstiness": 0.5, "concurrency": 9},
        {"duration": "9 s", "ramp_up": "2 s"},
    ],
)
def test_a_ready_workload_of_another_pace_stays_as_it_is(given: dict[str, Any]) -> None:
    assert again(make(**given)) == make(**given)


@pytest.mark.parametrize(
    ("lines", "given"), [(TRACE, {"trace_speed": 3}), (OPEN_TEXTS, {"output_tokens": 4}), (IDS, {})]
)
def test_a_ready_workload_of_a_file_stays_as_it_is(
    tmp_path: Path, lines: list[object], given: dict[str, Any]
) -> None:
    made = of_file(tmp_path, lines, **given)
    assert again(made) == made


def test_a_ready_workload_may_have_any_name() -> None:
    own = replace(make(), name="mine")
    assert again(own, output_tokens=5) == replace(own, output_tokens=5)


def test_what_is_laid_over_a_ready_workload_takes_the_place_of_its_like() -> None:
    timed = again(make(), duration="9 s")
    assert (timed.requests, timed.duration_s) == (None, 9.0)
    assert again(timed, requests=80).duration_s is None
    opened = again(make(concurrency=4), rate=10)
    assert (opened.arrivals, opened.concurrency) == ("poisson", None)
    closed = again(make(rate=10, requests=80), arrivals="closed")
    assert (closed.rate, closed.concurrency) == (None, 8)


def test_a_ready_workload_is_checked_too() -> None:
    with pytest.raises(UsageMistake, match="requests=80 is too few"):
        again(make(), needed=200)
    with pytest.raises(UsageMistake, match="input_tokens=0: expected a whole number"):
        again(replace(make(), input_tokens=0))
    with pytest.raises(UsageMistake, match="output_tokens is missing"):
        again(replace(make(), output_tokens=None))


def test_every_field_but_name_and_source_can_be_given() -> None:
    known = {field.name for field in fields(Workload)} - {"name", "source"}
    assert set(FIELDS) == known
