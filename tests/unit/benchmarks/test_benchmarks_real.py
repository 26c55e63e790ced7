"""What is made of the lines that sequences on a real engine leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gates.real import sequences, summary

if TYPE_CHECKING:
    from pathlib import Path


def gate(test: str, verdict: str, **more: Any) -> dict[str, Any]:
    return {
        "test": test, "metric": "output_throughput", "verdict": verdict,
        "loss_to_catch": 0.1, "loss": 0.08, "sigma": 0.04, "n_pairs": 6, **more,
    }  # fmt: skip


def line(*gates: dict[str, Any], options: str = "--llmperf-pin auto") -> str:
    return json.dumps({"options": options.split(), "gates": gates})


def test_gates_are_counted_by_what_was_planted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(summary, "RESULTS", tmp_path)
    caught = gate("test_sleeps.py::test_ten_percent", "fail")
    missed = gate("test_sleeps.py::test_ten_percent", "inconclusive", n_pairs=16, sigma=None)
    quiet = gate("test_alike.py::test_one_load", "pass", loss=-0.01)
    (tmp_path / "real-sleeps.jsonl").write_text(
        f"{line(caught, quiet)}\n{line(missed)}\n{json.dumps({'options': [], 'gates': []})}\n"
        f"{json.dumps({'trial': 'why', 'options': [], 'gates': [caught]})}\n"
    )
    _, _, ten, nothing = summary.table()
    assert ten.startswith(
        "| 10 % of the step, sleeping | 10 % | one after another, pinned | 2 | 2 |"
    )
    assert "| 1 | 0 | 1 |" in ten
    assert "| 11.0 | 4.0 % | 8.0 % |" in ten
    assert nothing.startswith("| nothing | 10 % |")
    assert "| 0 | 1 | 0 |" in nothing


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_an_interval_holds_the_mean_and_stays_a_rate(shares: list[float]) -> None:
    low, high = summary.interval(shares)
    assert 0 <= low <= sum(shares) / len(shares) + 1e-9
    assert sum(shares) / len(shares) - 1e-9 <= high <= 1


def test_sequences_that_agree_say_more_the_more_they_are() -> None:
    assert summary.interval([0.0])[1] == pytest.approx(0.975)
    assert summary.interval([0.0] * 10)[1] == pytest.approx(0.308, abs=0.001)


def test_both_launches_of_a_pair_are_kept() -> None:
    run = {"metrics": {"tpot_mean": 3.0}, "started_at": "t", "valid": True, "pair": 0}
    measured = {
        "ours": {"reference": "theirs", "runs": [run, {**run, "pair": None}]},
        "theirs": {"reference": None, "runs": [{**run, "metrics": {"tpot_mean": 2.0}}]},
    }
    (pair,) = sequences._pairs(measured, "ours", "tpot_mean")
    assert (pair["candidate"], pair["reference"]) == ([3.0], [2.0])
    assert pair["candidate_valid"] is True
