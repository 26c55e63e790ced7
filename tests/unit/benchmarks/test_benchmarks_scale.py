"""What docs/scale.md is made of runs, and counts what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import scale, store_rate
from pytest_llmperf.store import open_store
from pytest_llmperf.store.documents import text_of


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
