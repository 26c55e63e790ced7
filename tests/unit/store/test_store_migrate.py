"""Documents of every version that was ever written are read as of today's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.records import Judged, Observation
from pytest_llmperf.store.documents import record_of, text_of
from pytest_llmperf.store.migrate import STEPS, VERSION

if TYPE_CHECKING:
    from tests.unit.store.conftest import Samples

Document = dict[str, Any]


def _before_parts(document: Document) -> None:
    del document["part_of"]


def _before_pairs(document: Document) -> None:
    _before_parts(document)
    for judged in document["judged"]:
        for name in ("pairs", "before", "ended"):
            del judged[name]


def _before_outputs(document: Document) -> None:
    _before_pairs(document)
    for launch in document["launches"]:
        del launch["outputs"]


def _before_judged(document: Document) -> None:
    _before_outputs(document)
    del document["judged"]


OLDER: dict[str, Callable[[Document], None]] = {
    "1.3": _before_parts,
    "1.2": _before_pairs,
    "1.1": _before_outputs,
    "1.0": _before_judged,
}


@pytest.mark.parametrize("version", OLDER)
def test_an_old_observation_is_read(samples: Samples, version: str) -> None:
    plain = Judged(kind="regression", metric="ttft_p50", verdict="pass", sequence="s")
    today = replace(samples.observation(), judged=(plain,))
    today = replace(today, launches=tuple(replace(launch, outputs=()) for launch in today.launches))
    document = json.loads(text_of(today)) | {"schema_version": version}
    OLDER[version](document)
    read = record_of(json.dumps(document), "here")
    assert isinstance(read, Observation)
    assert read == (replace(today, judged=()) if version == "1.0" else today)


def test_an_old_profile_is_read(samples: Samples) -> None:
    profile = samples.profile()
    document = json.loads(text_of(profile)) | {"schema_version": "1.2"}
    for name in ("startup_s", "measure_s"):
        del document[name]
    assert record_of(json.dumps(document), "here") == profile


def test_pairs_come_back_as_they_went(samples: Samples) -> None:
    judged = Judged(
        kind="regression", metric="ttft_p50", verdict="fail", sequence="s",
        pairs=((1.5, 2.0), (1.25, 3.0)), before=4, ended=True,
    )  # fmt: skip
    observation = replace(samples.observation(), judged=(judged,))
    assert record_of(text_of(observation), "here") == observation


def test_every_version_is_tried_here() -> None:
    assert set(STEPS) == set(OLDER)
    assert VERSION not in OLDER
