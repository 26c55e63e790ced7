"""Single requests as files: what becomes of every value, and of text that means harm."""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from pytest_llmperf.errors import ReportError, UsageMistake
from pytest_llmperf.records import Chunk, Chunks, Pass, RequestRecord, Run
from pytest_llmperf.report import requests as room
from pytest_llmperf.report.exports import split
from pytest_llmperf.report.requests import SUFFIXES, check_path, parts_directory
from pytest_llmperf.report.requests.columns import COLUMNS, Kind, Value
from pytest_llmperf.report.requests.files import ROWS_AT_ONCE, write_rows
from pytest_llmperf.report.requests.gather import gather
from pytest_llmperf.report.requests.parts import Place, read_parts, remove_parts, write_part

if TYPE_CHECKING:
    from tests.unit.report.conftest import Samples

DOCS = (Path(__file__).parents[3] / "docs" / "exports.md").read_text()
PLACE = Place(test="t.py::test_a", measurement="sim-1:chat-2", server="sim-1", workload="chat")
MS = 1_000_000
OPENED = 5_000 * MS
OPTION = "--llmperf-export"

Row = dict[str, Any]


def record(index: int = 0, **changes: Any) -> RequestRecord:
    """Written 10 ms after the window opened; chunks of one token 30, 40 and 60 ms later."""
    written = OPENED + 10 * MS
    chunks = [
        Chunk(at_ns=written + at * MS, kind="answer", characters=3, cumulative_tokens=count)
        for count, at in enumerate((30, 40, 60), 1)
    ]
    usual = RequestRecord(
        index=index,
        written_ns=written,
        ended_ns=written + 61 * MS,
        status=200,
        failure=None,
        finish_reason="length",
        prompt_tokens=8,
        cached_tokens=None,
        output_tokens=3,
        reasoning_tokens=None,
        token_source="usage",
        chunks=Chunks.of(chunks),
        asked_input=8,
        asked_output=3,
    )
    return replace(usual, **changes)


@pytest.fixture
def run(samples: Samples) -> Run:
    return replace(samples.run, launch_id="launch", started_at="2026-11-20T10:00:00.250000+00:00")


def pass_of(*records: RequestRecord, samples: Samples, started_ns: int = OPENED) -> Pass:
    return Pass(
        seed=1,
        started_at="",
        started_ns=started_ns,
        records=records,
        client=samples.client,
    )


def document(*runs: Run, test: str = "t.py::test_b", entry: str = "sim-1:chat-2-ffff") -> Row:
    told = [{"launch_id": run.launch_id, "started_at": run.started_at} for run in runs]
    return {"measurements": [{"id": entry, "test": test, "runs": told}]}


def csv_of(path: Path) -> list[Row]:
    raw = path.read_bytes()
    text = (gzip.decompress(raw) if path.name.endswith(".gz") else raw).decode("utf-8")
    return list(csv.DictReader(text.splitlines(keepends=True), strict=True))


def parquet_of(path: Path) -> list[Row]:
    rows: list[Row] = parquet.read_table(path).to_pylist()
    return rows


@pytest.fixture
def written(run: Run, samples: Samples, tmp_path: Path) -> Callable[..., list[Row]]:
    """Requests of a run that the report has, as CSV has them."""

    def write(*records: RequestRecord, place: Place = PLACE) -> list[Row]:
        write_part(tmp_path / "parts", run, pass_of(*records, samples=samples), place)
        gather(tmp_path / "parts", document(run), tmp_path / "x.csv", option=OPTION)
        return csv_of(tmp_path / "x.csv")

    return write


Written = Callable[..., list[Row]]


# --- what a row holds ------------------------------------------------------------------------


def test_the_documented_columns_are_those_of_the_table() -> None:
    table = DOCS.split("## Every single request")[1].split("\n\n| column |")[1].split("\n\n")[0]
    rows = [f"| `{column.name}` | {column.kind} | {column.meaning} |" for column in COLUMNS]
    assert table.splitlines()[2:] == rows


def test_times_and_latencies_are_those_of_the_request(written: Written) -> None:
    (row,) = written(record(scheduled_ns=OPENED + 4 * MS, connect_ns=MS // 2))
    assert {
        name: float(row[name]) for name in row if name.endswith(("_s", "_ms")) if row[name]
    } == {
        "scheduled_s": 0.004,
        "sent_s": 0.010,
        "ended_s": 0.071,
        "connect_ms": 0.5,
        "ttft_ms": 30.0,
        "ttfat_ms": 30.0,
        "tpot_ms": 15.0,
        "itl_p50_ms": 20.0,
        "itl_max_ms": 20.0,
        "icl_max_ms": 20.0,
        "e2e_ms": 60.0,
        "ttft_from_schedule_ms": 36.0,
        "ttfat_from_schedule_ms": 36.0,
        "e2e_from_schedule_ms": 66.0,
    }


def test_what_is_not_known_is_empty(written: Written) -> None:
    (row,) = written(record())
    unknown = {
        "pair", "scheduled_s", "connect_ms", "ttft_from_schedule_ms", "ttfat_from_schedule_ms",
        "e2e_from_schedule_ms", "cached_tokens", "reasoning_tokens", "failure", "failure_detail",
    }  # fmt: skip
    assert {name for name, value in row.items() if value == ""} == unknown
    assert (row["ok"], row["streamed"], row["valid"]) == ("true", "true", "true")


def test_a_request_that_failed_has_no_latency_however_far_it_came(written: Written) -> None:
    cut, fine = written(record(failure="cut", detail="the server closed"), record(1))
    latencies = {name for name in cut if name.endswith("_ms")} - {"connect_ms"}
    assert {cut[name] for name in latencies} == {""}
    assert fine["ttft_ms"] == "30.0"
    assert (cut["ok"], cut["failure"], cut["failure_detail"]) == (
        "false", "cut", "the server closed",
    )  # fmt: skip
    assert (cut["ended_s"], cut["output_tokens"]) == ("0.071", "3")


def test_a_run_without_requests_leaves_nothing_but_names(written: Written) -> None:
    assert written() == []


# --- where a run belongs ---------------------------------------------------------------------


def test_a_run_stands_under_the_first_of_its_names_in_the_report(
    run: Run, samples: Samples, tmp_path: Path
) -> None:
    write_part(tmp_path / "parts", run, pass_of(record(), samples=samples), PLACE)
    report = document(run)
    report["measurements"] += document(run, test="t.py::test_c", entry="other")["measurements"]
    gather(tmp_path / "parts", report, tmp_path / "x.csv", option=OPTION)
    (row,) = csv_of(tmp_path / "x.csv")
    assert (row["test"], row["measurement"]) == ("t.py::test_b", "sim-1:chat-2-ffff")


def test_a_run_that_nobody_reports_is_there_all_the_same(
    run: Run, samples: Samples, tmp_path: Path
) -> None:
    write_part(tmp_path / "parts", run, pass_of(record(), samples=samples), PLACE)
    gather(tmp_path / "parts", {"measurements": []}, tmp_path / "x.csv", option=OPTION)
    (row,) = csv_of(tmp_path / "x.csv")
    assert (row["test"], row["measurement"]) == (PLACE.test, PLACE.measurement)


def test_a_run_of_the_report_without_requests_is_told(
    run: Run, samples: Samples, tmp_path: Path
) -> None:
    write_part(tmp_path / "parts", run, pass_of(record(), samples=samples), PLACE)
    lost = replace(run, launch_id="on another machine")
    with pytest.raises(ReportError, match="lacks the requests of 1 of the 2 runs"):
        gather(tmp_path / "parts", document(run, lost), tmp_path / "x.csv", option=OPTION)
    assert len(csv_of(tmp_path / "x.csv")) == 1


def test_parts_come_in_the_order_of_time_and_go_when_told(
    run: Run, samples: Samples, tmp_path: Path
) -> None:
    for index, started in ((2, 30), (0, 9), (1, 10)):
        seen = pass_of(record(), samples=samples, started_ns=started)
        write_part(tmp_path / "parts", replace(run, index=index), seen, PLACE)
    assert [head["run"] for head, _ in read_parts(tmp_path / "parts")] == [0, 1, 2]
    (tmp_path / "parts" / "torn.tmp").write_text("{")
    remove_parts(tmp_path / "parts")
    assert not (tmp_path / "parts").exists()
    remove_parts(tmp_path / "parts")


def test_what_others_put_beside_the_parts_stays(run: Run, samples: Samples, tmp_path: Path) -> None:
    write_part(tmp_path, run, pass_of(record(), samples=samples), PLACE)
    (tmp_path / "notes.txt").write_text("mine")
    remove_parts(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_half_a_part_is_none(run: Run, samples: Samples, tmp_path: Path) -> None:
    unfinished = replace(run, started_at=object())  # type: ignore[arg-type]  # what JSON refuses
    with pytest.raises(TypeError):
        write_part(tmp_path, unfinished, pass_of(record(), samples=samples), PLACE)
    assert list(read_parts(tmp_path)) == []


# --- files -----------------------------------------------------------------------------------

VALUES: dict[Kind, st.SearchStrategy[Value]] = {
    "text": st.text(st.characters(categories=("L", "N", "P", "S"))),
    "integer": st.integers(-(2**63), 2**63 - 1),
    "number": st.floats(allow_nan=False, allow_infinity=False),
    "boolean": st.booleans(),
    "time": st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
}
ROWS = st.lists(st.tuples(*(st.none() | VALUES[column.kind] for column in COLUMNS)), max_size=4)


def empty_row(**values: Value) -> list[Value]:
    return [values.get(column.name) for column in COLUMNS]


@settings(deadline=None)
@given(rows=ROWS)
def test_parquet_gives_back_what_was_written(
    rows: list[Sequence[Value]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("parquet") / "x.parquet"
    write_rows(rows, path, option=OPTION)
    for row, read in zip(rows, parquet_of(path), strict=True):
        for column, value in zip(COLUMNS, row, strict=True):
            found = read[column.name]
            assert (found.isoformat() if isinstance(found, datetime) else found) == value


@settings(deadline=None)
@given(rows=ROWS)
def test_csv_gives_back_what_was_written(
    rows: list[Sequence[Value]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("csv") / "x.csv.gz"
    write_rows(rows, path, option=OPTION)
    for row, read in zip(rows, csv_of(path), strict=True):
        for column, value in zip(COLUMNS, row, strict=True):
            assert _parsed(column.kind, read[column.name]) == (None if value == "" else value)


def _parsed(kind: Kind, cell: str) -> Value:
    if cell == "":
        return None
    if kind in ("text", "time"):
        return cell[1:] if re.match(r"'\s*[-=+@＝＋－＠]", cell) else cell
    return json.loads(cell)  # type: ignore[no-any-return]


def test_columns_have_their_types_even_where_nothing_was_measured(tmp_path: Path) -> None:
    write_rows([], tmp_path / "none.parquet", option=OPTION)
    write_rows([empty_row()], tmp_path / "null.parquet", option=OPTION)
    none, null = (parquet.read_schema(tmp_path / f"{name}.parquet") for name in ("none", "null"))
    assert none.equals(null, check_metadata=True)
    types = {column.kind: str(none.field(column.name).type) for column in COLUMNS}
    assert types == {
        "text": "string",
        "integer": "int64",
        "number": "double",
        "boolean": "bool",
        "time": str(pa.timestamp("us", tz="UTC")),
    }
    for column in COLUMNS:
        assert none.field(column.name).metadata == {b"description": column.meaning.encode()}


def test_more_rows_than_are_held_at_a_time_make_more_groups(tmp_path: Path) -> None:
    rows = (empty_row(request=number) for number in range(ROWS_AT_ONCE + 1))
    write_rows(rows, tmp_path / "x.parquet", option=OPTION)
    assert parquet.ParquetFile(tmp_path / "x.parquet").metadata.num_row_groups == 2
    column = parquet.read_table(tmp_path / "x.parquet", columns=["request"]).column(0)
    assert column.to_pylist() == list(range(ROWS_AT_ONCE + 1))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_rows_make_the_same_file(suffix: str, tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}{suffix}" for name in ("one", "another")]
    for path in paths:
        write_rows([empty_row(test="t", ok=True)], path, option=OPTION)
    assert paths[0].read_bytes() == paths[1].read_bytes()
    if suffix == ".csv.gz":
        assert paths[0].read_bytes()[4:8] == bytes(4), "a time in its header"


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_whole_or_the_old_one(suffix: str, tmp_path: Path) -> None:
    def breaks_off() -> Any:
        yield empty_row(test="t")
        raise ValueError("a part that nobody can read")

    path = tmp_path / f"x{suffix}"
    path.write_text("old")
    with pytest.raises(ValueError, match="a part that nobody can read"):
        write_rows(breaks_off(), path, option=OPTION)
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
    assert path.read_text() == "old"


def test_a_place_that_refuses_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportError, match="the export requests could not be written"):
        write_rows([], tmp_path / "file" / "x.csv", option=OPTION)


# --- text that means harm --------------------------------------------------------------------


@settings(deadline=None)
@given(st.text())
@example("=1+1")
@example("\t=1+1")
@example(" \x1b[31m@SUM(A1)")
@example("＝cmd|' /C calc'!A0")
@example("\ud800")
def test_no_cell_of_a_csv_is_a_formula_or_leaves_its_cell(text: str) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "x.csv")
        write_rows([empty_row(test=text, failure_detail=text, ok=True)], path, option=OPTION)
        (row,) = csv_of(path)
    assert row["test"] == row["failure_detail"]
    assert row["ok"] == "true"
    assert not row["test"].lstrip().startswith(("=", "+", "-", "@", "＝", "＋", "－", "＠"))
    assert all(character.isprintable() or character.isspace() for character in row["test"])
    assert not re.search(r"[\x00-\x1f\x7f]", row["test"])


def test_numbers_below_zero_stay_numbers(tmp_path: Path) -> None:
    write_rows([empty_row(ttft_ms=-1.5, run=-1)], tmp_path / "x.csv", option=OPTION)
    (row,) = csv_of(tmp_path / "x.csv")
    assert (row["ttft_ms"], row["run"]) == ("-1.5", "-1")


def test_parquet_has_text_as_it_is_but_for_controls(tmp_path: Path) -> None:
    row = empty_row(test="=1+1", failure_detail="-x\x1b[31m\nred\ud800")
    write_rows([row], tmp_path / "x.parquet", option=OPTION)
    (found,) = parquet_of(tmp_path / "x.parquet")
    assert (found["test"], found["failure_detail"]) == ("=1+1", "-x red\ufffd")


def test_details_keep_no_credentials(written: Written) -> None:
    detail = "proxy http://me:hunter2@host refused, Authorization: Bearer abcdefghijkl"
    rows = written(record(failure="cut", detail=detail), record(1, failure="cut", detail=detail))
    for row in rows:
        assert "hunter2" not in row["failure_detail"]
        assert "abcdefghijkl" not in row["failure_detail"]


# --- what is asked for -----------------------------------------------------------------------


@pytest.mark.parametrize("path", ["x", "x.json", "x.csv.zip", "x.CSV", "csv"])
def test_a_name_that_says_no_format_is_refused(path: str) -> None:
    with pytest.raises(UsageMistake, match=r"must end in \.csv, \.csv\.gz or \.parquet"):
        check_path(path, f"--llmperf-export=requests:{path}")


def test_parquet_without_pyarrow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "find_spec", lambda _: None)
    check_path("x.csv", "said")
    check_path("x.csv.gz", "said")
    with pytest.raises(UsageMistake, match=re.escape("pip install 'pytest-llmperf[parquet]'")):
        check_path("x.parquet", "said")


def test_it_is_a_kind_and_close_names_find_it() -> None:
    assert split("requests:x.csv", OPTION) == ("requests", "x.csv")
    with pytest.raises(UsageMistake, match="Did you mean 'requests'"):
        split("request:x.csv", OPTION)


def test_parts_lie_beside_the_file() -> None:
    assert parts_directory(Path("out/x.csv")) == Path("out/x.csv.unfinished")
