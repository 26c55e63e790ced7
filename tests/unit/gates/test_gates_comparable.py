from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.gates.comparable import (
    Difference,
    differences,
    refusal,
    told,
)
from pytest_llmperf.launch.mapped import OTHERS
from pytest_llmperf.records import Json

NAMES = st.text("abc._-()", min_size=1, max_size=4)
SCALARS = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from(["", "x", "1", "True"])
VALUES: st.SearchStrategy[Json] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=12,
)
FACTS = st.dictionaries(NAMES, VALUES, max_size=5)

#: As `launch.subject` gives them.
OLD: dict[str, Json] = {
    "engine": "sglang",
    "version": "0.5.22",
    "model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
    "revision": "a" * 40,
    "url": None,
    "args": {"chunked_prefill_size": 2048, "dtype": "auto", "tp_size": 1},
    "env": {"OMP_NUM_THREADS": "4"},
    "code": {"sglang": {"digest": "1" * 16, "files": 5600, "commit": "a1b2c3" * 6, "dirty": False}},
    "libraries": {"libtorch_cuda.so": "aa", "libtorch_cpu.so": "bb", OTHERS: "cc"},
    "python": "3.11.7",
    "packages": {"sglang": "0.5.22", "torch": "2.12.0", OTHERS: "dd"},
    "platform": {"driver": "550.54"},
}


def changed(**parts: Json) -> dict[str, Json]:
    """OLD with other parts; a mapping is laid over what is there."""
    new = dict(OLD)
    for name, value in parts.items():
        before = new[name]
        both = isinstance(before, dict) and isinstance(value, dict)
        new[name] = {**before, **value} if both else value  # type: ignore[dict-item]
    return new


def sentences(**parts: Json) -> tuple[str, ...]:
    return told(differences(changed(**parts), OLD))


# --- telling ---------------------------------------------------------------------------------


def test_values_are_told_as_people_write_them() -> None:
    assert sentences(args={"chunked_prefill_size": 4096.0}) == (
        "--chunked-prefill-size 2048 -> 4096",
    )
    assert sentences(args={"chunked_prefill_size": 0.5}) == ("--chunked-prefill-size 2048 -> 0.5",)
    on = sentences(args={"chunked_prefill_size": True})
    assert on == ("--chunked-prefill-size 2048 -> on",)


# --- finding ---------------------------------------------------------------------------------


@given(FACTS)
def test_nothing_differs_from_itself(facts: dict[str, Json]) -> None:
    assert differences(facts, facts) == ()
    assert differences(json.loads(json.dumps(facts)), facts) == ()


@given(FACTS, FACTS)
def test_both_ways_round_the_same_names_differ(one: dict[str, Json], two: dict[str, Json]) -> None:
    there, back = differences(one, two), differences(two, one)
    assert [d.name for d in there] == [d.name for d in back]
    assert [(d.old, d.new) for d in there] == [(d.new, d.old) for d in back]


@given(FACTS, FACTS)
def test_something_is_told_of_every_difference(one: dict[str, Json], two: dict[str, Json]) -> None:
    assert bool(told(differences(one, two))) == bool(differences(one, two))


def test_a_difference_has_its_dotted_name() -> None:
    found = differences(changed(args={"dtype": "float16"}), OLD)
    assert found == (Difference(name="args.dtype", old="auto", new="float16"),)


def test_absent_is_unknown() -> None:
    assert differences({"a": None, "b": {"c": None}}, {}) == ()
    assert differences({"a": 1}, {}) == (Difference(name="a", old=None, new=1),)


@pytest.mark.parametrize(("one", "two"), [(True, 1), (False, 0), (True, "True"), (2, "2")])
def test_what_only_looks_equal_differs(one: Json, two: Json) -> None:
    assert len(differences({"a": one}, {"a": two})) == 1


def test_whole_numbers_survive_json() -> None:
    assert differences({"power_limit_w": 700}, {"power_limit_w": 700.0}) == ()


# --- held fixed ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word", ["args.dtype", "dtype", "--dtype", "args", "args.chunked_prefill_size"]
)
def test_only_what_is_held_counts(word: str) -> None:
    new = changed(args={"dtype": "float16", "chunked_prefill_size": 4096}, version="0.5.23")
    names = {d.name for d in differences(new, OLD, held=[word])}
    assert names
    assert all(name.startswith("args.") for name in names)


def test_a_flag_may_be_written_as_on_the_command_line() -> None:
    new = changed(args={"chunked_prefill_size": 4096})
    assert [d.name for d in differences(new, OLD, held=["--chunked-prefill-size"])] == [
        "args.chunked_prefill_size"
    ]


def test_a_package_is_held_by_its_name() -> None:
    new = changed(packages={"torch": "2.13.0"})
    assert [d.name for d in differences(new, OLD, held=["torch"])] == ["packages.torch"]


def test_held_and_equal_is_no_difference() -> None:
    assert differences(changed(version="0.5.23"), OLD, held=["dtype", "torch", "model"]) == ()
    assert differences(changed(version="0.5.23"), OLD, held=[]) == ()


@pytest.mark.parametrize("word", ["dtpye", "url"])
def test_what_is_held_but_known_to_nobody_is_not_equal(word: str) -> None:
    found = differences(OLD, OLD, held=[word, "dtype"])
    assert found == (Difference(name=word, old=None, new=None),)
    assert told(found) == (f"{word} is not known on either side",)


def test_part_of_a_name_is_not_enough() -> None:
    assert differences(changed(args={"dtype": "x"}), OLD, held=["size", "arg", "tp_size"]) == (
        Difference(name="size", old=None, new=None),
        Difference(name="arg", old=None, new=None),
    )


# --- telling ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ({"version": "0.5.23"}, "version 0.5.22 -> 0.5.23"),
        (
            {"version": "0.5.23", "packages": {"sglang": "0.5.23"}},
            "sglang 0.5.22 -> 0.5.23",
        ),
        ({"packages": {"torch": "2.13.0"}}, "torch 2.12.0 -> 2.13.0"),
        ({"packages": {"triton": "3.8"}}, "triton 3.8 installed"),
        ({"packages": {"torch": None}}, "torch 2.12.0 no longer installed"),
        ({"packages": {OTHERS: "ee"}}, "other packages changed"),
        ({"args": {"chunked_prefill_size": 4096}}, "--chunked-prefill-size 2048 -> 4096"),
        ({"args": {"chunked_prefill_size": 2048.5}}, "--chunked-prefill-size 2048 -> 2048.5"),
        ({"args": {"enable_x": True}}, "--enable-x on (was not set)"),
        ({"args": {"-t": "4"}}, "-t 4 (was not set)"),
        ({"args": {"dtype": None}}, "--dtype no longer set (was auto)"),
        ({"args": {"graph": {"max_bs": 3}}}, "--graph.max-bs 3 (was not set)"),
        ({"env": {"OMP_NUM_THREADS": "8"}}, "OMP_NUM_THREADS=4 -> 8"),
        ({"env": {"NCCL_DEBUG": "INFO"}}, "NCCL_DEBUG=INFO newly set"),
        ({"env": {"OMP_NUM_THREADS": None}}, "OMP_NUM_THREADS no longer set (was 4)"),
        ({"platform": {"driver": "560.35"}}, "driver 550.54 -> 560.35"),
        ({"libraries": {"libtorch_cuda.so": "ab"}}, "libtorch_cuda.so rebuilt"),
        ({"libraries": {"libnew.so": "ab"}}, "libnew.so newly loaded"),
        ({"libraries": {"libtorch_cpu.so": None}}, "libtorch_cpu.so no longer loaded"),
        ({"libraries": {OTHERS: "ab"}}, "small libraries changed"),
        ({"libraries": None}, "loaded libraries are known on one side only"),
        ({"packages": None}, "installed packages are known on one side only"),
        ({"code": {"sglang": {"digest": None}}}, "code of sglang is known on one side only"),
        ({"model": "other"}, "model deepseek-ai/DeepSeek-R1-Distill-Qwen-7B -> other"),
    ],
)
def test_one_difference_in_words(parts: dict[str, Json], text: str) -> None:
    found = sentences(**parts)
    assert found[0].startswith(text)
    if "code" not in parts:
        assert found == (text,)


def code(**facts: Json) -> Json:
    before: dict[str, Json] = {
        "digest": "1" * 16,
        "files": 5600,
        "commit": "a1b2c3" * 6,
        "dirty": False,
    }
    return {"sglang": {**before, **facts}}


@pytest.mark.parametrize(
    ("now", "text"),
    [
        (code(digest="2" * 16), "code of sglang changed"),
        (
            code(digest="2" * 16, commit="d4e5f6" * 6),
            "code of sglang changed (commit a1b2c3a1 -> d4e5f6d4)",
        ),
        (
            code(digest="2" * 16, files=5601, dirty=True),
            "code of sglang changed (with uncommitted changes)",
        ),
        (
            code(commit="d4e5f6" * 6),
            "checkout of sglang moved, its code is the same (commit a1b2c3a1 -> d4e5f6d4)",
        ),
    ],
)
def test_code_in_words(now: Json, text: str) -> None:
    assert sentences(code=now) == (text,)


def test_many_libraries_are_one_sentence() -> None:
    rebuilt: Json = {f"lib{n}.so": "new" for n in range(5)}
    before = changed(libraries={f"lib{n}.so": "old" for n in range(5)})
    found = told(differences(changed(libraries=rebuilt), before))
    assert found == ("lib0.so, lib1.so and 3 more libraries rebuilt",)


def test_the_most_telling_comes_first() -> None:
    assert sentences(
        version="0.5.23",
        args={"chunked_prefill_size": 4096, "brand_new_default": 1},
        code=code(digest="2" * 16),
        libraries={"libtorch_cuda.so": "ab", OTHERS: "x"},
        packages={"sglang": "0.5.23", "torch": "2.13.0", OTHERS: "x"},
        platform={"driver": "560.35"},
    ) == (
        "sglang 0.5.22 -> 0.5.23",
        "code of sglang changed",
        "--chunked-prefill-size 2048 -> 4096",
        "driver 550.54 -> 560.35",
        "torch 2.12.0 -> 2.13.0",
        "--brand-new-default 1 (was not set)",
        "and 3 more",
    )


def test_all_is_told_where_there_is_room() -> None:
    found = differences(changed(args={f"a{n}": n for n in range(9)}), OLD)
    assert len(told(found, most=9)) == 9
    assert told(found, most=2)[-1] == "and 7 more"


def test_another_package_with_the_same_step_is_told_too() -> None:
    before = changed(packages={"sgl-kernel": "0.5.22"})
    now = changed(version="0.5.23", packages={"sglang": "0.5.23", "sgl-kernel": "0.5.23"})
    assert len(told(differences(now, before))) == 2


# --- refusing --------------------------------------------------------------------------------


def test_a_refusal_names_every_field_with_both_values_and_a_way_on() -> None:
    stored: dict[str, Json] = {"product": "NVIDIA H100 80GB HBM3", "count": 1, "mig": False}
    current: dict[str, Json] = {"product": "NVIDIA H100 PCIe", "count": 2, "mig": False}
    assert refusal(differences(current, stored), "test_chat-1a2b") == (
        "not comparable with test_chat-1a2b: count is 2 here and 1 there; "
        "product is NVIDIA H100 PCIe here and NVIDIA H100 80GB HBM3 there; "
        "accept a level for this environment (pytest-llmperf baseline accept --reason TEXT), or "
        "let the hook pytest_llmperf_comparable say that the two may be compared"
    )


def test_an_unknown_value_is_said_to_be_unknown() -> None:
    text = refusal(differences({"power_limit_w": 700}, {}), "k")
    assert "power_limit_w is 700 here and unknown there" in text


def test_there_is_no_refusal_without_a_difference() -> None:
    with pytest.raises(ValueError, match="nothing differs"):
        refusal((), "k")


def test_what_a_test_holds_fixed_is_refused_with_another_way_on() -> None:
    found = differences(changed(args={"dtype": "float16"}), OLD, held=["dtype", "quantization"])
    fields = (
        "not comparable with k: args.dtype is float16 here and auto there; quantization is known "
        "neither here nor there; the test holds this fixed: "
    )
    assert refusal(found, "k", held="history") == fields + (
        "start the server as before, accept a level of what runs now (pytest-llmperf baseline "
        "accept --last 1 --reason TEXT), or take it out of subject="
    )
    assert refusal(found, "k", held="ab") == (
        f"{fields}give both sides the same, or take it out of subject="
    )


@pytest.mark.parametrize(
    ("word", "name"),
    [("engine_version", "version"), ("engine-version", "version"), ("model_revision", "revision")],
)
def test_what_people_call_a_fact_otherwise_is_held_too(word: str, name: str) -> None:
    (found,) = differences({name: "2"}, {name: "1"}, held=[word])
    assert (found.name, found.old, found.new) == (name, "1", "2")
    assert differences({name: "1"}, {name: "1"}, held=[word]) == ()
