"""``pytest-llmperf trend`` on a store of files."""

from __future__ import annotations

import io
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pytest_llmperf.cli import main
from pytest_llmperf.records import Level
from pytest_llmperf.store import Store, open_store

if TYPE_CHECKING:
    from tests.unit.cli.conftest import Observe

Command = Callable[..., tuple[int, str, str]]
KEY = "test_chat.0123456789.0123456789"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "perf").mkdir()
    return open_store("perf", tmp_path)


def stretch(store: Store, observe: Observe, mean: float, count: int, seed: int = 0) -> list[str]:
    """``count`` sessions around ``mean``, 1 % apart."""
    rng = random.Random(seed)
    made = [observe(mean * (1 + rng.gauss(0, 0.01))) for _ in range(count)]
    for observation in made:
        store.append(observation)
    return [observation.id for observation in made]


def accept(store: Store, ids: list[str]) -> None:
    store.accept(
        Level(
            id="level1",
            key=KEY,
            created="2026-01-15T00:00:00+00:00",
            observations=tuple(ids),
            reason="release 1.4",
            author="Ada",
        )
    )


def test_a_lasting_loss_is_status_10(store: Store, observe: Observe, status_of: Command) -> None:
    accept(store, stretch(store, observe, 1000, 12))
    stretch(store, observe, 900, 8, seed=1)
    status, out, _ = status_of("trend")
    assert status == 10
    assert out.startswith("tests/perf/test_r1.py::test_chat: output_throughput in tok/s, log scale")
    assert "20 sessions, 2026-01-01 to 2026-01-20" in out
    assert "step at 2026-01-13, commit 0000000: " in out
    assert "(2026-01-15 by Ada: release 1.4)" in out
    assert "  WORSE than the accepted level: -" in out
    assert "8 sessions against 12 accepted" in out
    assert "┴" in out
    assert "┄" in out
    assert max(map(len, out.splitlines()[2:11])) <= 80


@pytest.mark.parametrize(
    ("mean", "said"), [(1000, "like the accepted level within noise"), (1100, "better than")]
)
def test_no_loss_is_status_0(
    store: Store, observe: Observe, status_of: Command, mean: float, said: str
) -> None:
    accept(store, stretch(store, observe, 1000, 12))
    stretch(store, observe, mean, 8, seed=1)
    status, out, _ = status_of("trend")
    assert status == 0
    assert f"  {said}" in out


def test_a_recovered_loss_is_over(store: Store, observe: Observe, status_of: Command) -> None:
    accept(store, stretch(store, observe, 1000, 12))
    stretch(store, observe, 900, 8, seed=1)
    stretch(store, observe, 1000, 8, seed=2)
    assert status_of("trend")[0] == 0


def test_without_a_level_nothing_is_judged(
    store: Store, observe: Observe, status_of: Command
) -> None:
    stretch(store, observe, 1000, 12)
    stretch(store, observe, 900, 8, seed=1)
    status, out, _ = status_of("trend")
    assert status == 0
    assert "no accepted level; `pytest-llmperf baseline accept" in out
    assert "step at 2026-01-13" in out


def test_too_little_to_tell(store: Store, observe: Observe, status_of: Command) -> None:
    ids = stretch(store, observe, 1000, 1)
    accept(store, ids)
    assert "no session newer than the accepted level has a figure" in status_of("trend")[1]
    stretch(store, observe, 500, 1)
    status, out, _ = status_of("trend")
    assert status == 0
    assert "undecided: -50" in out
    assert "two on each side are the least" in out


def test_test_and_metric_choose(store: Store, observe: Observe, status_of: Command) -> None:
    stretch(store, observe, 1000, 3)
    store.append(observe(5.0, key="test_free.1.1", test="t.py::test_free", metric="tpot_mean"))
    out = status_of("trend", "--metric", "tpot_mean")[1]
    assert out.startswith("t.py::test_free: tpot_mean in ms")
    assert "test_chat" not in out
    assert "test_free" not in status_of("trend", "--test", "test_chat")[1]
    status, _, err = status_of("trend", "--metric", "tpot_mode")
    assert status == 1
    assert "unknown metric 'tpot_mode'" in err
    status, _, err = status_of("trend", "--metric", "success_rate")
    assert status == 1
    assert "nothing to show" in err


def test_sessions_without_the_metric_are_counted(
    store: Store, observe: Observe, status_of: Command
) -> None:
    stretch(store, observe, 1000, 3)
    store.append(observe(5.0, metric="tpot_mean"))
    assert (
        "3 sessions, 2026-01-01 to 2026-01-03; 1 session without this metric"
        in (status_of("trend")[1])
    )


def test_help_documents_the_statuses(status_of: Command) -> None:
    status, out, _ = status_of("trend", "--help")
    assert status == 0
    for said in ("exit status:", "  10  one is", "example:\n  pytest-llmperf trend"):
        assert said in out


def test_a_terminal_without_the_characters_gets_the_words(
    store: Store, observe: Observe, status_of: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    stretch(store, observe, 1000, 3)
    plain = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", plain)
        assert main(["trend"]) == 0
    plain.seek(0)
    said = plain.read()
    assert "no plot: ascii has no characters for it" in said
    assert "3 sessions" in said
