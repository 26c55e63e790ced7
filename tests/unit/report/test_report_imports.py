"""Results of other tools, from files as they write them (some recorded, see benchmarks)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pytest_llmperf.errors import ReportError, UsageMistake
from pytest_llmperf.report.html import page
from pytest_llmperf.report.imports import read
from pytest_llmperf.report.imports.document import Told, foreign_report
from pytest_llmperf.report.imports.found import Found
from pytest_llmperf.report.schema import schema_errors
from pytest_llmperf.report.validate import dangling, unknown

RECORDED = Path(__file__).parents[1] / "benchmarks" / "recorded"
EVERY = (
    "aiperf.json",
    "guidellm.json",
    "guidellm_none.json",
    "guidellm_open_loop.json",
    "sglang_python.jsonl",
    "sglang_rust.jsonl",
    "sglang_rust_none.jsonl",
    "vllm_bench.json",
    "vllm_bench_none.json",
)


def one(name: str) -> Found:
    (found,) = read(RECORDED / name)
    return found


def changed(name: str, tmp_path: Path, **fields: Any) -> Found:
    data = json.loads((RECORDED / name).read_text())
    path = tmp_path / name
    path.write_text(json.dumps({**data, **fields}))
    (found,) = read(path)
    return found


def report(*names: str, **told: Any) -> dict[str, Any]:
    return foreign_report(
        [(RECORDED / name, read(RECORDED / name)) for name in names],
        Told(test="t.py::test_a", **told),
        command=["pytest-llmperf", "import"],
        created="2026-11-20T10:05:00+00:00",
        tool_version="0.1.0",
    )


@pytest.mark.parametrize("name", EVERY)
def test_every_file_makes_a_valid_report_that_says_whose_it_is(name: str) -> None:
    document = report(name)
    assert schema_errors(document) == []
    assert [*dangling(document), *unknown(document)] == []
    assert document["foreign"]["files"] == [str(RECORDED / name)]
    assert document["foreign"]["notes"]
    assert document["verdict"] == "none"


@pytest.mark.parametrize("name", EVERY)
def test_what_nobody_told_is_not_made_up(name: str) -> None:
    document = report(name)
    (entry,) = document["measurements"]
    asked, (run,) = entry["workload"]["asked"], entry["runs"]
    assert {asked[each] for each in ("seed", "temperature", "warmup_requests", "api")} == {None}
    assert (run["client"], run["seed"]) == (None, None)
    assert document["environment"]["python"] is None


@pytest.mark.parametrize("name", EVERY)
def test_a_foreign_report_has_a_page_that_says_so(name: str) -> None:
    text = page(report(name))
    assert "made from another tool" in text
    assert ">None<" not in text


def test_the_same_nulls_in_a_report_of_ours_are_a_mistake() -> None:
    errors = list(unknown({**report("vllm_bench.json"), "foreign": None}))
    assert any("runs[0].client" in error for error in errors)
    assert any("asked.seed" in error for error in errors)


# --- definitions -----------------------------------------------------------------------------


def test_sglang_names_its_metrics_as_ours_mean_them() -> None:
    found = one("sglang_python.jsonl")
    assert found.metrics["output_throughput"] == pytest.approx(605.94, abs=0.01)
    assert found.metrics["ttft_p99"] == pytest.approx(55.847, abs=0.001)
    assert found.metrics["e2e_mean"] == pytest.approx(208.691, abs=0.001)
    assert found.metrics["icl_p99"] == pytest.approx(9.066, abs=0.001)
    assert not any(name.startswith("itl") for name in found.metrics)
    assert (found.concurrency, found.arrivals, found.output_mean) == (4, "closed", 32.0)
    assert any("how many requests failed" in note for note in found.notes)


def test_a_gap_on_sglangs_own_api_is_one_per_token(tmp_path: Path) -> None:
    found = changed("sglang_python.jsonl", tmp_path, backend="sglang")
    assert "itl_p99" in found.metrics
    assert "icl_p99" not in found.metrics


def test_sglang_with_details_tells_its_failures(tmp_path: Path) -> None:
    fine = changed("sglang_python.jsonl", tmp_path, errors=["", ""])
    assert fine.failed == 0
    assert "ttft_p99" in fine.metrics
    cut = changed("sglang_python.jsonl", tmp_path, errors=["", "cut"])
    assert cut.failed == 1
    assert "ttft_p99" not in cut.metrics, "it leaves failed requests out"
    assert "output_throughput" in cut.metrics


@pytest.mark.parametrize("name", ["vllm_bench_none.json", "sglang_rust_none.jsonl"])
def test_zeros_that_nobody_measured_are_not_taken(name: str) -> None:
    assert not any("ttft" in metric or "tpot" in metric for metric in one(name).metrics)


def test_vllm_counts_its_failures(tmp_path: Path) -> None:
    found = one("vllm_bench.json")
    assert found.metrics["icl_mean"] == pytest.approx(4.833, abs=0.001)
    assert found.metrics["success_rate"] == 1.0
    cut = changed("vllm_bench.json", tmp_path, failed=5)
    assert cut.metrics["success_rate"] == 0.8
    assert not any("ttft" in name for name in cut.metrics)
    assert any("failed" in note for note in cut.notes)


@pytest.mark.parametrize(
    ("fields", "arrivals", "rate"),
    [
        ({"request_rate": "inf"}, "closed", None),
        ({"request_rate": float("inf")}, "closed", None),
        ({"request_rate": 8.0, "burstiness": 1.0}, "poisson", 8.0),
        ({"request_rate": 8.0, "burstiness": 0.5}, "gamma", 8.0),
        ({"request_rate": "inf", "max_concurrency": None}, None, None),
    ],
)
def test_vllm_tells_how_requests_came(
    tmp_path: Path, fields: dict[str, Any], arrivals: str | None, rate: float | None
) -> None:
    found = changed("vllm_bench.json", tmp_path, **fields)
    assert (found.arrivals, found.rate) == (arrivals, rate)


def test_percentiles_with_a_point_keep_their_meaning(tmp_path: Path) -> None:
    found = changed("vllm_bench.json", tmp_path, **{"p99.9_ttft_ms": 61.0, "p99.99_ttft_ms": 62.0})
    assert found.metrics["ttft_p999"] == 61.0
    assert 62.0 not in found.metrics.values()


def test_the_last_percentile_is_the_maximum_and_a_fraction_is_not_another_percentile(
    tmp_path: Path,
) -> None:
    fields = {"p100_ttft_ms": 63.0, "p5.5_ttft_ms": 64.0, "p9.9_ttft_ms": 65.0, "p5_ttft_ms": 3.0}
    found = changed("vllm_bench.json", tmp_path, **fields)
    assert found.metrics["ttft_max"] == 63.0
    assert found.metrics["ttft_p5"] == 3.0
    assert not {64.0, 65.0} & set(found.metrics.values())


def test_aiperf_with_failures_gives_what_counts_them() -> None:
    found = one("aiperf.json")
    assert (found.succeeded, found.failed) == (16, 4)
    assert found.metrics["ttft_p50"] == pytest.approx(54.938, abs=0.001), "adj_, not 52.143"
    assert "ttft_mean" not in found.metrics
    assert "e2e_p50" not in found.metrics
    assert found.version == "0.13.0"


def test_aiperf_without_failures_gives_all(tmp_path: Path) -> None:
    found = changed("aiperf.json", tmp_path, error_request_count=None)
    assert found.metrics["ttft_p50"] == pytest.approx(52.143, abs=0.001)
    assert found.metrics["tpot_mean"] == pytest.approx(5.055, abs=0.001), "its inter_token_latency"
    assert found.metrics["icl_p50"] == pytest.approx(5.247, abs=0.001)


def test_guidellm_is_in_seconds_where_it_is(tmp_path: Path) -> None:
    data = json.loads((RECORDED / "guidellm.json").read_text())
    totals = data["benchmarks"][0]["metrics"]["request_totals"]
    totals |= {"errored": 0, "total": 16}
    found = changed("guidellm.json", tmp_path, benchmarks=data["benchmarks"])
    assert found.metrics["e2e_mean"] == pytest.approx(214.21, abs=0.01)
    assert found.metrics["ttft_p99"] == pytest.approx(74.04, abs=0.01)
    assert found.metrics["tpot_mean"] == pytest.approx(5.001, abs=0.001)
    assert "tpot_p99" not in found.metrics, "weighted by tokens"
    assert not any("ttft" in name for name in one("guidellm.json").metrics), "four failed"


# --- files -----------------------------------------------------------------------------------


def test_lines_of_one_load_are_runs_of_one_measurement(tmp_path: Path) -> None:
    line = (RECORDED / "sglang_python.jsonl").read_text().strip()
    path = tmp_path / "runs.jsonl"
    other = json.dumps({**json.loads(line), "max_concurrency": 8})
    path.write_text(f"{line}\n\n{line}\n{other}\n")
    document = foreign_report(
        [(path, read(path))],
        Told(test="t"),
        command=[],
        created="2026-11-20T10:05:00+00:00",
        tool_version="0",
    )
    assert [len(entry["runs"]) for entry in document["measurements"]] == [2, 1]
    assert document["counts"]["launches"] == 1


def test_files_are_launches_only_where_somebody_says_so() -> None:
    files = ("sglang_python.jsonl", "sglang_rust.jsonl")
    (entry,) = report(*files)["measurements"]
    assert {run["launch_id"] for run in entry["runs"]} == {"launch-1"}
    (entry,) = report(*files, launch_per_file=True)["measurements"]
    assert [run["launch_id"] for run in entry["runs"]] == ["launch-1", "launch-2"]
    value = entry["summary"]["output_throughput"]
    assert (value["n_launches"], value["ci_low"]) == (2, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ("[1]", "no JSON object"),
        ('{"completed": 1, "num_prompts": 1}', "is not as its tool writes"),
        ('{"benchmarks": [{"metrics": {}}]}', "is not as its tool writes"),
    ],
)
def test_what_is_no_result_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(ReportError, match=said):
        read(path)


def test_an_unknown_tool_is_a_mistake_with_a_remedy(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text('{"a": 1}')
    with pytest.raises(UsageMistake, match=r"--from \(aiperf, guidellm, sglang, vllm\)"):
        read(path)
    with pytest.raises(ReportError, match="as vllm writes"):
        read(path, "vllm")
    with pytest.raises(ReportError, match="cannot be read"):
        read(tmp_path / "none.json")
