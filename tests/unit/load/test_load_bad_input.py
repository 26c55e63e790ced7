"""Files of requests and fields of workloads as a fuzzer writes them: read, or one sentence."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_llmperf.errors import UsageMistake
from pytest_llmperf.load.declare.fields import ALIASES, FIELDS, read_fields
from pytest_llmperf.load.declare.sources import find_file, open_source
from pytest_llmperf.load.declare.workloads import make_workload

Broken = Callable[[Any], st.SearchStrategy[bytes]]

FUZZ = settings(
    max_examples=int(os.environ.get("LLMPERF_FUZZ", "60")),
    derandomize="LLMPERF_FUZZ" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


def outcome(call: Callable[[], Any]) -> tuple[Any, str | None]:
    """What ``call`` returns, and the sentence with which it refuses."""
    try:
        return call(), None
    except UsageMistake as mistake:
        return None, str(mistake)


LINES: dict[str, Any] = {
    "sharegpt": {"conversations": [{"from": "human", "value": "Hi."}], "output_tokens": 3},
    "prompt": {"prompt": "Hi.", "max_tokens": 3},
    "messages": {"messages": [{"role": "user", "content": "Hi."}]},
    "ids": {"input_ids": [1, 2, 3], "output_tokens": 4},
    "bare ids": [1, 2, 3],
    "trace": {"arrival_s": 0.5, "input_tokens": 900, "output_tokens": 100},
    "mooncake": {"timestamp": 5, "input_length": 900, "output_length": 9, "hash_ids": [0, 1]},
}


@pytest.mark.parametrize("kind", LINES)
@FUZZ
@given(data=st.data())
def test_a_file_is_read_or_refused(
    kind: str, data: st.DataObject, broken: Broken, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("requests") / "requests.jsonl"
    line = json.dumps(LINES[kind]).encode()
    text = data.draw(broken(LINES[kind]))
    path.write_bytes(data.draw(st.sampled_from([text, line + b"\n" + text, b"[" + text + b"]"])))
    items, said = outcome(lambda: open_source(path)[1])
    if said is None:
        assert items
        return
    assert said.startswith(str(path))
    assert any(word in said for word in ("expected ", "Name a", "holds no"))
    assert len(said) < 2000


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'"\xff"', "line 2: "),
        (b"[" * 100_000, "line 2: "),
        (b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"}", "line 2: it is nested too deeply"),
        (b'{"prompt": "a", "max_tokens": ' + b"9" * 400 + b"}", "line 2: "),
        (b'{"prompt": "\\ud800"}', "line 2: "),
        (b"prompt: a", "line 2: "),
    ],
)
def test_the_line_is_named(tmp_path: Path, line: bytes, said: str) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'{"prompt": "a"}\n' + line)
    with pytest.raises(UsageMistake, match=f"x.jsonl, {said}"):
        open_source(path)


@pytest.mark.parametrize(
    "line",
    [
        {"arrival_s": 0, "input_tokens": 10**400, "output_tokens": 1},
        {"arrival_s": 0, "input_tokens": 10**12, "output_tokens": 1},
        {"timestamp": 0, "input_length": 10**400, "output_length": 1, "hash_ids": []},
        {"timestamp": 1e300, "input_length": 1, "output_length": 1},
        {"input_ids": [10**400]},
    ],
)
def test_numbers_that_no_request_has_are_refused(tmp_path: Path, line: dict[str, Any]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(UsageMistake, match=r"x\.jsonl, line 1: Expected `.*; expected "):
        open_source(path)


def test_a_mark_of_byte_order_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"prompt": "a"}\r\n')
    assert open_source(path)[1][0].text == "a"


@pytest.mark.parametrize("name", ["a" * 300 + ".json", "x\0y.json", "pipe.json", "d.json", ""])
def test_what_is_no_file_is_not_found(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "d.json").mkdir()
    with pytest.raises(UsageMistake, match="no file "):
        find_file(name, [tmp_path], "llm_workload")


# --- fields ----------------------------------------------------------------------------------

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(),
    st.text(alphabet="0123456789. msinhreq/"),
    st.lists(st.integers()),
    st.dictionaries(st.text(), st.integers()),
    st.sampled_from([10**400, -(10**400), 10**12, "9" * 400 + " s", "1" * 5000, b"x", object]),
)


@FUZZ
@given(
    st.dictionaries(st.sampled_from(sorted({*FIELDS, *ALIASES})) | st.text(), VALUES, max_size=4)
)
@example({"rate": 10**400})
@example({"duration": "9" * 400 + " s"})
@example({"requests": 10**400})
@example({"temperature": float("nan")})
@example({"think_time": 10**400})
@example({"arrivals": ["poisson"]})
@example({"rate": "9" * 9 + " req/s", "duration": "9" * 9 + " h"})
def test_fields_are_read_or_refused(overrides: dict[str, Any]) -> None:
    _, said = outcome(lambda: read_fields(overrides, "llm_workload"))
    assert said is None or said.startswith("llm_workload: ")
    _, said = outcome(
        lambda: make_workload("chat", overrides, runs=1, requests_needed=1, source="llm_workload")
    )
    assert said is None or said.startswith("llm_workload: ")


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("input_tokens", 10**12, "a whole number of at most 16,777,216"),
        ("requests", 10**10, "a whole number of at most 1,000,000,000"),
        ("rate", 1e12, "a number of at most 1,000,000,000"),
        ("seed", 2**64, "a whole number of at most 9,223,372,036,854,775,807"),
    ],
)
def test_slips_of_many_digits_are_said(field: str, value: Any, said: str) -> None:
    with pytest.raises(UsageMistake, match=f"{field}={value}: expected {said}"):
        read_fields({field: value}, "llm_workload")
