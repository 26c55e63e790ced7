"""Files of requests: kinds seen by content, every line that does not fit named."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.load.declare.sources import Item, find_file, items_of, open_source
from pytest_llmperf.records import Json, SourceKind


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines), encoding="utf-8")
    return path


def read(tmp_path: Path, *lines: object) -> tuple[str, tuple[Item, ...]]:
    source, items = open_source(write(tmp_path / "requests.jsonl", *lines))
    return source.kind, items


TALK = {
    "id": "a",
    "conversations": [
        {"from": "system", "value": "Be kind."},
        {"from": "gpt", "value": "Hello."},
        {"from": "human", "value": "What is a token?"},
        {"from": "gpt", "value": "A piece of text."},
        {"from": "human", "value": "Thanks."},
    ],
}


@pytest.mark.parametrize("as_list", [True, False])
def test_the_first_human_turn_of_a_conversation_is_the_prompt(
    tmp_path: Path, as_list: bool
) -> None:
    silent: dict[str, Any] = {"conversations": [{"from": "gpt", "value": "Hello?"}]}
    known = {"conversations": [{"from": "user", "value": "Hi"}], "output_tokens": 7}
    talks = [TALK, silent, {"conversations": []}, known]
    path = tmp_path / "talks.json"
    if as_list:
        path.write_text(json.dumps(talks, indent=1), encoding="utf-8")
    else:
        write(path, *talks)
    source, items = open_source(path)
    assert source.kind == "sharegpt"
    assert items == (
        Item(text="What is a token?", output_tokens=None),
        Item(text="Hi", output_tokens=7),
    )


def test_prompts_are_texts_or_messages(tmp_path: Path) -> None:
    messages: list[dict[str, Json]] = [
        {"role": "system", "content": "x"},
        {"role": "user", "content": "y"},
    ]
    kind, items = read(
        tmp_path, {"prompt": "a"}, {"prompt": "b", "max_tokens": 3}, {"messages": messages}
    )
    assert kind == "prompts"
    assert items == (
        Item(text="a", output_tokens=None),
        Item(text="b", output_tokens=3),
        Item(messages=tuple(messages), output_tokens=None),
    )


@pytest.mark.parametrize(
    ("line", "output"),
    [
        ({"input_ids": [5, 6, 7], "output_tokens": 9}, 9),
        ({"prompt_token_ids": [5, 6, 7], "max_tokens": 9}, 9),
        ([5, 6, 7], None),
    ],
)
def test_token_ids_are_read_in_three_ways(tmp_path: Path, line: object, output: int | None) -> None:
    kind, items = read(tmp_path, line, line)
    assert kind == "ids"
    assert items[1] == Item(ids=(5, 6, 7), input_tokens=3, output_tokens=output)


def test_traces_are_sorted_by_time(tmp_path: Path) -> None:
    kind, items = read(
        tmp_path,
        {"arrival_s": 2, "input_tokens": 30, "output_tokens": 4},
        {"arrival_s": 0.5, "input_tokens": 10, "output_tokens": 2},
    )
    assert kind == "trace"
    assert [(item.arrival_s, item.input_tokens, item.output_tokens) for item in items] == [
        (0.5, 10, 2),
        (2.0, 30, 4),
    ]


def test_a_mooncake_trace_counts_milliseconds_and_blocks_of_512(tmp_path: Path) -> None:
    kind, items = read(
        tmp_path,
        {"timestamp": 0, "input_length": 1024, "output_length": 5, "hash_ids": [0, 7]},
        {"timestamp": 3000, "input_length": 1025, "output_length": 1, "hash_ids": [0, 7, 9]},
        {"timestamp": 3500, "input_length": 600, "output_length": 1},
    )
    assert kind == "trace"
    assert items[1] == Item(arrival_s=3.0, input_tokens=1025, output_tokens=1, blocks=(0, 7, 9))
    assert items[2].blocks == ()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([{"prompt": "a"}, {"prompt": 3}], ["line 2:", "Expected `str | null`", '"prompt"']),
        ([{"prompt": "a"}, {"question": "b"}], ["line 2:", 'either "prompt" or "messages"']),
        ([{"prompt": "a", "max_tokens": 0}], ["line 1:", "int` >= 1", "$.max_tokens"]),
        ([{"prompt": "a", "max_tokens": 1, "output_tokens": 2}], ["contradict"]),
        ([{"prompt": ""}], ["line 1:", "empty"]),
        ([{"messages": []}], ["line 1:", '"role" and "content"']),
        ([{"messages": [{"role": "user"}]}], ["line 1:", '"role" and "content"']),
        ([{"input_ids": [1]}, {"input_ids": []}], ["line 2:", "length >= 1"]),
        ([{"input_ids": [1, -2]}], ["line 1:", ">= 0"]),
        ([[1, 2], [1, "x"]], ["line 2:", "a list of token ids"]),
        ([{"arrival_s": 0, "input_tokens": 1}], ["line 1:", "output_tokens"]),
        ([{"arrival_s": -1, "input_tokens": 1, "output_tokens": 1}], ["line 1:", ">= 0"]),
        (
            [{"timestamp": 0, "input_length": 1024, "output_length": 5, "hash_ids": [1] * 16}],
            ["line 1:", "1024 prompt tokens are 2 blocks of 512", "names 16"],
        ),
        ([{"text": "a"}], ["line 1:", "no request of a known kind", '{"prompt": "..."}']),
        ([], ["is empty", "lines like one of"]),
        ([{"conversations": []}], ["no conversation with a human's turn"]),
    ],
)
def test_a_line_that_does_not_fit_is_named_with_what_was_expected(
    tmp_path: Path, lines: list[object], told: list[str]
) -> None:
    path = write(tmp_path / "requests.jsonl", *lines)
    with pytest.raises(UsageMistake) as caught:
        open_source(path)
    assert str(path) in str(caught.value)
    for part in told:
        assert part in str(caught.value)


def test_broken_json_is_named_by_its_line_and_blank_lines_are_none(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('\n{"prompt": "a"}\n\n{"prompt": "b"\n')
    with pytest.raises(UsageMistake, match=r"line 4: Input data was truncated.*expected"):
        open_source(path)
    path.write_text('{"prompt": "a"')
    with pytest.raises(UsageMistake, match=r"line 1: Input data was truncated"):
        open_source(path)
    path.write_text('[{"conversations": []}, {')
    with pytest.raises(UsageMistake, match="is not a JSON list"):
        open_source(path)


def test_in_a_list_the_line_of_a_wrong_conversation_is_found(tmp_path: Path) -> None:
    path = tmp_path / "talks.json"
    path.write_text('[\n{"conversations": [{"from": "human", "value": "a"}]},\n{"talk": 1}\n]')
    with pytest.raises(UsageMistake, match=r"line 3: Object missing required field"):
        open_source(path)


def test_a_file_is_known_by_its_bytes_and_told_when_it_changes(tmp_path: Path) -> None:
    path = write(tmp_path / "requests.jsonl", {"prompt": "a"})
    source, items = open_source(path)
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.path == str(path)
    assert items_of(source) == items
    write(path, {"prompt": "b"})
    os.utime(path, ns=(1, 1))
    with pytest.raises(UsageMistake, match="has changed since"):
        items_of(source)
    path.unlink()
    with pytest.raises(UsageMistake, match="cannot be read: No such file"):
        items_of(source)


def test_files_are_looked_for_in_order(tmp_path: Path) -> None:
    near, far = tmp_path / "tests", tmp_path
    near.mkdir()
    write(far / "a.jsonl", {"prompt": "far"})
    assert find_file("a.jsonl", (near, far), "x") == far / "a.jsonl"
    write(near / "a.jsonl", {"prompt": "near"})
    assert find_file("a.jsonl", (near, far), "x") == near / "a.jsonl"
    assert find_file(str(far / "a.jsonl"), (near,), "x") == far / "a.jsonl"
    with pytest.raises(UsageMistake, match=r"x: no file 'b.jsonl' in .*tests nor in "):
        find_file("b.jsonl", (near, far), "x")


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        ({"prompt": "a"}, "prompts"),
        ([1], "ids"),
        ({"arrival_s": 1, "input_tokens": 1, "output_tokens": 1}, "trace"),
        (TALK, "sharegpt"),
    ],
)
def test_the_name_of_a_file_says_nothing_about_its_kind(
    tmp_path: Path, line: object, kind: SourceKind
) -> None:
    source, _ = open_source(write(tmp_path / "trace.json", line))
    assert source.kind == kind


def test_many_lines_are_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "many.jsonl"
    path.write_text("".join(f'{{"prompt": "{n}"}}\n' for n in range(20_000)))
    _, items = open_source(path)
    assert [item.text for item in items] == [str(n) for n in range(20_000)]
