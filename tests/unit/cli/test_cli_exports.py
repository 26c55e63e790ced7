"""``export`` and ``import``, and ``compare`` with what was imported."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pytest_llmperf.report.exports import KINDS

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Reports

Command = Callable[..., tuple[int, str, str]]
RECORDED = Path(__file__).parents[1] / "benchmarks" / "recorded"
SGLANG = RECORDED / "sglang_python.jsonl"
OTHER = RECORDED / "sglang_rust.jsonl"
VLLM = RECORDED / "vllm_bench.json"


def test_a_report_is_exported(reports: Reports, status_of: Command, tmp_path: Path) -> None:
    report = reports.write("r.json", reports.measured({"output_throughput": [1600.0, 1610.0]}))
    bmf, comment = tmp_path / "bmf.json", tmp_path / "c.md"
    status, out, _ = status_of("export", report, f"bencher:{bmf}", f"markdown:{comment}")
    assert (status, out.splitlines()) == (0, [str(bmf), str(comment)])
    assert json.loads(bmf.read_text())[reports.node]["output_throughput"]["value"] > 1600
    assert comment.read_text().startswith("<!-- pytest-llmperf -->")


def test_a_kind_that_is_not_known_is_a_wrong_command_line(
    reports: Reports, status_of: Command
) -> None:
    report = reports.write("r.json", reports.measured({"output_throughput": [1600.0]}))
    status, _, err = status_of("export", report, "benchr:x")
    assert status == 2
    assert "Did you mean 'bencher'" in err


@pytest.mark.parametrize("name", ["x.csv", "x"])
def test_single_requests_are_not_in_a_report(
    reports: Reports, status_of: Command, tmp_path: Path, name: str
) -> None:
    report = reports.write("r.json", reports.measured({"output_throughput": [1600.0]}))
    target = f"requests:{tmp_path / name}"
    status, _, err = status_of("export", report, f"bencher:{tmp_path / 'bmf.json'}", target)
    assert status == 2
    assert "a report holds no single requests" in err
    assert f"pytest --llmperf-export {target}" in err
    assert not (tmp_path / "bmf.json").exists()


def test_a_place_that_refuses_is_status_1(
    reports: Reports, status_of: Command, tmp_path: Path
) -> None:
    report = reports.write("r.json", reports.measured({"output_throughput": [1600.0]}))
    status, _, err = status_of("export", report, f"bencher:{report}/x")
    assert status == 1
    assert "the export bencher could not be written" in err
    assert json.loads(Path(report).read_text())["verdict"]


# --- import and compare ----------------------------------------------------------------------


@pytest.fixture
def imported(status_of: Command, tmp_path: Path) -> Callable[..., str]:
    def make(name: str, *arguments: str | Path) -> str:
        path = tmp_path / name
        status, out, err = status_of("import", *map(str, arguments), "-o", str(path))
        assert status == 0, err
        assert str(path) in out
        return str(path)

    return make


Imported = Callable[..., str]


def test_an_imported_report_is_valid_and_compared(imported: Imported, status_of: Command) -> None:
    a = imported("a.json", SGLANG, "--accelerator", "H100")
    b = imported("b.json", OTHER, "--accelerator", "H100")
    assert status_of("validate", a)[0] == 0
    status, out, _ = status_of("compare", a, b)
    assert status == 0
    assert out.count("FOREIGN: measured by sglang.bench_serving") == 2
    assert "+2.06 %" in out


def test_launches_that_somebody_vouched_for_make_intervals(
    imported: Imported, status_of: Command
) -> None:
    how = ("--accelerator", "H100", "--launch-per-file")
    a, b = (imported(name, SGLANG, OTHER, *how) for name in ("a.json", "b.json"))
    _, out, _ = status_of("compare", a, b, "--metric", "output_throughput")
    assert "2 and 2 launches" in out
    assert "within noise" in out


def test_an_unknown_place_is_refused(imported: Imported, status_of: Command) -> None:
    a, b = imported("a.json", SGLANG), imported("b.json", OTHER)
    status, _, err = status_of("compare", a, b)
    assert status == 1
    assert "the accelerator (not told in A" in err
    assert "--accelerator" in err
    status, out, _ = status_of("compare", a, b, "--force")
    assert status == 0
    assert out.startswith("FORCED: ")


def test_other_places_are_refused(imported: Imported, status_of: Command) -> None:
    a = imported("a.json", SGLANG, "--accelerator", "H100")
    b = imported("b.json", OTHER, "--accelerator", "A100")
    status, _, err = status_of("compare", a, b)
    assert status == 1
    assert "'H100' in A, 'A100' in B" in err


def test_tools_that_measure_differently_are_refused(
    imported: Imported, status_of: Command, reports: Reports
) -> None:
    a = imported("a.json", SGLANG, "--accelerator", "H100", "--test", reports.node)
    b = imported("b.json", VLLM, "--accelerator", "H100", "--test", reports.node)
    ours = reports.write("r.json", reports.measured({"output_throughput": [600.0, 610.0]}))
    for before, after in ((a, b), (ours, a), (b, ours)):
        status, _, err = status_of("compare", before, after)
        assert status == 1
        assert "who measured" in err
        status, out, _ = status_of("compare", before, after, "--force")
        assert status == 0
        assert "FORCED" in out
        assert "FOREIGN" in out
        assert "output_throughput" in out


def test_requests_of_other_lengths_are_refused(
    imported: Imported, status_of: Command, tmp_path: Path
) -> None:
    longer: dict[str, Any] = {**json.loads(SGLANG.read_text()), "total_output_tokens": 900}
    file = tmp_path / "longer.jsonl"
    file.write_text(json.dumps(longer))
    a = imported("a.json", SGLANG, "--accelerator", "H100")
    b = imported("b.json", file, "--accelerator", "H100")
    status, _, err = status_of("compare", a, b)
    assert status == 1
    assert "output_tokens_mean is 32 in A and 45 in B" in err
    assert status_of("compare", a, b, "--force")[0] == 0


def test_files_of_two_tools_are_not_one_report(status_of: Command, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    status, _, err = status_of("import", str(SGLANG), str(VLLM), "-o", str(path))
    assert status == 1
    assert "one tool at a time" in err
    assert not path.exists()


def test_foreign_figures_are_not_exported_as_ours(
    imported: Imported, status_of: Command, tmp_path: Path
) -> None:
    a = imported("a.json", SGLANG)
    for kind in KINDS:
        status, _, err = status_of("export", a, f"{kind}:{tmp_path / 'out' / kind}")
        assert status == 1
        assert "what sglang.bench_serving measured" in err
    assert not (tmp_path / "out").exists()
