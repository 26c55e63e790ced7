"""Plans: every session decided by its number, lengths exact, bytes as an API takes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.errors import ServerError
from pytest_llmperf.load.compose.asking import Target
from pytest_llmperf.load.compose.plan import Plan
from pytest_llmperf.load.compose.prompts import WORDS, IdPool, Part, Units
from pytest_llmperf.load.compose.rehearsal import Recipe
from pytest_llmperf.load.declare.workloads import longest_request, make_workload
from pytest_llmperf.load.planned import Session
from pytest_llmperf.load.send.connect import parse_origin
from pytest_llmperf.records import Workload

URL = "http://127.0.0.1:9"
POOL = IdPool(ids=tuple(range(100, 400)))
UNITS = Units(items=WORDS, joint=" ", lead="a")
OVERHEAD, PAIR_OVERHEAD = 7, 11
IDS = Recipe(usage="continuous", pool=POOL)
TEXT = Recipe(usage="final", units=UNITS, overhead=OVERHEAD, message_overhead=PAIR_OVERHEAD)


def longest_tokens(workload: Workload) -> int | None:
    longest = longest_request(workload)
    return None if longest is None else sum(longest)


def workload(name: str = "chat", directory: Path | None = None, **given: object) -> Workload:
    return make_workload(
        name,
        given,
        runs=1,
        requests_needed=1,
        source="x",
        directories=(directory,) if directory else (),
    )


def plan(
    asked: Workload,
    recipe: Recipe = TEXT,
    *,
    seed: int = 5,
    part: Part = "measured",
    exact: bool = True,
) -> Plan:
    target = Target(url=URL, model="m", api_fields={"ignore_eos": True}, exact_output=exact)
    return Plan(asked, recipe, target, parse_origin(URL), seed=seed, part=part)


def contents(session: Session) -> list[dict[str, Any]]:
    """The JSON of each request of a session."""
    return [json.loads(turn.payload.split(b"\r\n\r\n", 1)[1]) for turn in session.turns]


def words(text: str) -> int:
    return len(text.split(" ")) - 1  # without the lead


def prompts(made: Plan, numbers: range) -> list[Any]:
    return [
        content.get("prompt", content.get("messages"))
        for number in numbers
        for content in contents(made.session(number))
    ]


CHAT = workload(input_tokens=40, output_tokens=8, concurrency=2, requests=20)
COMPLETIONS = workload(
    input_tokens=40, output_tokens=8, concurrency=2, requests=20, api="completions"
)


# --- one request -----------------------------------------------------------------------------


def test_a_request_says_what_is_asked_and_what_it_is_judged_against() -> None:
    (turn,) = plan(CHAT).session(3).turns
    assert (turn.index, turn.session, turn.turn) == (3, 3, 0)
    assert (turn.asked.input_tokens, turn.asked.output_tokens) == (40, 8)
    assert (turn.asked.exact, turn.asked.stream, turn.asked.api) == (True, True, "chat")
    assert turn.payload.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    (content,) = contents(plan(CHAT).session(3))
    assert content["max_tokens"] == 8
    assert content["stream"] is True
    assert content["ignore_eos"] is True
    assert content["stream_options"] == {"include_usage": True}
    (message,) = content["messages"]
    assert message["role"] == "user"
    assert words(message["content"]) == 40 - OVERHEAD


def test_ids_are_sent_as_ids_and_exactly_so_many() -> None:
    (content,) = contents(plan(COMPLETIONS, IDS).session(0))
    assert len(content["prompt"]) == 40
    assert set(content["prompt"]) <= set(POOL.ids)


def test_a_server_that_keeps_no_length_is_not_held_to_it() -> None:
    (turn,) = plan(CHAT, exact=False).session(0).turns
    assert turn.asked.exact is False


def test_without_a_stream_none_is_asked_for() -> None:
    made = plan(workload(stream=False))
    (content,) = contents(made.session(0))
    assert content["stream"] is False
    assert made.session(0).turns[0].asked.stream is False


# --- determinism -----------------------------------------------------------------------------

SHAPES: list[dict[str, Any]] = [
    {},
    {"length_spread": 0.5},
    {"shared_prefix_tokens": 12, "prefixes": 3},
    {"turns": 3, "turn_input_tokens": 16, "requests": 60},
    {"rate": 10},
    {"duration": "3 s"},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("api", "recipe"), [("chat", TEXT), ("completions", IDS)])
def test_a_session_depends_on_seed_part_and_number_alone(
    shape: dict[str, Any], api: str, recipe: Recipe
) -> None:
    asked = workload(input_tokens=60, output_tokens=8, api=api, **shape)
    forward, backward = plan(asked, recipe), plan(asked, recipe)
    numbers = [0, 1, 7, 19, 12345]
    first = [forward.session(number) for number in numbers]
    second = [backward.session(number) for number in reversed(numbers)]
    assert first == second[::-1]
    assert forward.due_ns is None or list(forward.due_ns) == list(backward.due_ns or ())
    other = plan(asked, recipe, seed=6)
    assert all(a != other.session(number) for a, number in zip(first, numbers, strict=True))


@given(spread=st.sampled_from([0.0, 0.3, 0.8]), number=st.integers(0, 10**6))
def test_lengths_are_what_the_request_says_whatever_its_number(spread: float, number: int) -> None:
    asked = workload(
        input_tokens=100,
        output_tokens=20,
        length_spread=spread,
        turns=3,
        turn_input_tokens=60,
        requests=24,
    )
    session = plan(asked).session(number)
    for turn, content in zip(session.turns, contents(session), strict=True):
        messages = content["messages"]
        counted = sum(words(message["content"]) for message in messages)
        around = OVERHEAD + PAIR_OVERHEAD * (len(messages) // 2)
        assert counted + around == turn.asked.input_tokens
        assert content["max_tokens"] == turn.asked.output_tokens
        assert turn.asked.input_tokens is not None
        assert turn.asked.input_tokens + turn.asked.output_tokens <= (longest_tokens(asked) or 0)


def test_drawn_lengths_keep_the_mean_and_use_the_whole_range() -> None:
    made = plan(workload(input_tokens=100, output_tokens=20, length_spread=0.5))
    asked = [made.session(number).turns[0].asked for number in range(2000)]
    inputs = [each.input_tokens or 0 for each in asked]
    outputs = [each.output_tokens for each in asked]
    assert (min(inputs), max(inputs)) == (50, 150)
    assert (min(outputs), max(outputs)) == (10, 30)
    assert sum(inputs) / 2000 == pytest.approx(100, abs=4 * 29.2 / 2000**0.5)
    assert sum(outputs) / 2000 == pytest.approx(20, abs=4 * 6.1 / 2000**0.5)
    both = sum((a - 100) * (b - 20) for a, b in zip(inputs, outputs, strict=True)) / 2000
    assert abs(both / 29.2 / 6.1) < 0.1  # they are drawn independently


# --- warming up ------------------------------------------------------------------------------


@pytest.mark.parametrize(("asked", "recipe"), [(CHAT, TEXT), (COMPLETIONS, IDS)])
def test_warm_up_prompts_never_begin_like_measured_ones(asked: Workload, recipe: Recipe) -> None:
    def beginnings(part: Part) -> set[object]:
        made = prompts(plan(asked, recipe, part=part), range(300))
        if recipe is IDS:
            return {ids[0] for ids in made}
        return {messages[0]["content"].split(" ")[1] for messages in made}

    assert not beginnings("measured") & beginnings("warmup")


def test_warming_up_is_a_closed_loop_of_whole_sessions() -> None:
    asked = workload("sessions", rate=5, warmup_requests=10)
    made = plan(asked, part="warmup")
    assert (made.sessions, made.requests, made.due_ns) == (3, 12, None)
    assert made.concurrency == 3
    assert plan(workload(concurrency=64), part="warmup").concurrency == 64
    assert plan(workload(duration="9 s"), part="warmup").sessions == 8


# --- how many, and when ----------------------------------------------------------------------


def test_a_closed_loop_has_so_many_sessions_or_no_end() -> None:
    assert (plan(CHAT).sessions, plan(CHAT).requests, plan(CHAT).due_ns) == (20, 20, None)
    assert plan(CHAT).concurrency == 2
    endless = plan(workload(duration="9 s"))
    assert (endless.sessions, endless.requests, endless.due_ns) == (None, None, None)


def test_an_open_loop_has_offsets_for_its_sessions() -> None:
    made = plan(workload("sessions", rate=10, requests=40))
    assert made.due_ns is not None
    assert (made.sessions, made.requests, len(made.due_ns)) == (10, 40, 10)
    timed = plan(workload(rate=10, arrivals="constant", duration="2 s"))
    assert (timed.sessions, timed.requests) == (20, 20)
    assert list(timed.due_ns or ())[:2] == [0, 100_000_000]


def test_arrivals_change_with_the_seed_of_the_run() -> None:
    asked = workload(rate=10, requests=20)
    assert plan(asked, seed=1).due_ns != plan(asked, seed=2).due_ns


# --- prefixes --------------------------------------------------------------------------------


def prefixed(**given: Any) -> Workload:
    return workload(
        input_tokens=40,
        output_tokens=8,
        api="completions",
        shared_prefix_tokens=24,
        prefixes=3,
        **given,
    )


def test_prefixes_are_shared_in_turn_and_nothing_else_is() -> None:
    made = prompts(plan(prefixed(), IDS), range(30))
    assert {len(ids) for ids in made} == {40}
    assert len({tuple(ids[:24]) for ids in made}) == 3
    assert len({ids[0] for ids in made}) == 3
    for number, ids in enumerate(made):
        assert ids[:24] == made[number % 3][:24]
    assert len({tuple(ids[24:]) for ids in made}) == 30


def test_prefixes_outlive_a_run_only_where_the_cache_does() -> None:
    def first(seed: int, part: Part = "measured", **given: object) -> list[int]:
        ids: list[int] = prompts(plan(prefixed(**given), IDS, seed=seed, part=part), range(1))[0]
        return ids

    assert first(1)[:24] != first(2)[:24]
    kept = first(1, flush=False)
    assert kept[:24] == first(2, flush=False)[:24] == first(1, "warmup", flush=False)[:24]
    assert kept[24:] != first(2, flush=False)[24:]
    assert kept[:24] != prompts(plan(prefixed(flush=False, seed=8), IDS), range(1))[0][:24]
    assert first(0)[0] != first(0, "warmup")[0]


def test_a_prefix_leaves_room_for_what_the_template_adds() -> None:
    asked = workload(input_tokens=30, output_tokens=8, shared_prefix_tokens=24)
    with pytest.raises(ServerError, match=r"input_tokens=30 is too small.*takes 31 tokens"):
        plan(asked)


# --- conversations ---------------------------------------------------------------------------

TALK = workload(
    input_tokens=40, output_tokens=8, turns=3, turn_input_tokens=20, requests=24, think_time="2 s"
)


def test_each_turn_of_a_conversation_repeats_all_that_was_said() -> None:
    session = plan(TALK).session(4)
    assert session.pause_ns == 2_000_000_000
    assert [(turn.index, turn.turn, turn.session) for turn in session.turns] == [
        (12, 0, 4),
        (13, 1, 4),
        (14, 2, 4),
    ]
    assert [turn.asked.input_tokens for turn in session.turns] == [40, 68, 96]
    first, second, third = (content["messages"] for content in contents(session))
    assert [message["role"] for message in third] == ["user", "assistant"] * 2 + ["user"]
    assert third[:3] == second
    assert third[:1] == first
    assert [words(message["content"]) for message in third] == [40 - 7, 8, 20 - 11, 8, 20 - 11]


def test_as_ids_a_conversation_is_one_growing_list() -> None:
    asked = workload(
        input_tokens=40,
        output_tokens=8,
        turns=3,
        turn_input_tokens=20,
        requests=24,
        api="completions",
    )
    first, second, third = (content["prompt"] for content in contents(plan(asked, IDS).session(0)))
    assert [len(ids) for ids in (first, second, third)] == [40, 68, 96]
    assert second[:40] == first
    assert third[:68] == second


def test_turns_of_different_sessions_say_different_things() -> None:
    made = plan(TALK)
    last = [contents(made.session(number))[2]["messages"] for number in range(20)]
    for place in range(5):
        assert len({messages[place]["content"] for messages in last}) == 20


def test_a_turn_too_short_for_the_template_is_told() -> None:
    asked = workload(turns=3, turn_input_tokens=11, requests=24)
    with pytest.raises(ServerError, match="turn_input_tokens=11 is too small") as caught:
        plan(asked)
    assert "at least 12" in caught.value.remedy
    assert plan(workload(turns=3, turn_input_tokens=12, requests=24)).sessions == 8


def test_a_spread_that_reaches_below_the_template_is_told() -> None:
    asked = workload(input_tokens=12, output_tokens=8, length_spread=0.5)
    with pytest.raises(ServerError, match=r"input_tokens=6 \(its least, with length_spread=0.5\)"):
        plan(asked)


# --- files -----------------------------------------------------------------------------------


def of_file(directory: Path, lines: list[Any], **given: object) -> Workload:
    path = directory / "requests.jsonl"
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return workload("requests.jsonl", directory, **given)


def test_texts_and_messages_are_sent_as_they_stand(tmp_path: Path) -> None:
    messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}]
    asked = of_file(
        tmp_path,
        [{"prompt": "one", "max_tokens": 3}, {"messages": messages}],
        output_tokens=9,
        concurrency=2,
    )
    bare = Recipe(usage="continuous")
    made = plan(asked, bare)
    (first,), (second,) = (contents(made.session(number)) for number in (0, 1))
    assert first["messages"] == [{"role": "user", "content": "one"}]
    assert second["messages"] == messages
    assert (first["max_tokens"], second["max_tokens"]) == (3, 9)
    assert made.session(0).turns[0].asked.input_tokens is None
    assert (made.sessions, made.requests) == (2, 2)
    warm = plan(asked, bare, part="warmup")
    assert contents(warm.session(0))[0]["messages"] == messages


def test_texts_become_prompts_of_completions(tmp_path: Path) -> None:
    lines = [{"prompt": "one", "max_tokens": 3}]
    asked = of_file(tmp_path, lines, api="completions", concurrency=1)
    assert contents(plan(asked, Recipe(usage="none")).session(0))[0]["prompt"] == "one"


def test_ids_of_a_file_are_sent_as_they_stand(tmp_path: Path) -> None:
    asked = of_file(tmp_path, [{"input_ids": [3, 1, 2], "output_tokens": 4}], concurrency=1)
    made = plan(asked, Recipe(usage="none"))
    assert contents(made.session(0))[0]["prompt"] == [3, 1, 2]
    assert made.session(0).turns[0].asked.input_tokens == 3


def test_a_file_is_never_sent_twice_in_a_run_bound_by_time(tmp_path: Path) -> None:
    lines = [{"prompt": str(n), "max_tokens": 3} for n in range(9)]
    assert plan(of_file(tmp_path, lines, duration="99 s", concurrency=1)).sessions == 9
    (tmp_path / "requests.jsonl").unlink()
    bursty = of_file(tmp_path, lines, duration="9 s", rate=1, arrivals="gamma", burstiness=0.05)
    assert max(plan(bursty, seed=seed).sessions or 0 for seed in range(20)) == 9


TRACE = [{"arrival_s": 1.5 + n, "input_tokens": 30 + n, "output_tokens": 5 + n} for n in range(6)]


@pytest.mark.parametrize(("api", "recipe"), [("chat", TEXT), ("completions", IDS)])
def test_a_trace_gives_lengths_and_times(tmp_path: Path, api: str, recipe: Recipe) -> None:
    made = plan(of_file(tmp_path, TRACE, api=api, trace_speed=2), recipe)
    assert list(made.due_ns or ()) == [n * 500_000_000 for n in range(6)]
    for number in range(6):
        (content,) = contents(made.session(number))
        asked = made.session(number).turns[0].asked
        assert (asked.input_tokens, asked.output_tokens) == (30 + number, 5 + number)
        if recipe is IDS:
            assert len(content["prompt"]) == 30 + number
        else:
            assert words(content["messages"][0]["content"]) + OVERHEAD == 30 + number


def test_a_trace_is_cut_by_requests_and_by_time(tmp_path: Path) -> None:
    assert len(plan(of_file(tmp_path, TRACE, requests=4)).due_ns or ()) == 4
    assert len(plan(of_file(tmp_path, TRACE, duration="2 s")).due_ns or ()) == 2
    poisson = plan(of_file(tmp_path, TRACE, rate=3))
    assert poisson.sessions == 6
    assert list(poisson.due_ns or ()) != [n * 1_000_000_000 for n in range(6)]


MOONCAKE = [
    {"timestamp": 0, "input_length": 1030, "output_length": 5, "hash_ids": [4, 9, 2]},
    {"timestamp": 10, "input_length": 1500, "output_length": 5, "hash_ids": [4, 9, 7]},
    {"timestamp": 20, "input_length": 1024, "output_length": 5, "hash_ids": [4, 8]},
    {"timestamp": 20, "input_length": 500, "output_length": 5, "hash_ids": [11]},
]


def test_blocks_of_equal_hash_ids_are_equal_in_every_run(tmp_path: Path) -> None:
    asked = of_file(tmp_path, MOONCAKE, api="completions")
    one, two, three, four = prompts(plan(asked, IDS), range(4))
    assert [len(ids) for ids in (one, two, three, four)] == [1030, 1500, 1024, 500]
    assert one[:1024] == two[:1024]
    assert one[1024] != two[1024]
    assert three[:512] == one[:512]
    assert three[512] != one[512]
    assert four[0] != one[0]
    assert prompts(plan(asked, IDS, seed=99), range(4)) == [one, two, three, four]
    (tmp_path / "requests.jsonl").unlink()
    other = of_file(tmp_path, MOONCAKE, api="completions", seed=3)
    assert prompts(plan(other, IDS), range(1)) != [one]
    warm = prompts(plan(asked, IDS, part="warmup"), range(4))
    assert not {ids[0] for ids in warm} & {ids[0] for ids in (one, two, three, four)}


def test_blocks_keep_their_place_where_a_template_takes_room(tmp_path: Path) -> None:
    asked = of_file(tmp_path, MOONCAKE)
    one, two = (
        messages[0]["content"].split(" ")[1:] for messages in prompts(plan(asked), range(2))
    )
    assert (len(one), len(two)) == (1030 - OVERHEAD, 1500 - OVERHEAD)
    assert one[:1016] == two[:1016]


def test_a_trace_of_requests_shorter_than_the_template_is_told(tmp_path: Path) -> None:
    lines = [{"arrival_s": 0, "input_tokens": 7, "output_tokens": 1}]
    with pytest.raises(ServerError, match="7 is too small"):
        plan(of_file(tmp_path, lines))


def test_a_file_that_changed_since_is_told(tmp_path: Path) -> None:
    asked = of_file(tmp_path, TRACE)
    (tmp_path / "requests.jsonl").write_text(json.dumps(TRACE[0]))
    with pytest.raises(ServerError, match="has changed since"):
        plan(asked)
