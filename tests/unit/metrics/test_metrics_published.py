from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pytest_llmperf.metrics import published, units
from pytest_llmperf.metrics.published import Asked, beside, comparable, entries
from pytest_llmperf.records import Accelerator, Device, Workload
from pytest_llmperf.schema import load_schema, schema_errors

WORKLOAD = Workload(
    name="chat",
    input_tokens=500,
    output_tokens=500,
    concurrency=16,
    requests=80,
    warmup_requests=0,
    runs=1,
)


def accelerator(product: str = "NVIDIA B200", count: int = 8) -> Accelerator:
    return Accelerator(
        devices=tuple(
            Device(vendor="nvidia", product=product, index=i, uuid=f"u{i}") for i in range(count)
        ),
        source="override",
    )


ASKED = Asked(
    model="deepseek-ai/DeepSeek-R1-0528",
    engine="sglang",
    accelerator=accelerator(),
    workload=WORKLOAD,
    input_tokens_mean=496.0,
    output_tokens_mean=509.0,
)


def test_the_data_match_their_schema() -> None:
    document = {"schema_version": "1.0", "as_of": "2026-11-22", "entries": list(entries())}
    assert schema_errors(document, "published-v1") == []
    assert load_schema("published-v1")["additionalProperties"] is False


def test_a_surplus_field_or_a_figure_of_nothing_is_refused() -> None:
    entry = dict(entries()[0])
    for broken in ({**entry, "more": 1}, {**entry, "figures": []}, {**entry, "date": "soon"}):
        document = {"schema_version": "1.0", "as_of": "2026", "entries": [broken]}
        assert schema_errors(document, "published-v1")


@pytest.mark.parametrize("entry", entries(), ids=lambda entry: str(entry["id"]))
def test_every_entry_is_of_our_words(entry: dict[str, Any]) -> None:
    assert entry["source"]["at"]
    for figure in entry["figures"]:
        if figure["metric"] is not None:
            assert units.row_of(units.resolve(figure["metric"]).name).unit == figure["unit"]
    if entry["workload"] is not None:
        assert entry["kind"] == "figure"
        assert entry["hardware"]["product"]
        assert all(figure["metric"] for figure in entry["figures"])
    if not entry["verified"]:
        assert entry["kind"] != "figure"


def test_identities_are_unique() -> None:
    names = [entry["id"] for entry in entries()]
    assert len(names) == len(set(names))


def test_the_same_of_the_same_is_set_beside() -> None:
    rows = beside({"output_throughput": 1590.6, "tpot_mean": 8.78, "ttft_p50": 1.0}, ASKED)
    assert [row["metric"] for row in rows] == ["output_throughput", "tpot_mean"]
    first = rows[0]
    assert first["value"] == 795.30
    assert first["ratio"] == pytest.approx(2.0)
    assert first["unit"] == "tok/s"
    assert first["verified"] is True
    assert "0.5.6.post1" in first["conditions"]
    assert rows[1]["ratio"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "other",
    [
        replace(ASKED, model="deepseek-ai/DeepSeek-R1"),
        replace(ASKED, model=None),
        replace(ASKED, engine="vllm"),
        replace(ASKED, accelerator=accelerator(count=4)),
        replace(ASKED, accelerator=accelerator("NVIDIA H200")),
        replace(ASKED, accelerator=accelerator("NVIDIA GB200")),
        replace(ASKED, input_tokens_mean=1000.0),
        replace(ASKED, output_tokens_mean=600.0),
        replace(ASKED, output_tokens_mean=None),
        replace(ASKED, workload=replace(WORKLOAD, concurrency=17)),
        replace(ASKED, workload=replace(WORKLOAD, concurrency=None, arrivals="poisson", rate=2.0)),
        replace(ASKED, workload=replace(WORKLOAD, turns=2)),
        replace(ASKED, workload=replace(WORKLOAD, shared_prefix_tokens=100)),
    ],
)
def test_anything_else_is_not(other: Asked) -> None:
    assert beside({"output_throughput": 1000.0}, other) == []


def test_a_local_copy_goes_by_its_name() -> None:
    assert beside({"output_throughput": 1.0}, replace(ASKED, model="/models/deepseek-r1-0528/"))


@pytest.mark.parametrize("measured", [{}, {"output_throughput": None}, {"output_throughput": 0.0}])
def test_what_was_not_measured_has_no_ratio(measured: dict[str, float | None]) -> None:
    assert beside(measured, ASKED) == []


def test_lengths_are_near_within_a_tenth_of_the_published_ones() -> None:
    entry = next(each for each in entries() if each["id"] == "sglang-0-5-6-b200-1k1k-x16")
    mean = entry["workload"]["input_tokens_mean"]
    for factor, near in [(0.901, True), (1.099, True), (0.899, False), (1.101, False)]:
        assert comparable(entry, replace(ASKED, input_tokens_mean=mean * factor)) is near
    assert published.LENGTHS_WITHIN == 0.1


@pytest.mark.parametrize("kind", ["ratio", "limit", "goal"])
def test_only_figures_are_compared_with(kind: str) -> None:
    entry = next(each for each in entries() if each["id"] == "sglang-0-5-6-b200-1k1k-x16")
    assert comparable(entry, ASKED)
    assert not comparable({**entry, "kind": kind}, ASKED)
