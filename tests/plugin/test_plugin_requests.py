"""``--llmperf-export requests``: every request of every measured run, whatever happened."""

from __future__ import annotations

import csv
import gzip
import json
import math
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

# Before pytester takes note of the modules that it will forget again: it loads only once.
import pyarrow.parquet
import pytest

from pytest_llmperf.report import requests as room
from pytest_llmperf.session import kept

HEAD = """
import os, signal
import pytest
pytestmark = pytest.mark.llm_server("sim", model="m", args="--ttft-ms 5 --itl-ms 1{more}")
def load(**more): return pytest.mark.llm_workload(
    "chat", **{{"input_tokens": 8, "output_tokens": 4, "requests": 12, "concurrency": 3, **more}}
)
"""
#: One that fails, one that shares its measurement, and one in an open loop.
THREE = """
@load(requests=20)
@pytest.mark.llm_ceiling(ttft_p50="0.001 ms")
def test_fails(llm_perf): llm_perf.run()
@load(requests=20)
def test_shares(llm_perf): llm_perf.run()
@load(concurrency=None, rate=200, turns=2, turn_input_tokens=4)
def test_open(llm_perf): llm_perf.run()
"""
OPTIONS = ("--llmperf-report=r.json", "--llmperf-runs=2", "--llmperf-no-progress")
EXPORT = "--llmperf-export=requests:x.csv"
PERCENTILES = ("ttft_p50", "ttft_p95", "ttft_from_schedule_p95", "tpot_p50", "e2e_p99")

Row = dict[str, Any]


def suite(pytester: pytest.Pytester, body: str, more: str = "") -> None:
    pytester.makepyfile(test_it=HEAD.format(more=more) + body)


#: Ids may look like numbers.
TEXTS = ("launch_id",)


def rows_of(path: Path) -> list[Row]:
    """The rows of a CSV, with their numbers and flags."""
    text = gzip.decompress(path.read_bytes()) if path.name.endswith(".gz") else path.read_bytes()
    return [
        {name: cell if name in TEXTS else _value(cell) for name, cell in row.items()}
        for row in csv.DictReader(text.decode().splitlines())
    ]


def _value(cell: str) -> Any:
    try:
        return json.loads(cell) if cell else None
    except ValueError:
        return cell


def report_of(pytester: pytest.Pytester) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((pytester.path / "r.json").read_text())
    return found


def measured(report: dict[str, Any]) -> list[tuple[Row, Row]]:
    """Every run of a report once, each with the first measurement that has it."""
    found: dict[tuple[str, str], tuple[Row, Row]] = {}
    for entry in report["measurements"]:
        for run in entry["runs"]:
            found.setdefault((run["launch_id"], run["started_at"]), (entry, run))
    return list(found.values())


def check(rows: Sequence[Row], report: dict[str, Any]) -> None:
    """Each run of the report has its requests among ``rows``, and they say what it says."""
    runs = measured(report)
    assert runs
    assert len(rows) == sum(run["requests"]["sent"] for _, run in runs)
    for entry, run in runs:
        mine = [
            row
            for row in rows
            if (row["launch_id"], row["run_started_at"]) == (run["launch_id"], run["started_at"])
        ]
        alike = {name: {row[name] for row in mine} for name in mine[0]}
        assert alike["measurement"] == {entry["id"]}
        assert alike["test"] == {entry["test"]}
        assert alike["server"] == {entry["server"]}
        for column, field in {
            "run": "index",
            "side": "side",
            "pair": "pair",
            "seed": "seed",
        }.items():
            assert alike[column] == {run[field]}
        assert alike["valid"] == {run["valid"]}
        _check_run(mine, run)


def _check_run(mine: Sequence[Row], run: Row) -> None:
    assert [row["request"] for row in mine] == list(range(run["requests"]["sent"]))
    assert sum(row["ok"] for row in mine) == run["requests"]["succeeded"]
    assert Counter(row["failure"] for row in mine if not row["ok"]) == run["requests"]["failed"]
    for token, field in {"input_tokens": "input_mean", "output_tokens": "output_mean"}.items():
        counts = [row[token] for row in mine if row["ok"]]
        assert sum(counts) / len(counts) == pytest.approx(run["tokens"][field])
    for metric in PERCENTILES:
        base, _, digits = metric.rpartition("_p")
        assert _percentile(mine, base, int(digits) / 100) == _told(run["metrics"][metric]), metric


def _percentile(rows: Iterable[Row], metric: str, quantile: float) -> float | None:
    """As docs/exports.md has it; ``None`` where no request has the metric."""
    values = (
        sorted(row[f"{metric}_ms"] if row["ok"] else math.inf for row in rows)
        if any(row[f"{metric}_ms"] is not None for row in rows)
        else []
    )
    return values[math.ceil(quantile * (len(values) - 1))] if values else None


def _told(value: Any) -> float | None:
    return math.inf if isinstance(value, dict) else value


def unfinished(pytester: pytest.Pytester) -> list[str]:
    directory = pytester.path / "x.csv.unfinished"
    return sorted(path.name for path in directory.iterdir()) if directory.exists() else []


# --- every run -------------------------------------------------------------------------------


def test_every_run_has_its_requests_and_they_add_up(pytester: pytest.Pytester) -> None:
    suite(pytester, THREE)
    parquet = "--llmperf-export=requests:out/y.parquet"
    result = pytester.runpytest(*OPTIONS, EXPORT, parquet)
    assert result.ret == 10
    result.stdout.fnmatch_lines(["written: *x.csv", "written: *y.parquet"])
    rows, report = rows_of(pytester.path / "x.csv"), report_of(pytester)
    check(rows, report)
    assert len(report["measurements"]) == 3, "two tests share one"
    assert {row["test"] for row in rows} == {"test_it.py::test_fails", "test_it.py::test_open"}
    opened = [row for row in rows if row["test"].endswith("open")]
    assert {row["turn"] for row in opened} == {0, 1}
    assert any(row["scheduled_s"] is not None for row in opened)
    assert all(0 <= row["sent_s"] < row["ended_s"] for row in rows)
    assert unfinished(pytester) == []

    table = pyarrow.parquet.read_table(pytester.path / "out" / "y.parquet").to_pylist()
    plain = [{**row, "run_started_at": row["run_started_at"].isoformat()} for row in table]
    assert plain == rows


def test_requests_that_fail_are_there_with_their_cause(pytester: pytest.Pytester) -> None:
    body = "@load()\ndef test_a(llm_perf): llm_perf.run()"
    suite(pytester, body, more=" --fault http_500 --fault-every 9 --fault-from 4")
    pytester.runpytest(*OPTIONS, EXPORT)
    rows, report = rows_of(pytester.path / "x.csv"), report_of(pytester)
    check(rows, report)
    failed = [row for row in rows if not row["ok"]]
    assert failed
    assert {(row["failure"], row["status"], row["ttft_ms"]) for row in failed} == {
        ("http_500", 500, None)
    }
    assert all(row["failure_detail"] for row in failed)
    repeated = [run for _, run in measured(report) if not run["valid"]]
    assert repeated, "a run of few failures is repeated, and both are there"


def test_both_sides_of_a_comparison_are_there(pytester: pytest.Pytester) -> None:
    suite(pytester, '@load()\n@pytest.mark.llm_no_regression(tpot_mean="90%")\n'
          "def test_a(llm_perf): llm_perf.run()")  # fmt: skip
    slower = "--llmperf-reference-args=--ttft-ms 5 --itl-ms 2"
    pytester.runpytest(*OPTIONS, EXPORT, slower, "--llmperf-pairs=4", "--llmperf-quality=off")
    rows = rows_of(pytester.path / "x.csv")
    check(rows, report_of(pytester))
    assert {(row["side"], row["pair"]) for row in rows} >= {
        (side, pair) for side in ("candidate", "reference") for pair in (0, 1)
    }


def test_a_sweep_has_the_requests_of_every_load(pytester: pytest.Pytester) -> None:
    suite(pytester, "@load()\ndef test_a(llm_perf): llm_perf.sweep(values=[1, 3], requests=8)")
    assert pytester.runpytest(*OPTIONS, EXPORT).ret == 0
    rows, report = rows_of(pytester.path / "x.csv"), report_of(pytester)
    check(rows, report)
    points = {point["measurement"] for point in report["sweeps"][0]["points"]}
    assert {row["measurement"] for row in rows} == points
    assert len(points) == 2


def test_warming_up_is_not_measured(pytester: pytest.Pytester) -> None:
    suite(pytester, "@load(warmup_requests=30)\ndef test_a(llm_perf): llm_perf.run()")
    pytester.runpytest(*OPTIONS, EXPORT)
    assert len(rows_of(pytester.path / "x.csv")) == 2 * 12


def test_a_session_that_measures_nothing_writes_the_names(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_plain(): pass")
    assert pytester.runpytest(EXPORT).ret == 0
    assert (pytester.path / "x.csv").read_text().startswith("test,measurement,server,")
    assert rows_of(pytester.path / "x.csv") == []


def test_nothing_is_kept_that_nobody_asked_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a part is written")

    monkeypatch.setattr(kept, "write_part", refuse)
    suite(pytester, "@load()\ndef test_a(llm_perf): llm_perf.run()")
    assert pytester.runpytest(*OPTIONS).ret == 0


# --- processes and sessions that end early ---------------------------------------------------


def test_workers_leave_their_requests_for_one_file(pytester: pytest.Pytester) -> None:
    suite(pytester, THREE)
    result = pytester.runpytest(*OPTIONS, "-n2", "--llmperf-export=requests:x.csv.gz")
    assert result.ret == 10
    check(rows_of(pytester.path / "x.csv.gz"), report_of(pytester))
    assert not (pytester.path / "x.csv.gz.unfinished").exists()


def test_a_worker_that_dies_has_left_what_it_measured(pytester: pytest.Pytester) -> None:
    suite(
        pytester,
        """
@load()
def test_dies(llm_perf):
    llm_perf.run()
    os._exit(3)
@load(output_tokens=5)
def test_lives(llm_perf): llm_perf.run()
""",
    )
    result = pytester.runpytest(*OPTIONS, "-n1", EXPORT)
    result.stdout.fnmatch_lines(["*crashed while running 'test_it.py::test_dies'*"])
    rows, report = rows_of(pytester.path / "x.csv"), report_of(pytester)
    check([row for row in rows if row["test"].endswith("lives")], report)
    lost = [row for row in rows if row["test"].endswith("dies")]
    assert len(lost) == 2 * 12
    (entry,) = report["measurements"]
    (name,) = {row["measurement"] for row in lost}
    assert name not in entry["id"]
    assert entry["server"] == lost[0]["server"]


def test_an_interrupted_session_has_written_what_it_measured(pytester: pytest.Pytester) -> None:
    suite(
        pytester,
        """
@load()
def test_first(llm_perf): llm_perf.run()
@load(output_tokens=5)
def test_second(llm_perf):
    llm_perf.run()
    raise KeyboardInterrupt
""",
    )
    result = pytester.runpytest_subprocess(*OPTIONS, EXPORT)
    assert result.ret == 2
    assert Counter(row["test"] for row in rows_of(pytester.path / "x.csv")) == {
        "test_it.py::test_first": 24,
        "test_it.py::test_second": 24,
    }


def test_a_session_goes_on_with_the_requests_of_the_one_that_was_killed(
    pytester: pytest.Pytester,
) -> None:
    suite(
        pytester,
        """
@load()
def test_first(llm_perf): llm_perf.run()
@load(output_tokens=5)
def test_second(llm_perf):
    if os.environ.get("CUT"): os.kill(os.getpid(), signal.SIGKILL)
    llm_perf.run()
""",
    )
    command = [sys.executable, "-m", "pytest", *OPTIONS, EXPORT]
    killed = subprocess.run(
        command, cwd=pytester.path, env={**os.environ, "CUT": "1"}, capture_output=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL
    assert len(unfinished(pytester)) == 2
    assert not (pytester.path / "x.csv").exists()
    result = pytester.runpytest_subprocess(*OPTIONS, EXPORT, "--llmperf-resume")
    assert result.ret == 0
    check(rows_of(pytester.path / "x.csv"), report_of(pytester))
    assert len(rows_of(pytester.path / "x.csv")) == 4 * 12
    assert unfinished(pytester) == []


def test_what_an_earlier_session_left_is_not_of_this_one(pytester: pytest.Pytester) -> None:
    directory = pytester.path / "x.csv.unfinished"
    directory.mkdir()
    for name in ("00-1.part", "00-1.tmp"):
        (directory / name).write_text("of an earlier session")
    suite(pytester, "@load()\ndef test_a(llm_perf): llm_perf.run()")
    for idle in ("--collect-only", "--llmperf-plan", "--llmperf=off"):
        pytester.runpytest(*OPTIONS, EXPORT, idle)
        assert unfinished(pytester) == ["00-1.part", "00-1.tmp"]
    assert pytester.runpytest(*OPTIONS, EXPORT).ret == 0
    check(rows_of(pytester.path / "x.csv"), report_of(pytester))
    assert unfinished(pytester) == []


# --- trouble ---------------------------------------------------------------------------------


def test_a_disk_that_refuses_makes_the_session_red_and_no_test(pytester: pytest.Pytester) -> None:
    suite(pytester, "@load()\ndef test_a(llm_perf): llm_perf.run()")
    (pytester.path / "x.csv.unfinished").write_text("a file where a directory should be")
    result = pytester.runpytest(*OPTIONS, EXPORT)
    result.assert_outcomes(passed=1)
    assert result.ret == 11
    assert str(result.stdout).count("the requests of a run could not be kept") == 1
    result.stdout.fnmatch_lines(["ERROR: *x.csv lacks the requests of 2 of the 2 runs*"])
    assert report_of(pytester)["tests"][0]["outcome"] == "passed"


def test_a_run_without_its_requests_is_told(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "write_part", lambda *_: None)
    suite(pytester, "@load()\ndef test_a(llm_perf): llm_perf.run()")
    result = pytester.runpytest(*OPTIONS, EXPORT)
    assert result.ret == 11
    result.stdout.fnmatch_lines(["ERROR: *x.csv lacks the requests of 2 of the 2 runs*"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["requests:x.json"], "*requests:x.json: *must end in .csv, .csv.gz or .parquet."),
        (["requests:x.parquet"], "*pip install 'pytest-llmperf[[]parquet[]]'*"),
        (["requests:x.csv", "bencher:x.csv"], "*two things*to x.csv*"),
    ],
)
def test_a_mistake_is_told_before_anything_starts(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.setattr(room, "find_spec", lambda _: None)
    suite(pytester, THREE)
    for workers in ("-n0", "-n2"):
        result = pytester.runpytest(workers, *(f"--llmperf-export={each}" for each in arguments))
        assert result.ret == 4
        result.stderr.fnmatch_lines([said])
        result.stdout.no_fnmatch_line("*written:*")
