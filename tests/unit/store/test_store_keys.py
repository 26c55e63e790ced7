"""Keys, addresses, the schema, and documents of older versions."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pytest_llmperf.records import LaunchValues, Level, NoiseProfile, Observation, Scalar
from pytest_llmperf.schema import load_schema
from pytest_llmperf.store import StoreError, key_of, near, open_store, without_environment
from pytest_llmperf.store.documents import new_id, record_of, text_of
from pytest_llmperf.store.keys import slug
from pytest_llmperf.store.migrate import STEPS, VERSION, migrated

if TYPE_CHECKING:
    from tests.unit.store.conftest import Samples

TEST = "tests/perf/test_chat.py::TestChat::test_speed[sglang-8]"
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False)
)
FACTS = st.dictionaries(st.text(max_size=5), SCALARS | st.text(max_size=5), max_size=5)


# --- keys ------------------------------------------------------------------------------------


def test_a_key_can_be_read_and_stays_what_it_is() -> None:
    key = key_of(TEST, "chat-1", {"vendor": "nvidia", "memory_gib": 80}, 1)
    assert key == "test_chat-testchat-test_speed-sglang-8.b7f480e00d.01e22cc543"


@given(FACTS)
def test_the_order_of_facts_does_not_matter(facts: dict[str, Scalar]) -> None:
    turned = dict(reversed(list(facts.items())))
    assert key_of(TEST, "w", facts, 1) == key_of(TEST, "w", turned, 1)


@given(FACTS, FACTS)
def test_other_facts_are_another_key_of_the_same_stem(
    one: dict[str, Scalar], other: dict[str, Scalar]
) -> None:
    first, second = key_of(TEST, "w", one, 1), key_of(TEST, "w", other, 1)
    # repr: True is no 1 here.
    assert (first == second) == (
        {k: same(v) for k, v in one.items()} == {k: same(v) for k, v in other.items()}
    )
    assert without_environment(first) == without_environment(second) is not None


def same(value: Scalar) -> tuple[str, Scalar]:
    return ("number" if type(value) in (int, float) else type(value).__name__, value)


def test_everything_is_in_the_key() -> None:
    base = key_of(TEST, "w", {"n": 1}, 1)
    others = [
        key_of(TEST.replace("perf", "other"), "w", {"n": 1}, 1),
        key_of(TEST, "v", {"n": 1}, 1),
        key_of(TEST, "w", {"n": 2}, 1),
        key_of(TEST, "w", {"n": True}, 1),
        key_of(TEST, "w", {"n": "1"}, 1),
        key_of(TEST, "w", {"n": 1}, 2),
    ]
    assert len({base, *others}) == 7
    assert key_of(TEST, "w", {"n": 1.0}, 1) == base
    stems = [without_environment(key) for key in (base, *others)]
    assert stems[2:].count(stems[0]) == 5 - 1
    assert len(set(stems)) == 3


def test_a_fact_must_be_a_finite_scalar() -> None:
    with pytest.raises(StoreError, match="JSON cannot hold"):
        key_of(TEST, "w", {"n": float("inf")}, 1)


@given(st.text(max_size=200))
def test_a_slug_is_a_safe_name(text: str) -> None:
    name = slug(text)
    assert 1 <= len(name) <= 60
    assert set(name) <= set(string.ascii_lowercase + string.digits + "_-")


@given(st.text(max_size=200))
@example("_t.py::test_")
def test_a_key_is_a_directory_s_name_as_it_stands(test: str) -> None:
    from pytest_llmperf.store.files import Files

    key = key_of(test, "w", {}, 1)
    assert Files(Path()).under(key) == key


def test_near_is_what_differs_in_the_environment_only(tmp_path: Path, samples: Samples) -> None:
    store = open_store("perf", tmp_path)
    here = key_of(TEST, "w", {"gpu": "H100"}, 1)
    there = key_of(TEST, "w", {"gpu": "A100"}, 1)
    older = key_of(TEST, "w", {"gpu": "H100"}, 2)
    asked = {
        here: "2026-03-07T10:00:00Z",
        there: "2026-03-01T10:00:00Z",
        older: "2026-03-02T10:00:00Z",
        key_of("another", "w", {"gpu": "A100"}, 1): "2026-03-03T10:00:00Z",
        key_of(TEST, "v", {"gpu": "A100"}, 1): "2026-03-04T10:00:00Z",
        "made otherwise": "2026-03-05T10:00:00Z",
    }
    for number, (key, created) in enumerate(asked.items()):
        store.append(samples.observation(f"o{number}", key=key, created=created))
    store.append(samples.observation("new", key=there, created="2026-03-06T10:00:00Z"))
    assert [one.id for one in near(store, here)] == ["new", "o2"]
    assert near(store, "made otherwise") == []
    assert without_environment("made otherwise") is None


# --- where -----------------------------------------------------------------------------------


def test_a_directory_is_relative_absolute_or_at_home(
    tmp_path: Path, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    places = {"a/b/": "a/b", str(tmp_path / "c"): "c", "~/d": "home/d"}
    for where, path in places.items():
        open_store(where, tmp_path).append(samples.observation())
        assert list((tmp_path / path).rglob("*-o1.json"))


@pytest.mark.parametrize("where", ["", "  "])
def test_no_place_is_no_store(where: str, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="No store is named"):
        open_store(where, tmp_path)


# --- the schema ------------------------------------------------------------------------------


def objects(schema: Any, path: str = "$") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, value in schema.items() if isinstance(schema, dict) else []:
        if isinstance(value, dict):
            if value.get("type") == "object":
                yield f"{path}.{name}", value
            yield from objects(value, f"{path}.{name}")


def test_the_schema_is_one_and_describes_everything() -> None:
    schema = load_schema("baseline-v1")
    jsonschema.Draft202012Validator.check_schema(schema)
    found = dict(objects(schema))
    assert {"$.$defs.observation", "$.$defs.level", "$.$defs.profile"} <= set(found)
    for path, thing in found.items():
        rest = thing["additionalProperties"]
        assert rest is False or rest["description"] or "$ref" in rest, path
        assert set(thing.get("required", ())) == set(thing.get("properties", {})), path
        for name, field in thing.get("properties", {}).items():
            assert field.get("description") or "$ref" in field, f"{path}.{name}"


@pytest.mark.parametrize(
    ("name", "type_", "more"),
    [
        ("observation", Observation, {"kind", "schema_version"}),
        ("level", Level, {"kind", "schema_version"}),
        ("profile", NoiseProfile, {"kind", "schema_version"}),
        ("launch", LaunchValues, set()),
    ],
)
def test_records_and_schema_know_the_same_fields(
    name: str, type_: type[Any], more: set[str]
) -> None:
    known = set(load_schema("baseline-v1")["$defs"][name]["properties"])
    assert known == {field.name for field in fields(type_)} | more


def test_ids_are_accepted_and_never_equal(samples: Samples) -> None:
    ids = {new_id() for _ in range(100)}
    assert len(ids) == 100
    for id_ in ids:
        text = text_of(samples.observation(id_))
        assert record_of(text, "here") == samples.observation(id_)


@given(
    st.dictionaries(st.text(), st.floats(allow_nan=False, allow_infinity=False)),
    st.dictionaries(st.text(), SCALARS),
    st.text(),
)
def test_what_is_written_is_read(
    metrics: dict[str, float], facts: dict[str, Scalar], reason: str
) -> None:
    launch = LaunchValues(launch_id="l", started_at="2026-03-01T10:00:00Z", runs=1, metrics=metrics)
    observation = Observation(
        id="o",
        key="k",
        created="2026-03-01T10:00:00Z",
        test="t",
        workload="w",
        environment=facts,
        subject={},
        block=facts,
        launches=(launch,),
        runner=reason,
    )
    text = text_of(observation)
    assert record_of(text, "here") == observation
    assert text_of(observation) == text


# --- older versions --------------------------------------------------------------------------


def test_a_chain_of_steps_leads_to_today() -> None:
    def first(document: dict[str, Any]) -> dict[str, Any]:
        return document | {"steps": ["first"]}

    def second(document: dict[str, Any]) -> dict[str, Any]:
        return document | {"steps": [*document["steps"], "second"]}

    steps = {"0.8": ("0.9", first), "0.9": ("1.0", second)}
    old = {"schema_version": "0.8", "a": 1}
    new = migrated(old, "here", steps=steps, version="1.0")
    assert new == {"schema_version": "1.0", "a": 1, "steps": ["first", "second"]}
    assert old == {"schema_version": "0.8", "a": 1}
    assert migrated(new, "here", steps=steps, version="1.0") == new


def test_a_version_from_which_no_step_leads_is_said() -> None:
    for found in ("2.0", "1.999", "0.7", None, 1.0):
        told = rf"^here has schema_version .*reads 1\.0, .*{re.escape(VERSION)}: "
        with pytest.raises(StoreError, match=told) as caught:
            migrated({"schema_version": found}, "here")
        assert "install that one here too" in str(caught.value)


def test_a_store_of_the_first_version_is_read() -> None:
    for kind, new in (("observation", "judged"), ("level", "retired")):
        first = {"kind": kind, "schema_version": "1.0", "launches": []}
        assert migrated(first, "here")[new] == []
    for odd in ({"kind": ["level"]}, {}):
        assert migrated({**odd, "schema_version": "1.0"}, "here")["schema_version"] == VERSION


def test_every_chain_goes_up_and_ends_at_what_is_written() -> None:
    def number(version: str) -> tuple[int, ...]:
        return tuple(int(part) for part in version.split("."))

    for before, (after, _) in STEPS.items():
        assert number(before) < number(after) <= number(VERSION)
        assert after in STEPS or after == VERSION


def test_records_of_equal_content_have_equal_texts(samples: Samples) -> None:
    one = samples.observation(environment={"a": 1, "b": 2})
    other = replace(one, environment={"b": 2, "a": 1})
    assert text_of(one) == text_of(other)
