from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_llmperf.records import (
    Accelerator,
    ClientHealth,
    Device,
    LaunchRecord,
    MetricValue,
    Run,
    Verdict,
    VerdictWord,
    Workload,
)
from pytest_llmperf.report import document as doc
from pytest_llmperf.report.assembly import overall
from pytest_llmperf.report.schema import load_schema, schema_errors
from pytest_llmperf.report.validate import dangling

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples


def test_a_document_of_realistic_records_is_valid_and_whole(samples: Samples) -> None:
    document = samples.assemble(samples.fragment())
    assert schema_errors(document) == []
    assert list(dangling(document)) == []
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert document["verdict"] == "fail"


def test_an_empty_session_is_valid_and_has_no_verdict(samples: Samples) -> None:
    document = samples.assemble()
    assert schema_errors(document) == []
    assert document["verdict"] == "none"


def names(record: type) -> set[str]:
    return {field.name for field in dataclasses.fields(record)}


def schema_of(name: str) -> set[str]:
    return set(load_schema("report-v1")["$defs"][name]["properties"])


def dig(entry: Any, path: str) -> Any:
    for key in path.split("."):
        entry = entry[key]
    return entry


@pytest.mark.parametrize(
    ("record", "definition"),
    [
        (Workload, "workload"),
        (ClientHealth, "client"),
        (Device, "device"),
    ],
)
def test_flat_records_and_the_schema_have_the_same_fields(record: type, definition: str) -> None:
    assert names(record) == schema_of(definition)


def test_every_field_of_a_verdict_is_in_the_schema() -> None:
    assert schema_of("gate") == names(Verdict) | {
        "test", "measurement", "history", "part", "on",
    }  # fmt: skip


def test_every_field_of_a_launch_is_in_the_schema_here_or_at_its_server() -> None:
    of_server = {"server_id", "engine", "model", "version", "recipe"}
    assert names(LaunchRecord) == schema_of("launch") | of_server
    kept = {"engine", "model", "version", "recipe"}
    assert schema_of("server") == kept | {"id", "simulated", "launches", "part", "on"}


def test_every_field_of_an_accelerator_is_in_the_schema() -> None:
    # How many machines a device stands for is in "count".
    told = names(Accelerator) - {"covered"}
    assert schema_of("accelerator") == told | {"vendor", "product", "count"}


RUN_PATHS = {
    **{name: name for name in ("launch_id", "index", "seed", "started_at", "duration_s", "valid")},
    "invalid_reasons": "invalid_reasons",
    "metrics": "metrics",
    "sent": "requests.sent",
    "succeeded": "requests.succeeded",
    "failed": "requests.failed",
    "input_tokens_mean": "tokens.input_mean",
    "output_tokens_mean": "tokens.output_mean",
    "reasoning_tokens_mean": "tokens.reasoning_mean",
    "cached_tokens_total": "tokens.cached_total",
    "token_source": "tokens.source",
    "client": "client",
    "side": "side",
    "pair": "pair",
    "quality": "quality",
    "telemetry": "telemetry",
    "curves": "curves",
}
#: Records within the record, told as they are.
NESTED = ("quality", "telemetry", "curves")


def test_every_field_of_a_run_arrives(samples: Samples) -> None:
    assert names(Run) == set(RUN_PATHS)
    entry = samples.fragment()["measurements"][0]["runs"][0]
    for field, path in RUN_PATHS.items():
        found, given_ = dig(entry, path), getattr(samples.run, field)
        if field not in ("metrics", "client", "invalid_reasons", *NESTED):
            assert found == given_, field
    assert entry["client"] == dataclasses.asdict(samples.client)
    whole = json.loads(json.dumps(dataclasses.asdict(samples.run)))
    assert all(entry[name] == whole[name] is not None for name in NESTED)
    assert set(entry["metrics"]) == set(samples.run.metrics)


def test_metric_values_are_numbers_nulls_or_unbounded(samples: Samples) -> None:
    metrics = samples.fragment()["measurements"][0]["runs"][0]["metrics"]
    assert metrics["output_throughput"] == 1612.0
    assert metrics["itl_p50"] is None
    assert metrics["ttft_max"] is None
    assert metrics["ttft_p95"] == {"value": None, "unbounded": True, "failed": 8}


def test_secrets_do_not_arrive(samples: Samples) -> None:
    text = json.dumps(samples.assemble(samples.fragment()))
    for secret in ("sk-1", "hf_1", "me:pw", '"p"'):
        assert secret not in text
    launch = samples.assemble(samples.fragment())["servers"][0]["launches"][0]
    assert launch["env"] == {"HF_TOKEN": "***", "CUDA_VISIBLE_DEVICES": "0"}
    assert launch["args"]["tp_size"] == 1


def test_numpy_scalars_become_plain(samples: Samples) -> None:
    run = replace(samples.run, duration_s=np.float64(1.5), sent=np.int64(160))  # type: ignore[arg-type]
    entry = samples.fragment(run=run)["measurements"][0]["runs"][0]
    assert type(entry["duration_s"]) is float
    assert type(doc.plain(np.int64(3))) is int
    assert type(doc.plain(np.bool_(True))) is bool


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(json_like)
def test_plain_values_are_json_and_plain_again(value: object) -> None:
    text = json.dumps(doc.plain(value), allow_nan=False)
    assert doc.plain(json.loads(text)) == doc.plain(value)


@given(st.floats(), st.floats())
def test_non_finite_numbers_never_reach_json(samples: Samples, mean: float, value: float) -> None:
    run = replace(
        samples.run,
        input_tokens_mean=mean,
        duration_s=1.0,
        metrics={"output_throughput": MetricValue(value=value)},
    )
    json.dumps(samples.assemble(samples.fragment(run=run)), allow_nan=False)


# --- merging ---------------------------------------------------------------------------------


def test_fragments_of_several_workers_merge_without_doubles(samples: Samples) -> None:
    one, two = samples.fragment(), samples.fragment("tests/perf/test_r1.py::test_long")
    second_launch = replace(samples.launch, id="launch-2", version=None, failure="out of memory")
    two["launches"].append(doc.launch_entry(second_launch))
    document = samples.assemble(two, one, one)
    assert schema_errors(document) == []
    (server,) = document["servers"]
    assert [launch["id"] for launch in server["launches"]] == ["launch-1", "launch-2"]
    assert server["version"] == "0.5.23"
    assert len(document["measurements"]) == len(document["tests"]) == 2
    assert len(document["gates"]) == 4
    assert document["counts"]["launches"] == 2
    assert document["counts"]["gates"] == {
        "pass": 0,
        "fail": 2,
        "inconclusive": 0,
        "not_covered": 2,
    }


def test_a_rerun_cannot_launder_a_failed_gate(samples: Samples) -> None:
    first, again = samples.fragment(), samples.fragment()
    again["gates"][0] = {**again["gates"][0], "verdict": "pass"}
    again["tests"] = [doc.test_entry(samples.node, "passed", "", 1.0)]
    document = samples.assemble(first, again)
    assert document["gates"][0]["verdict"] == "fail"
    assert document["verdict"] == "fail"
    assert document["tests"][0]["outcome"] == "passed"


def test_the_simulator_is_labelled_everywhere(samples: Samples) -> None:
    document = samples.assemble(samples.fragment(launch=replace(samples.launch, engine="sim")))
    assert document["simulated"] is True
    assert document["servers"][0]["simulated"] is True
    assert document["measurements"][0]["simulated"] is True
    real = samples.assemble(samples.fragment())
    assert real["simulated"] is False
    assert real["measurements"][0]["simulated"] is False


@pytest.mark.parametrize(
    ("words", "outcome", "expected"),
    [
        (["pass", "fail", "inconclusive"], "slow", "fail"),
        (["pass", "inconclusive"], "passed", "inconclusive"),
        (["pass"], "passed", "pass"),
        (["pass"], "broken", "inconclusive"),
        ([], "could_not_measure", "inconclusive"),
        ([], "failed", "none"),
        (["fail"], "xfailed", "pass"),
    ],
)
def test_overall(
    samples: Samples, words: list[VerdictWord], outcome: doc.Outcome, expected: str
) -> None:
    tests = [doc.test_entry(samples.node, outcome, "", 1.0)]
    gates = [{"test": samples.node, "verdict": word} for word in words]
    assert overall(gates, tests) == expected


def test_what_was_sent_is_weighted_by_requests_and_unknown_where_unknown(samples: Samples) -> None:
    half = replace(samples.run, succeeded=76, output_tokens_mean=512.0, cached_tokens_total=None)
    sent = doc.measurement_entry("m", samples.node, "s", samples.workload, [samples.run, half], {})[
        "workload"
    ]["sent"]
    assert sent["requests"] == 320
    assert sent["output_tokens_mean"] == pytest.approx((152 * 1024 + 76 * 512) / 228)
    assert sent["reasoning_tokens_mean"] is None
    assert sent["cached_tokens_total"] is None
