"""What every store does, whatever it is kept in."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.records import Observation
from pytest_llmperf.store import Store, StoreError, migrate
from pytest_llmperf.store.documents import text_of

if TYPE_CHECKING:
    from tests.unit.store.conftest import Place, Samples

KEYS = [
    "plain-key.0123456789.abcdef0123",
    "tests/perf/test_chat.py::test_speed[a/b]",
    "größe/✓ 速度",
    "UPPER",
    "upper",
    "..",
    ".",
    "levels",
    "a" * 400,
    "with space",
    "with-space",
    "it's; DROP TABLE observations --",
]


def test_an_empty_store_is_empty(store: Store) -> None:
    assert store.observations() == store.observations("k") == []
    assert store.levels() == store.levels("k") == []
    assert store.profile("k") is None
    assert store.keys() == []
    assert store.prune(lambda _: False) == 0


def test_what_is_appended_is_read_back_by_another(
    place: Place, store: Store, samples: Samples
) -> None:
    observation = samples.observation()
    store.append(observation)
    store.close()
    another = place.open()
    assert another.observations() == [observation]
    assert another.observations(observation.key) == [observation]
    assert another.observations("another") == []
    another.close()


def test_the_oldest_comes_first(store: Store, samples: Samples) -> None:
    times = {
        "third": "2026-03-01T10:00:01+00:00",
        "first": "2026-03-01T11:59:59.9+02:00",
        "second-b": "2026-03-01T10:00:00.5+00:00",
        "second-a": "2026-03-01T10:00:00.5Z",
    }
    for id_, created in times.items():
        store.append(samples.observation(id_, created=created))
    ids = [observation.id for observation in store.observations()]
    assert ids == ["first", "second-a", "second-b", "third"]


def test_the_same_observation_twice_is_kept_once(store: Store, samples: Samples) -> None:
    store.append(samples.observation())
    store.append(samples.observation())
    assert store.observations() == [samples.observation()]


@pytest.mark.parametrize(
    "changed",
    [
        {"verdict": "fail"},
        {"created": "2026-04-01T10:00:00+00:00"},
        {"key": "another"},
        {"commit": "fedcba"},
    ],
)
def test_an_id_is_not_given_to_other_content(
    store: Store, samples: Samples, changed: Mapping[str, Any]
) -> None:
    store.append(samples.observation())
    with pytest.raises(StoreError, match="The id 'o1' is taken by another observation"):
        store.append(samples.observation(**changed))
    assert store.observations() == [samples.observation()]


def test_ids_that_end_alike_are_told_apart(store: Store, samples: Samples) -> None:
    store.append(samples.observation("a-1"))
    store.append(samples.observation("1"))
    assert [observation.id for observation in store.observations()] == ["1", "a-1"]


def test_any_key_will_do(store: Store, samples: Samples) -> None:
    for number, key in enumerate(KEYS):
        store.append(samples.observation(f"o{number}", key=key))
        store.accept(samples.level(f"v{number}", key=key, observations=(f"o{number}",)))
        store.save_profile(samples.profile(key=key))
    assert store.keys() == sorted(KEYS)
    for number, key in enumerate(KEYS):
        (observation,) = store.observations(key)
        (level,) = store.levels(key)
        profile = store.profile(key)
        assert (observation.id, level.id) == (f"o{number}", f"v{number}")
        assert profile is not None
        assert profile.key == key


def test_any_text_will_do(store: Store, samples: Samples) -> None:
    odd = 'a\n"b" \\ \t \x01 \u2028 ü 速度 🐌 ]]> %s {x} $1'
    observation = samples.observation(
        test=odd,
        runner=f"../{odd}",
        subject={odd: [odd, {odd: None}], "big": 10**30, "small": 5e-324, "third": 1 / 3},
        environment={odd: odd},
        commit="../../x",
    )
    store.append(observation)
    store.accept(samples.level(reason=odd, author=odd))
    assert store.observations() == [observation]
    assert store.levels() == [samples.level(reason=odd, author=odd)]


def test_secrets_of_the_subject_are_hidden(store: Store, samples: Samples) -> None:
    store.append(samples.observation(subject={"api_key": "sk-1", "url": "http://me:pw@host/"}))
    (kept,) = store.observations()
    assert kept.subject == {"api_key": "***", "url": "http://***@host/"}


# --- levels and profiles ---------------------------------------------------------------------


def test_the_newest_level_holds_and_the_older_stay(store: Store, samples: Samples) -> None:
    store.append(samples.observation())
    older = samples.level()
    newer = samples.level("v2", created="2026-03-02T10:00:00.000001+00:00")
    store.accept(older)
    store.accept(newer)
    assert store.levels(older.key) == store.levels() == [older, newer]


@pytest.mark.parametrize("created", ["2026-03-01T10:00:00+00:00", "2026-03-02T10:00:00Z"])
def test_a_level_that_would_not_hold_is_refused(
    store: Store, samples: Samples, created: str
) -> None:
    store.append(samples.observation())
    store.accept(samples.level())
    with pytest.raises(StoreError, match="A clock is wrong"):
        store.accept(samples.level("v2", created=created))
    assert store.levels() == [samples.level()]


def test_accepting_twice_is_accepting_once(store: Store, samples: Samples) -> None:
    store.append(samples.observation())
    later = samples.level("v2", created="2026-03-09T10:00:00+00:00")
    for level in (samples.level(), samples.level(), later, samples.level()):
        store.accept(level)
    assert store.levels() == [samples.level(), later]
    with pytest.raises(StoreError, match="taken"):
        store.accept(replace(later, reason="another", created="2026-03-10T10:00:00+00:00"))


def test_a_level_rests_on_what_is_kept(store: Store, samples: Samples) -> None:
    store.append(samples.observation())
    store.append(samples.observation("o2", key="another"))
    with pytest.raises(StoreError, match=r"not kept under .*: o2, o3\. Append them first"):
        store.accept(samples.level(observations=("o1", "o2", "o3")))
    with pytest.raises(StoreError, match=r"\$\.observations: "):
        store.accept(samples.level(observations=()))
    assert store.levels() == []


def test_the_newest_profile_is_the_profile(store: Store, samples: Samples) -> None:
    store.save_profile(samples.profile())
    store.save_profile(samples.profile())
    newer = samples.profile(pair_df=9, created="2026-03-04T10:00:00+00:00")
    store.save_profile(newer)
    assert store.profile(newer.key) == newer
    assert store.profile("another") is None
    with pytest.raises(StoreError, match="A clock is wrong"):
        store.save_profile(samples.profile(pair_df=3))


def test_pruning_leaves_what_any_level_rests_on(store: Store, samples: Samples) -> None:
    for number in range(6):
        store.append(samples.observation(f"o{number}"))
    store.append(samples.observation("other", key="another"))
    store.accept(samples.level(observations=("o0",)))
    store.accept(
        samples.level("v2", created="2026-03-05T10:00:00+00:00", observations=("o1", "o2"))
    )
    assert store.prune(lambda observation: observation.id == "o5") == 3
    assert [one.id for one in store.observations()] == ["o0", "o1", "o2", "o5"]
    assert store.keys() == [samples.level().key]
    assert store.prune(lambda observation: observation.id == "o5") == 0


# --- launches one by one ---------------------------------------------------------------------


def part(samples: Samples, number: int, *, of: str = "o1", **changed: Any) -> Observation:
    """One launch of a session that goes on."""
    return samples.observation(
        f"{of}.l{number}",
        part_of=of,
        created=f"2026-03-01T09:5{number}:00+00:00",
        launches=(samples.launch(f"l{number}", 1600.0 + number),),
        gates=(),
        verdict=None,
        **changed,
    )


def test_launches_of_a_session_that_never_ended_are_one_observation(
    place: Place, store: Store, samples: Samples
) -> None:
    for number in (1, 2):
        store.append(part(samples, number))
    store.append(part(samples, 3, of="o2"))
    whole = replace(
        part(samples, 1),
        id="o1",
        part_of=None,
        launches=(samples.launch("l1", 1601.0), samples.launch("l2", 1602.0)),
    )
    another = place.open()
    assert another.observations()[0] == another.observations(whole.key)[0] == whole
    assert [len(one.launches) for one in another.observations()] == [2, 1]
    assert another.keys() == [whole.key]
    another.close()


def test_the_whole_takes_the_place_of_its_parts(store: Store, samples: Samples) -> None:
    store.append(part(samples, 1))
    store.append(part(samples, 2))
    store.append(part(samples, 1, of="o11"))
    store.append(part(samples, 1, of="o2", key="another"))
    store.append(samples.observation())
    assert [one.id for one in store.observations(samples.level().key)] == ["o11", "o1"]
    assert samples.observation() in store.observations()
    assert [one.id for one in store.observations("another")] == ["o2"]
    assert store.prune(lambda _: False) == 3
    assert store.observations() == []


def test_a_part_that_outlived_its_whole_does_not_count_twice(
    store: Store, samples: Samples
) -> None:
    store.append(samples.observation())
    store.append(part(samples, 1))  # as if it had been killed between the two
    assert store.observations() == [samples.observation()]


def test_a_level_may_rest_on_a_session_that_never_ended(store: Store, samples: Samples) -> None:
    store.append(part(samples, 1))
    store.append(part(samples, 1, of="o2"))
    store.accept(samples.level())
    assert store.prune(lambda _: False) == 1
    assert [one.id for one in store.observations()] == ["o1"]
    store.append(part(samples, 2))
    assert [len(one.launches) for one in store.observations()] == [2]


# --- what must not be there ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"launches": ()}, r"\$\.launches: "),
        ({"verdict": "red"}, r"\$\.verdict: "),
        ({"created": "yesterday"}, r"\$\.created: "),
        ({"created": "2026-13-01T10:00:00+00:00"}, "names a time that is none"),
        ({"created": "2026-03-01T10:00:00"}, r"\$\.created: "),
        ({"environment": {"x": float("nan")}}, "JSON cannot hold"),
        ({"subject": {"x": object()}}, "JSON cannot hold"),
        ({"test": "\ud800"}, "JSON cannot hold"),
        ({"key": ""}, r"\$\.key: "),
        ({"id_": "../x"}, r"\$\.id: "),
    ],
)
def test_a_record_that_is_none_is_not_kept(
    store: Store, samples: Samples, changed: dict[str, Any], told: str
) -> None:
    with pytest.raises(StoreError, match=told):
        store.append(samples.observation(**changed))
    assert store.observations() == []


def test_a_metric_must_be_finite(store: Store, samples: Samples) -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(StoreError, match="JSON cannot hold"):
            store.append(samples.observation(launches=(samples.launch("l1", value),)))
    assert store.keys() == []


def test_a_subject_is_kept_the_same_on_every_machine(
    samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = {"args": {"model": "/m/deepseek-r1-serving", "api_key": "x"}}
    monkeypatch.setenv("DEPLOY_KEY", "deepseek-r1-serving")
    kept = json.loads(text_of(samples.observation(subject=subject)))["subject"]
    assert kept == {"args": {"model": "/m/deepseek-r1-serving", "api_key": "***"}}


def _without(document: dict[str, Any], name: str) -> dict[str, Any]:
    return {field: value for field, value in document.items() if field != name}


def test_a_document_that_is_none_is_an_error(place: Place, store: Store, samples: Samples) -> None:
    store.append(samples.observation())
    good = json.loads(text_of(samples.observation()))
    bad = {
        r"\$: 'workload' is a required property": _without(good, "workload"),
        r"\$: Additional properties": good | {"surplus": 1},
        r"\$\.kind: ": good | {"kind": "opinion"},
        "is a required property": _without(good, "kind"),
        "holds no JSON object": [good],
        "belongs elsewhere": good | {"key": "another"},
        "holds the level of": json.loads(text_of(samples.level("o1"))),
        "schema_version '2.0', and this .* reads 1.0,": good | {"schema_version": "2.0"},
        "schema_version None": _without(good, "schema_version"),
        "schema_version": good | {"schema_version": ["1.0"]},
    }
    for told, document in bad.items():
        place.overwrite("o1", json.dumps(document))
        with pytest.raises(StoreError, match=told) as caught:
            store.observations()
        assert "o1" in str(caught.value)
        with pytest.raises(StoreError, match=told):
            store.prune(lambda _: False)
    place.overwrite("o1", text_of(samples.observation()))
    assert store.observations() == [samples.observation()]


@pytest.mark.parametrize(
    "text", ["", "{", '{"kind": NaN}', '{"a": 1e999}', "<<<<<<< HEAD\n{}\n", "[" * 100_000]
)
def test_what_is_no_json_is_an_error(
    place: Place, store: Store, samples: Samples, text: str
) -> None:
    store.append(samples.observation())
    if place.strict and text != '{"a": 1e999}':
        with pytest.raises(RuntimeError, match=r"type json|stack depth"):
            place.overwrite("o1", text)
        return
    place.overwrite("o1", text)
    with pytest.raises(StoreError, match=r"is empty|is no JSON"):
        store.observations()


def test_older_documents_are_read_as_today_s(
    place: Place, store: Store, samples: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.append(samples.observation())
    old = json.loads(text_of(samples.observation())) | {"schema_version": "0.9"}
    old["machine"] = old.pop("runner")
    place.overwrite("o1", json.dumps(old))
    with pytest.raises(StoreError, match=r"0\.9"):
        store.observations()

    def renamed(document: dict[str, Any]) -> dict[str, Any]:
        return _without(document, "machine") | {"runner": document["machine"]}

    monkeypatch.setattr(migrate, "STEPS", {"0.9": (migrate.VERSION, renamed)})
    assert store.observations() == [samples.observation()]
    store.append(samples.observation())
    assert store.observations() == [samples.observation()]


# --- several at once -------------------------------------------------------------------------

_WRITER = """
import json, sys
from pathlib import Path
from pytest_llmperf.store import open_store
from pytest_llmperf.store.documents import record_of
store = open_store(sys.argv[1], Path(sys.argv[2]))
print("ready", flush=True)
for text in json.loads(sys.stdin.readline()):
    store.append(record_of(text, "stdin"))
store.close()
"""

_HOLDER = """
import sys
from pathlib import Path
from pytest_llmperf.store import open_store
store = open_store(sys.argv[1], Path(sys.argv[2]))
def keep(observation):
    print("held", flush=True)
    sys.stdin.readline()
    return True
store.prune(keep)
"""


def _child(place: Place, code: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, place.where, str(place.directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _append_at_once(place: Place, batches: Sequence[Sequence[Observation]]) -> None:
    writers = [_child(place, _WRITER) for _ in batches]
    for writer in writers:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "ready\n"
    for writer, batch in zip(writers, batches, strict=True):
        assert writer.stdin is not None
        writer.stdin.write(json.dumps([text_of(one) for one in batch]) + "\n")
        writer.stdin.flush()
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0


def test_two_processes_lose_nothing(place: Place, store: Store, samples: Samples) -> None:
    batches = [[samples.observation(f"{who}{n}") for n in range(50)] for who in ("left", "right")]
    _append_at_once(place, batches)
    assert {one.id for one in store.observations()} == {one.id for b in batches for one in b}
    assert len(store.observations()) == 100


def test_two_processes_that_write_the_same_write_it_once(
    place: Place, store: Store, samples: Samples
) -> None:
    batch = [samples.observation(f"o{n}") for n in range(20)]
    _append_at_once(place, [batch, batch])
    assert len(store.observations()) == 20


def test_nothing_is_accepted_while_another_prunes(
    place: Place, store: Store, samples: Samples
) -> None:
    store.append(samples.observation())
    pruner = _child(place, _HOLDER)
    assert pruner.stdout is not None
    assert pruner.stdout.readline() == "held\n"
    accepted = threading.Thread(target=store.accept, args=(samples.level(),))
    accepted.start()
    accepted.join(0.3)
    assert accepted.is_alive()
    pruner.communicate("\n")
    assert pruner.returncode == 0
    accepted.join()
    assert store.levels() == [samples.level()]
