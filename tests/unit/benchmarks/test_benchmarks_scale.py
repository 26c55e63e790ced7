"""What docs/scale.md is made of runs, and counts what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import merge_rate, scale, store_rate
from pytest_llmperf.report.schema import schema_errors
from pytest_llmperf.store import open_store
from pytest_llmperf.store.documents import text_of

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")


def test_a_rate_is_of_what_was_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rates.json"
    words = ("--stores", "file", "sqlite", "--writers", "2", "--seconds", "0.2", "--repeats", "2")
    monkeypatch.setattr("sys.argv", ["store_rate", *words, "--out", str(out)])
    assert store_rate.main() == 0
    found = json.loads(out.read_text())
    assert [(cell["store"], cell["writers"]) for cell in found["cells"]] == [
        ("file", 2),
        ("sqlite", 2),
    ]
    for cell in found["cells"]:
        assert len(cell["rates"]) == 2
        assert min(cell["rates"]) > 0
        assert cell["refused"] == 0
        assert cell["writer_cpu_ms"] > 0


def test_the_observation_is_one_that_a_store_takes_and_gives_back(tmp_path: Path) -> None:
    store = open_store("perf", tmp_path)
    observation = store_rate.observation("o1", "k1")
    store.append(observation)
    assert store.observations("k1") == [observation]
    store.close()


def test_a_night_is_counted_from_the_size_of_an_observation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scale", "night", "--sessions", "10", "--tests", "2"])
    assert scale.main() == 0
    out = capsys.readouterr().out
    size = len(text_of(store_rate.observation("o", "k")).encode())
    assert f"one observation: {size:,} bytes" in out
    assert f"| {10 * 2 * 365:,} |" in out


def test_more_sessions_take_more_pairs_and_never_see_more(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scale", "alarms", "--sessions", "1", "100", "100000"])
    assert scale.main() == 0
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()[2:]]
    fewest, losses = [row[4] for row in rows], [row[5] for row in rows]
    assert fewest[-1] == "12 are too few"
    assert losses[-1] == "none"
    assert int(fewest[0]) < int(fewest[1])
    assert float(losses[0].split()[0]) < float(losses[1].split()[0])


@pytest.mark.parametrize("command", ["alarms", "night"])
def test_the_page_has_the_tables_that_are_arithmetic(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scale", command])
    assert scale.main() == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(scale.SESSIONS)
    assert "\n".join(table) in PAGE


def test_the_page_has_the_forms_of_what_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["scale", "merge", "--reports", "1", "2", "--tests", "1"])
    assert scale.main() == 0
    merging = capsys.readouterr().out
    small = ["--records", "50", "--tokens", "2", "--workers", "1", "2"]
    monkeypatch.setattr("sys.argv", ["merge_rate", *small])
    monkeypatch.chdir(ROOT)
    merge_rate.main()
    rates = capsys.readouterr().out
    cells = [
        {"store": store, "writers": 1, "rates": [1.0], "median": 1.0, "refused": 0,
         "writer_cpu_ms": 1.0}
        for store in store_rate.STORES
    ]  # fmt: skip
    table = "\n".join(store_rate.table(cells, store_rate.STORES, [1]))
    for printed in (merging, rates, table):
        lines = printed.splitlines()
        at = next(place for place, line in enumerate(lines) if line.startswith("|"))
        assert "\n".join(lines[at : at + 2]) in PAGE
    assert [row.split(" | ")[:2] for row in rates.splitlines()[2:]] == [
        ["| stream", "1"],
        ["| pass", "1"],
        ["| stream", "2"],
        ["| pass", "2"],
        ["| ours", "1"],
    ]


def test_the_report_that_is_merged_is_one() -> None:
    made = scale.made_up(tests=2, runs=1)
    assert not schema_errors(made)
    assert len(made["gates"]) == 8
    assert len(made["measurements"][0]["runs"]) == scale.LAUNCHES
