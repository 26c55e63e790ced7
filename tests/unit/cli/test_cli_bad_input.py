"""Whatever a file holds, a command ends with a sentence: no traceback, and nothing half written."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from pytest_llmperf.cli import main
from pytest_llmperf.cli.plain import plain
from pytest_llmperf.cli.workloads import workload_text
from pytest_llmperf.report.exports import KINDS
from pytest_llmperf.store import open_store

Broken = Callable[[Any], st.SearchStrategy[bytes]]

FUZZ = settings(
    max_examples=int(os.environ.get("LLMPERF_FUZZ", "25")),
    derandomize="LLMPERF_FUZZ" not in os.environ,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
RECORDED = Path(__file__).parents[1] / "benchmarks" / "recorded"
FOREIGN = ("sglang_python.jsonl", "vllm_bench.json", "aiperf.json", "guidellm.json")
#: A sentence may have a part in several lines, but a person reads no page of them.
MOST_LINES = 3


def run(*argv: str) -> tuple[int, str, str]:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        try:
            status = main(argv)
        except SystemExit as left:
            status = int(left.code or 0)
    return status, out.getvalue(), err.getvalue()


def check(status: int, out: str, err: str) -> None:
    assert status in (0, 1, 2, 3), (status, out, err)
    assert "Traceback" not in out + err
    if status == 1 and not out:
        assert err.startswith("pytest-llmperf: ")
        assert len(err.splitlines()) <= MOST_LINES
        assert "mistake in pytest-llmperf" not in err


def files_in(directory: Path) -> set[Path]:
    return set(directory.rglob("*"))


# --- reports ---------------------------------------------------------------------------------


def _commands(bad: Path, good: str, out: Path) -> list[Sequence[str]]:
    kinds = [f"{kind}:{out / kind}" for kind in KINDS]
    return [
        ("validate", str(bad)),
        ("report", str(bad), "-o", str(out / "page.html")),
        ("export", str(bad), *kinds),
        ("compare", str(bad), good),
        ("compare", good, str(bad)),
    ]


@FUZZ
@given(data=st.data())
def test_a_report_that_is_none(
    data: st.DataObject, broken: Broken, reports: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("reports")
    fragment = reports.measured({"output_throughput": [1.0, 2.0]}, gated=["output_throughput"])
    good = reports.write("good.json", fragment)
    bad = place / "bad.json"
    bad.write_bytes(data.draw(broken(json.loads(Path(good).read_text()))))
    for command in _commands(bad, good, place / "out"):
        status, out, err = run(*command)
        check(status, out, err)
        if status and command[0] in ("report", "export") and "another place" not in err:
            assert not files_in(place / "out"), (command, err)


def test_places_that_hold_no_report(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("", "pipe", "none.json", "a" * 300, "x\0y"):
        for command in ("validate", "report", "compare"):
            more = (str(tmp_path),) if command == "compare" else ()
            status, out, err = run(command, str(tmp_path / name), *more)
            assert status == 1
            assert "cannot be read: " in out + err
            assert err.startswith("pytest-llmperf: ")
            assert "Name a report that pytest wrote with --llmperf-report" in err


def test_places_that_cannot_be_written_to(tmp_path: Path, reports: Any) -> None:
    good = reports.write("good.json", reports.measured({"output_throughput": [1.0]}))
    (tmp_path / "file").write_text("")
    other = RECORDED / FOREIGN[0]
    for place in (tmp_path / "file" / "x", tmp_path / ("a" * 300), tmp_path):
        for command in (
            ("report", good, "-o", str(place)),
            ("merge", good, "-o", str(place)),
            ("import", str(other), "-o", str(place)),
            ("export", good, f"markdown:{place}"),
            *([("models", str(place))] if place != tmp_path else []),
        ):
            status, _, err = run(*command)
            assert (status, err[:16]) == (1, "pytest-llmperf: ")
            assert "another place" in err
            assert "--llmperf-" not in err, "it names the option that was given"
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_name_that_is_no_text_is_shown_and_kept(tmp_path: Path, reports: Any) -> None:
    """Half a surrogate pair, as Python makes it of a file name that is no UTF-8."""
    test = "tests/t\udcff.py::test_\x1b[2J\u202ea"
    good = reports.write("good.json", reports.measured({"output_throughput": [1.0]}, test=test))
    assert run("validate", good) == (0, f"{good}: valid\n", "")
    assert json.loads(Path(good).read_text(encoding="utf-8"))["tests"][0]["test"] == test
    for command in (
        ("compare", good, good),
        ("report", good),
        ("export", good, f"markdown:{tmp_path / 'm.md'}"),
    ):
        _, out, err = run(*command)
        assert "\x1b" not in out + err
        assert "\u202e" not in out + err
        (out + err).encode()


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b'{"tests": []}', b'{"tests": {"a": 1}}', b'{"tests": {"a": {}}}', b"\xff"),
        *(b"tests: {}", b"[" * 100_000, b'{"tests": null}'),
    ],
)
def test_a_configuration_to_go_on_with_that_is_not_ours(
    tmp_path: Path, reports: Any, text: bytes
) -> None:
    good = reports.write("good.json", reports.measured({"output_throughput": [1.0]}))
    (tmp_path / "otava").mkdir()
    (tmp_path / "otava" / "otava.yaml").write_bytes(text)
    status, _, err = run("export", good, f"otava:{tmp_path / 'otava'}")
    assert (status, err[:16]) == (1, "pytest-llmperf: ")
    assert "was not written by --llmperf-export otava" in err
    assert len(err.splitlines()) == 1
    assert (tmp_path / "otava" / "otava.yaml").read_bytes() == text


# --- results of others -----------------------------------------------------------------------


@pytest.mark.parametrize("name", FOREIGN)
@FUZZ
@given(data=st.data())
def test_results_that_are_none(
    name: str, data: st.DataObject, broken: Broken, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("results")
    bad, out = place / "bad.json", place / "out" / "report.json"
    first = (RECORDED / name).read_text()
    document = json.loads(first.splitlines()[0] if name.endswith("l") else first)
    bad.write_bytes(data.draw(broken(_smaller(document))))
    status, said, err = run("import", str(bad), "-o", str(out))
    check(status, said, err)
    assert out.is_file() == (status == 0)
    if status:
        assert not files_in(place / "out")


def _smaller(value: Any) -> Any:
    """The same with short lists: what is drawn from should not be one of a thousand requests."""
    if isinstance(value, list):
        return [_smaller(each) for each in value[:2]]
    return {k: _smaller(v) for k, v in value.items()} if isinstance(value, dict) else value


# --- stores ----------------------------------------------------------------------------------


@FUZZ
@given(data=st.data())
def test_a_store_with_a_broken_document(
    data: st.DataObject, broken: Broken, observe: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    place = tmp_path_factory.mktemp("store")
    store = open_store("perf", place)
    store.append(observe(100.0, 101.0))
    store.close()
    (file,) = (place / "perf").glob("*/*.json")
    file.write_bytes(data.draw(broken(json.loads(file.read_text()))))
    before = files_in(place)
    where = ("--store", str(place / "perf"))
    for command in (
        ("baseline", "list", *where),
        ("baseline", "show", "test", *where),
        ("baseline", "diff", *where),
        ("baseline", "accept", "--reason", "r", "--author", "a", *where),
        ("baseline", "prune", "--older-than", "99999", *where),
        ("trend", *where),
    ):
        status, out, err = run(*command)
        check(status, out, err)
        if status:
            assert files_in(place) - before <= {place / "perf" / ".lock"}


@FUZZ
@given(st.text() | st.text(alphabet="Workload(name='a',b=1+2j*-[]{}\\n)").map("Workload({}".format))
@example("Workload(" * 2000)
@example("Workload(name=" + "(" * 300 + ")" * 300 + ")")
@example("Workload(**{})")
@example("Workload(rate=1e999)")
@example("Workload(requests=" + "9" * 4999 + ")")
@example("Workload(slo=(Slo(metric='x', limit_ms=1),))")
@example("Workload(slo=(Slo(metric='ttft', limit_ms='x'),))")
@example("Workload(burstiness=1j)")
@example("Workload(a=__import__('os').system('true'))")
def test_a_workload_that_nobody_wrote_is_shown_as_it_is(text: str) -> None:
    assert isinstance(workload_text(text), str)


@pytest.mark.parametrize("days", ["0", "-1", "x", "9" * 30, "1.5", "", "٣"])
def test_days_that_are_none(days: str, tmp_path: Path) -> None:
    status, _, err = run("baseline", "prune", f"--older-than={days}", "--store", str(tmp_path))
    assert status == 2
    assert "no whole number from 1 to 99999" in err


@pytest.mark.parametrize(
    "where", ["~nobody-of-that-name/x", "sqlite://", "mysql://h/d", "sqlite:///a?b=1", "x\0y", " "]
)
def test_stores_that_are_none(where: str) -> None:
    status, _, err = run("baseline", "list", "--store", where)
    assert (status, err[:16]) == (1, "pytest-llmperf: ")
    assert len(err.splitlines()) == 1


# --- what is shown ---------------------------------------------------------------------------


@FUZZ
@given(st.text() | st.text(alphabet="a\x1b\x07\x9b\u202e\u2066\r\b\ud800\n"))
def test_nothing_that_a_terminal_heeds_is_printed(text: str) -> None:
    shown = plain(text)
    shown.encode()
    assert not any(
        ord(each) < 32 or 0x7F <= ord(each) < 0xA0 for each in shown if each not in "\n\t"
    )
    assert not set(shown) & set("\u202a\u202b\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f")
    assert plain(shown) == shown
