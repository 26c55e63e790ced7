"""Every format, as its reader reads it."""

from __future__ import annotations

import csv
import json
import math
import re
import shlex
from collections.abc import Callable, Iterable
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics import parser

from pytest_llmperf.errors import ReportError, UsageMistake
from pytest_llmperf.inert import cleaned
from pytest_llmperf.metrics import units
from pytest_llmperf.report.exports import KINDS, export, split
from pytest_llmperf.report.exports.figures import figures, measurements, shortened

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

HOSTILE = 't.py::test_x[a|b`<script>@all\n::error::\x1b[31m\u202e"#1\\{}]'


@pytest.fixture
def document(samples: Samples) -> dict[str, Any]:
    return samples.measured()


def twice(document: dict[str, Any], **asked: Any) -> dict[str, Any]:
    """With a second measurement of the same test, of another load."""
    entry = deepcopy(document["measurements"][0])
    entry["id"] = "second"
    entry["workload"]["asked"] |= asked
    document["measurements"].append(entry)
    return document


def written(kind: str, document: dict[str, Any], path: Path) -> list[Path]:
    return export(kind, document, path, option="--llmperf-export")


def loaded(kind: str, document: dict[str, Any], folder: Path) -> Any:
    (path,) = written(kind, document, folder / "out.json")
    return json.loads(path.read_text(encoding="utf-8"))


# --- what is selected ------------------------------------------------------------------------


def test_references_are_left_to_their_own_reports(document: dict[str, Any]) -> None:
    twice(document)["measurements"][0]["reference"] = "second"
    assert [entry["id"] for _, entry in measurements(document)] == [
        document["measurements"][0]["id"]
    ]


def test_names_are_the_tests_and_tell_loads_apart_where_there_are_several(
    document: dict[str, Any],
) -> None:
    test = document["measurements"][0]["test"]
    assert [name for name, _ in measurements(document)] == [test]
    twice(document, concurrency=32)
    assert [name for name, _ in measurements(document)] == [
        f"{test} chat 1024/1024 x16",
        f"{test} chat 1024/1024 x32",
    ]
    document["measurements"][1]["workload"]["asked"]["concurrency"] = 16
    assert [name for name, _ in measurements(document)][1].endswith("x16 (2)")


def test_simulated_figures_say_so_in_their_name(document: dict[str, Any]) -> None:
    document["measurements"][0]["simulated"] = True
    ((name, _),) = measurements(document)
    assert name.endswith(" SIMULATED")


def test_charts_get_what_is_usual_or_gated(samples: Samples, document: dict[str, Any]) -> None:
    few = {figure.metric for figure in figures(document, all_metrics=False)}
    assert few == set(samples.figures) - {"ttft_mean", "peak_memory"}
    document["gates"][0]["metric"] = "peak_memory"
    assert "peak_memory" in {figure.metric for figure in figures(document, all_metrics=False)}
    assert {figure.metric for figure in figures(document, all_metrics=True)} == set(samples.figures)


@given(st.text())
def test_a_name_is_one_short_line_that_nothing_obeys(text: str) -> None:
    name = shortened(text)
    assert len(name.encode()) <= 240
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", name)
    assert shortened(name) == name


def test_long_names_stay_apart() -> None:
    assert shortened("x" * 5000) != shortened("x" * 5000 + "y")


def test_ansi_sequences_go_as_a_whole() -> None:
    assert cleaned("a\x1b[1;31mred\x1b[0m\x1b]0;title\x07b\u202ec") == "aredb\ufffdc"


# --- the command line ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("benchr:x", "Did you mean 'bencher'"),
        ("bencher", "bencher:PATH"),
        ("bencher:", "bencher:PATH"),
        (":x", "there is no export ''"),
    ],
)
def test_what_cannot_be_meant_is_said(text: str, said: str) -> None:
    with pytest.raises(UsageMistake, match=re.escape(said)):
        split(text, "--llmperf-export")


def test_a_path_may_hold_colons() -> None:
    assert split("bencher:C:/x", "--llmperf-export") == ("bencher", "C:/x")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_a_report_without_anything(
    kind: str, samples: Samples, tmp_path: Path
) -> None:
    written(kind, samples.assemble(), tmp_path / "x")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_takes_hostile_names(kind: str, samples: Samples, tmp_path: Path) -> None:
    paths = written(kind, samples.measured(HOSTILE), tmp_path / "x")
    assert paths
    for path in paths:
        text = path.read_text(encoding="utf-8")
        assert "\x1b" not in text
        assert "\u202e" not in text


@pytest.mark.parametrize("kind", KINDS)
def test_a_place_that_refuses_is_said(kind: str, document: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match=f"{kind}|cannot be gone on|would be lost"):
        written(kind, document, tmp_path / "file" / "below")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# --- Bencher ---------------------------------------------------------------------------------


def test_bencher_has_values_with_their_bounds(document: dict[str, Any], tmp_path: Path) -> None:
    document["measurements"][0]["summary"]["ttft_p95"] |= {"ci_low": None, "ci_high": None}
    (measures,) = loaded("bencher", document, tmp_path).values()
    assert measures["output_throughput"] == {
        "value": 1600.0,
        "lower_value": 1500.0,
        "upper_value": 1700.0,
    }
    assert measures["ttft_p95"] == {"value": 310.0}


# --- github-action-benchmark -----------------------------------------------------------------


def test_directions_never_share_a_file(document: dict[str, Any], tmp_path: Path) -> None:
    bigger, smaller = written("github-action-benchmark", document, tmp_path / "bench.json")
    assert (bigger.name, smaller.name) == ("bench.bigger.json", "bench.smaller.json")
    up, down = (json.loads(path.read_text()) for path in (bigger, smaller))
    assert {entry["name"].rsplit(" ", 1)[-1] for entry in up} == {
        "output_throughput",
        "success_rate",
    }
    assert {entry["unit"] for entry in down} == {"ms"}
    for entry in (*up, *down):
        metric = entry["name"].rsplit(" ", 1)[-1]
        assert (entry in up) is (units.row_of(metric).direction == "higher")


def test_a_range_is_told_as_it_is(document: dict[str, Any], tmp_path: Path) -> None:
    paths = written("github-action-benchmark", document, tmp_path / "b.json")
    entries = [entry for path in paths for entry in json.loads(path.read_text())]
    ranges = {entry["name"].rsplit(" ", 1)[-1]: entry["range"] for entry in entries}
    assert ranges["output_throughput"] == "± 100"
    assert ranges["ttft_p95"] == "300 to 330"


# --- pytest-benchmark ------------------------------------------------------------------------


def test_pytest_benchmark_is_told_seconds_and_rates(
    document: dict[str, Any], tmp_path: Path
) -> None:
    found = loaded("pytest-benchmark", document, tmp_path)
    stats = {each["group"]: each["stats"] for each in found["benchmarks"]}
    assert stats["ttft_p95"]["mean"] == pytest.approx(0.310)
    assert stats["ttft_p95"]["data"] == pytest.approx([0.300, 0.310, 0.320])
    assert stats["output_throughput"]["ops"] == pytest.approx(1600.0)
    assert stats["output_throughput"]["min"] == pytest.approx(1 / 1700.0)
    assert "success_rate" not in stats, "neither a time nor a rate"
    for each in stats.values():
        assert each["min"] <= each["q1"] <= each["median"] <= each["q3"] <= each["max"]
        assert each["rounds"] == 3


def test_one_run_has_no_spread(document: dict[str, Any], tmp_path: Path) -> None:
    del document["measurements"][0]["runs"][1:]
    (stats, *_) = (
        each["stats"] for each in loaded("pytest-benchmark", document, tmp_path)["benchmarks"]
    )
    assert (stats["stddev"], stats["iqr"], stats["rounds"]) == (0.0, 0.0, 1)


# --- OpenMetrics -----------------------------------------------------------------------------


#: The consumer's own; it comes without types.
_families: Callable[[str], Iterable[Any]] = parser.text_string_to_metric_families


def parsed(text: str) -> dict[str, Any]:
    return {family.name: family for family in _families(text)}


def test_openmetrics_are_in_base_units(document: dict[str, Any], tmp_path: Path) -> None:
    (path,) = written("openmetrics", document, tmp_path / "m.txt")
    families = parsed(path.read_text())
    values = {name: family.samples[0].value for name, family in families.items() if family.samples}
    assert values["llmperf_ttft_p95_seconds"] == pytest.approx(0.310)
    assert values["llmperf_ttft_p95_low_seconds"] == pytest.approx(0.300)
    assert values["llmperf_peak_memory_bytes"] == 20 * 2**30
    assert families["llmperf_output_throughput_tokens_per_second"].unit == "tokens_per_second"
    assert (
        "higher is better" in families["llmperf_output_throughput_tokens_per_second"].documentation
    )


def test_openmetrics_tell_each_gates_state(document: dict[str, Any], tmp_path: Path) -> None:
    (path,) = written("openmetrics", document, tmp_path / "m.txt")
    states = {
        (sample.labels["metric"], sample.labels["llmperf_gate"]): sample.value
        for sample in parsed(path.read_text())["llmperf_gate"].samples
    }
    assert states["output_throughput", "fail"] == 1
    assert states["output_throughput", "pass"] == 0
    assert states["ttft_p95", "inconclusive"] == 1


@given(st.text())
def test_any_name_makes_valid_openmetrics(samples: Samples, text: str) -> None:
    from pytest_llmperf.report.exports.openmetrics import render

    families = parsed(render(samples.measured(f"t.py::test_x[{text}]")))
    (sample,) = families["llmperf_ttft_p50_seconds"].samples
    assert sample.labels["benchmark"] == shortened(f"t.py::test_x[{text}]")


# --- GitLab ----------------------------------------------------------------------------------


def as_gitlab(text: str) -> dict[str, str]:
    """What GitLab's parser makes of it, which cuts at "#" and splits as a shell does."""
    lines = (shlex.split(re.sub(r"#.*$", "", line)) for line in text.splitlines())
    return {name: values[0] for name, *values in filter(None, lines)}


def test_gitlab_reads_a_line_a_figure(document: dict[str, Any], tmp_path: Path) -> None:
    (path,) = written("gitlab", document, tmp_path / "metrics.txt")
    read = as_gitlab(path.read_text())
    name = f"{{test={document['measurements'][0]['test']}}}"
    assert read[f"output_throughput_tokens_per_second{name}"] == "1600"
    assert read[f"gate_floor_output_throughput{name}"] == "0"


def test_gitlab_is_told_of_no_change_where_a_failure_was_expected(
    document: dict[str, Any], tmp_path: Path
) -> None:
    document["tests"][0]["outcome"] = "xfailed"
    (path,) = written("gitlab", document, tmp_path / "metrics.txt")
    name = f"{{test={document['measurements'][0]['test']}}}"
    assert as_gitlab(path.read_text())[f"gate_floor_output_throughput{name}"] == "1"


def test_gitlab_reads_hostile_names_whole(samples: Samples, tmp_path: Path) -> None:
    (path,) = written("gitlab", samples.measured(HOSTILE), tmp_path / "metrics.txt")
    text = path.read_text()
    assert len(as_gitlab(text)) == len(text.splitlines())
    assert all(math.isfinite(float(value)) for value in as_gitlab(text).values())


def test_gitlab_figures_do_not_change_by_noise_of_the_last_digits(
    document: dict[str, Any], tmp_path: Path
) -> None:
    (path,) = written("gitlab", document, tmp_path / "metrics.txt")
    before = path.read_text()
    document["measurements"][0]["summary"]["output_throughput"]["value"] = 1600.04
    written("gitlab", document, tmp_path / "metrics.txt")
    assert path.read_text() == before


# --- llm-d -----------------------------------------------------------------------------------


def test_llmd_has_a_file_for_each_measurement(document: dict[str, Any], tmp_path: Path) -> None:
    paths = written("llmd", twice(document, concurrency=32), tmp_path / "llmd")
    assert len(paths) == 2
    found = [json.loads(path.read_text()) for path in paths]
    assert [each["scenario"]["load"]["standardized"]["concurrency"] for each in found] == [16, 32]


def test_llmd_is_in_seconds_and_its_own_words(document: dict[str, Any], tmp_path: Path) -> None:
    (path,) = written("llmd", document, tmp_path / "llmd")
    found = json.loads(path.read_text())
    assert set(found) == {"version", "run", "scenario", "results"}
    assert found["version"] == "0.2.1"
    assert isinstance(found["run"]["uid"], str)
    aggregate = found["results"]["request_performance"]["aggregate"]
    assert aggregate["latency"]["time_to_first_token"] == {
        "units": "s",
        "mean": pytest.approx(0.190),
        "p50": pytest.approx(0.180),
        "p95": pytest.approx(0.310),
    }
    assert aggregate["latency"]["time_per_output_token"]["units"] == "s/token"
    assert aggregate["throughput"] == {"output_token_rate": {"units": "tokens/s", "mean": 1600.0}}
    assert aggregate["requests"]["total"] == 480
    assert aggregate["requests"]["failures"] == 24
    engine = found["scenario"]["stack"][0]["standardized"]
    assert (engine["kind"], engine["tool"], engine["accelerator"]["count"]) == (
        "inference_engine",
        "sglang",
        1,
    )
    assert "sk-1" not in path.read_text(), "what the report hides stays hidden"


# --- SGLang, PyTorch -------------------------------------------------------------------------


def test_sglang_dump_has_the_fields_of_its_schema(document: dict[str, Any], tmp_path: Path) -> None:
    document["measurements"][0]["test"] = "tests/t.py::TestA::test_b[1-2]"
    (path,) = written("sglang-dump", document, tmp_path / "m.jsonl")
    records = [json.loads(line) for line in path.read_text().splitlines()]
    first = records[0]
    assert (first["filename"], first["test_case"]) == ("tests/t.py", "TestA.test_b[1-2]")
    assert first["ts"] == datetime.fromisoformat(document["created"]).timestamp()
    by_name = {record["metric_name"]: record for record in records}
    assert by_name["output_throughput"]["value"] == 1600.0
    assert by_name["output_throughput"]["labels"]["unit"] == "tok/s"
    assert by_name["verdict.floor.output_throughput"]["value"] == "fail"
    assert all(isinstance(record["value"], int | float | str) for record in records)


def test_pytorch_oss_maps_hold_texts_only(document: dict[str, Any], tmp_path: Path) -> None:
    records = loaded("pytorch-oss", document, tmp_path)
    for record in records:
        for part in ("benchmark", "model", "metric"):
            assert all(isinstance(value, str) for value in record[part]["extra_info"].values())
        for runner in record["runners"]:
            assert runner["gpu_count"] == 1
            assert runner["avail_gpu_mem_in_gb"] == 24
    by_name = {record["metric"]["name"]: record["metric"] for record in records}
    assert by_name["output_throughput"]["benchmark_values"] == [1500.0, 1600.0, 1700.0]
    assert by_name["output_throughput"]["target_value"] == 1800.0
    assert "target_value" not in by_name["ttft_p50"]


# --- Otava -----------------------------------------------------------------------------------


def nights(document: dict[str, Any], folder: Path, count: int) -> None:
    for night in range(count):
        document["created"] = f"2026-11-{night + 1:02}T10:00:00+00:00"
        document["measurements"][0]["summary"]["ttft_p50"]["value"] = 180.0 + night
        written("otava", document, folder)


def test_otava_gets_a_history(document: dict[str, Any], tmp_path: Path) -> None:
    nights(document, tmp_path, 3)
    written("otava", document, tmp_path)
    (path,) = tmp_path.glob("*.csv")
    rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    assert [row["ttft_p50"] for row in rows] == ["180.0", "181.0", "182.0"]
    assert [row["time"] for row in rows] == sorted(row["time"] for row in rows)
    (test,) = json.loads((tmp_path / "otava.yaml").read_text())["tests"].values()
    assert test["file"] == str(path)
    assert test["metrics"]["ttft_p50"]["direction"] == -1
    assert test["metrics"]["output_throughput"]["direction"] == 1
    assert set(test["attributes"]) < set(rows[0])


def test_otava_is_not_told_of_metrics_with_holes(document: dict[str, Any], tmp_path: Path) -> None:
    nights(document, tmp_path, 2)
    document["created"] = "2026-11-09T10:00:00+00:00"
    del document["measurements"][0]["summary"]["ttft_p95"]
    written("otava", document, tmp_path)
    (test,) = json.loads((tmp_path / "otava.yaml").read_text())["tests"].values()
    assert "ttft_p95" not in test["metrics"]
    assert "ttft_p50" in test["metrics"]


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "time\n", "\x00"])
def test_otava_does_not_take_files_of_others(
    document: dict[str, Any], tmp_path: Path, text: str
) -> None:
    nights(document, tmp_path, 1)
    (path,) = tmp_path.glob("*.csv")
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ReportError, match="would be lost"):
        written("otava", document, tmp_path)
    assert path.read_text() == "a,b\n1,2\n"
    path.unlink()
    (tmp_path / "otava.yaml").write_text(text)
    with pytest.raises(ReportError, match=r"otava\.yaml.*would be lost"):
        written("otava", document, tmp_path)
    assert (tmp_path / "otava.yaml").read_text() == text
